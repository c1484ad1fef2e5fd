"""From a checkpoint of some format to a `Source`: which tensors there are, and where their numbers lie.

A reader says what is wrong with what it reads in the source's findings, as `orz_ckpt.checks` judges it.
"""
