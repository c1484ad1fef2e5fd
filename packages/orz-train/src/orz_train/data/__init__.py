"""Data: prompts and templates on the way in, packing and balancing on the way to the models.

What this module names imports no torch.
"""

from orz_train.data.prompt_set import PromptSet
from orz_train.data.prompts import LoadedPrompts, load_eval_sets, load_prompts

__all__ = ["LoadedPrompts", "PromptSet", "load_eval_sets", "load_prompts"]
