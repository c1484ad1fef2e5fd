"""Weights with one file a rank, as FSDP2 and FSDP1 hold them: verl's checkpoints and those of many scripts."""

from orz_ckpt.readers.fsdp.reader import read, recognises

__all__ = ["read", "recognises"]
