"""What is known about metrics of rollouts, of sampler and trainer together, and of engines."""

from __future__ import annotations

from typing import Final

from orz_monitor.metrics.model import Facts

ROLLOUTS: Final = (
    Facts(
        name="rollout/response_tokens_mean",
        definition="The mean length of a response in tokens.",
        ranges={
            "orz": "7B: 500 at first, 850 at step 60, 1100 at 230, 1900 at 300, 2500 at the end",
            "any": "noise of 1 to 3 %",
        },
        pitfalls=(
            "Steady growth with a rising reward is what training for reasoning aims for.",
            "A fall in the first 20 to 30 steps is learning the format.",
        ),
        asked=("glen", "gen_len", "response_length", "length", "completion_length"),
    ),
    Facts(
        name="rollout/total_tokens_mean",
        definition="The mean length of prompt and response together; less the response it is the prompt.",
        asked=("tlen", "total_length"),
    ),
    Facts(
        name="rollout/truncated_frac",
        definition="The share of responses cut at the token limit.",
        ranges={"any": "below 0.05; 0.1 is much, unless a base model is at its beginning"},
        pitfalls=(
            "In ORZ a truncated response earns 0: truncation costs reward at once.",
            "verl's `response_length/clip_ratio` is this, not a clipped ratio.",
        ),
        asked=("truncation", "trunc", "clipped_ratio", "avg_non_stop_count"),
    ),
    Facts(
        name="rollout/zero_variance_frac",
        definition="The share of prompts whose samples all got the same reward.",
        ranges={"grpo": "below 0.5", "ppo": "matters less: a critic still learns from them"},
        pitfalls=("It rises as prompts are solved; solved ones are no fault.",),
        asked=("zero variance", "zero_std", "frac_reward_zero_std"),
    ),
    Facts(
        name="rollout/repetition",
        definition="How much of a response repeats itself.",
        ranges={"any": "below 0.1"},
        pitfalls=("ORZ's `avg_repeat_score` and slime's `repetition_frac` are reckoned in different ways.",),
        asked=("repeat", "repetition", "avg_repeat_score"),
    ),
    Facts(
        name="mismatch/logprob_abs_mean",
        definition="By how much sampler and trainer differ about the log-prob of the same token, on average, in nats.",
        estimator="A mean of sizes: a few tail tokens can dominate it.",
        ranges={"any": "about 0.01; 0.05 biases updates; 0.2 and more is a fault", "float32": "below 0.001"},
        pitfalls=("Mixture-of-experts models differ more: their routing flips.",),
        asked=("mismatch", "rollout mismatch", "logp_difference"),
    ),
    Facts(
        name="mismatch/kl_k1",
        definition="KL between sampler and trainer, estimator k1; may be negative.",
        ranges={"any": "below 0.001 is good, above 0.1 a fault"},
        asked=("vllm_kl",),
    ),
    Facts(
        name="mismatch/kl_k3",
        definition="KL between sampler and trainer, estimator k3; never negative.",
        ranges={"any": "0.0005 to 0.005"},
        pitfalls=(
            "NeMo-RL's `gen_kl_error` follows `loss_fn.reference_policy_kl_type`, which is k3 in its own recipes.",
        ),
        asked=("mismatch_kl", "mismatch kl", "gen_kl_error"),
    ),
    Facts(
        name="mismatch/prob_ratio_error",
        definition="The mean of exp of the size of the log-prob gap: 1 where sampler and trainer agree.",
        ranges={"any": "below 1.05"},
        asked=("token_mult_prob_error",),
    ),
    Facts(
        name="mismatch/prob_corr",
        definition="The correlation of token probabilities, sampler with trainer.",
        ranges={"any": "above 0.99; below 0.95 is a fault"},
        asked=("pearson",),
    ),
    Facts(
        name="correction/weight_mean",
        definition="The mean importance weight between sampler and trainer.",
        ranges={"any": "0.5 to 2"},
        asked=("tis", "importance sampling"),
    ),
    Facts(
        name="correction/clip_frac",
        definition="The share of tokens whose importance weight was truncated.",
        ranges={"any": "below 0.05; 1e-5 where all is well"},
        asked=("tis_clipfrac", "is_oob_ratio"),
    ),
    Facts(
        name="staleness/max",
        definition="The age of the oldest weights that sampled, in updates.",
        ranges={"any": "0 or 1", "async": "up to 8"},
        asked=("staleness", "off-policy", "off_policy"),
    ),
    Facts(
        name="engine/kv_cache_usage",
        definition="The share of the key-value cache in use. Of the lines that an engine prints within a step, the "
        "one with the fullest cache while requests wait counts, for usage and requests alike; where none waits, the "
        "fullest with requests that run.",
        pitfalls=("High is good use; it is too high where requests wait and others are put back.",),
        asked=("kv", "kv cache"),
    ),
    Facts(
        name="idle/trainer_frac",
        definition="The share of a step in which the trainer waits for samples.",
        pitfalls=("One synchronous machine waits by design: generation and training take turns.",),
        asked=("idle", "wait_time_ratio"),
    ),
    Facts(
        name="eval/<set>/accuracy",
        definition="The mean reward on held-out prompts.",
        estimator="With n samples its standard error is sqrt(p (1 - p) / n): 0.03 for 250.",
        pitfalls=("30 problems of AIME have a standard error of 0.09: average many samples of each.",),
        asked=("eval", "accuracy", "pass@1"),
    ),
)
