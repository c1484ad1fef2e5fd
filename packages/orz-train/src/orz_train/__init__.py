"""orz-train: PPO with a critic and GRPO for reasoning models. Start reading at `orz_train.types`."""

__version__ = "0.1.0"
