"""Hugging Face models and tokenizers. The only `import transformers`.

A model is loaded, runs one packed row at a time, and is saved as a folder that loads elsewhere; whoever trains it or
samples from it stands above this package and has no transformers in it. Importing this package takes seconds.
"""

from __future__ import annotations

from orz_train.backends.hf.loading import (
    DTYPES,
    Skeleton,
    load_causal_lm,
    load_critic,
    load_reward_model,
    load_skeleton,
    local_folder,
    value_head,
)
from orz_train.backends.hf.log import quiet
from orz_train.backends.hf.outputs import critic_values, policy_logprobs, policy_outputs
from orz_train.backends.hf.saving import save_model
from orz_train.backends.hf.tokenizer import HFTokenizer, load_tokenizer

__all__ = [
    "DTYPES",
    "HFTokenizer",
    "Skeleton",
    "critic_values",
    "load_causal_lm",
    "load_critic",
    "load_reward_model",
    "load_skeleton",
    "load_tokenizer",
    "local_folder",
    "policy_logprobs",
    "policy_outputs",
    "quiet",
    "save_model",
    "value_head",
]
