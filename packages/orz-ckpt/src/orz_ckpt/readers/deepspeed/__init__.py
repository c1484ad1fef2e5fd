"""Checkpoints of DeepSpeed's engine: ZeRO 0 to 3, BF16_Optimizer, universal ones; read without DeepSpeed and torch.

`recognises` and `read` are what every format offers; `masters_differ` compares the two copies of the weights that
all but ZeRO-3 have. One idea a file:

- `names`, `tags`: file names and ranks, `latest`
- `states`, `loading`: what the files say; which are broken
- `agreement`, `refusals`: whether all shards are there and of one save; layouts that are not put together here
- `zero0`, `zero12`, `zero3`, `universal`: where the elements of each parameter lie
- `runs`, `ties`: flat pieces, tied names
- `rounding`, `ends`: fp32 weights against 16-bit ones
- `without_shards`: what is left of a folder whose shards are elsewhere
- `assembly`, `folder`, `reader`, `copies`: all of it put together

Read in the sources of DeepSpeed 0.19.8; each file names its own.
"""

from orz_ckpt.readers.deepspeed.assembly import Prefer
from orz_ckpt.readers.deepspeed.copies import masters_differ
from orz_ckpt.readers.deepspeed.reader import read, recognises

__all__ = ["Prefer", "masters_differ", "read", "recognises"]
