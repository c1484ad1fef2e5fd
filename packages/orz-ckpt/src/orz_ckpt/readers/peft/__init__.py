"""Adapters that peft saved."""

from orz_ckpt.readers.peft.reader import read, recognises

__all__ = ["read", "recognises"]
