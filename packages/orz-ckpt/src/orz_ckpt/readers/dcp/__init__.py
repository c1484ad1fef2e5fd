"""torch's distributed checkpoints (DCP), of torch files and of safetensors files."""

from orz_ckpt.readers.dcp.reader import read, recognises

__all__ = ["read", "recognises"]
