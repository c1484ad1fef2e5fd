"""Pure maths on tensors. Imports torch alone; every function has its equation and its source.

The trailing shape letters are those of `orz_train.types`, and one more: **K** counts the action tokens
of a row, gathered out of its T tokens, so that nothing at a masked position can reach a loss.
"""
