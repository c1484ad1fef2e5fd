"""What the keys of verl are, of every version."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from orz_monitor.dialects.base import Meaning

_EVALUATED: Final = re.compile(r"val(?:-core|-aux)?/(?P<set>.+)/(?:acc|reward|score)/mean@(?P<k>\d+)$")
_BEST: Final = re.compile(r"val(?:-core|-aux)?/(?P<set>.+)/(?P<of>acc|reward|score)/best@(?P<k>\d+)(?:/mean)?$")
_GROUPS: Final = ("batch/solve_none", "batch/solve_all", "batch/solve_partial")
"""What forks log of groups: as numbers, newer ones as shares; of their sum it is the share in either case."""
_TEST_SCORE: Final = re.compile(r"(?:val/)?test_score/(?P<set>.+)$")

MEANINGS: Final[Mapping[str, Meaning]] = {
    "actor/pg_loss": Meaning("policy/loss"),
    "actor/loss": Meaning("policy/total_loss"),
    "actor/kl_loss": Meaning("policy/kl_ref", estimator="k3", estimator_varies=True),  # by kl_loss_type
    "actor/reward_kl_penalty": Meaning("policy/kl_ref", estimator="k1", rank=1),
    "critic/kl": Meaning("policy/kl_ref", estimator="k1", rank=1),
    "actor/kl_coef": Meaning("policy/kl_coef"),
    "actor/reward_kl_penalty_coeff": Meaning("policy/kl_coef", rank=1),
    "critic/kl_coeff": Meaning("policy/kl_coef", rank=1),
    "actor/ppo_kl": Meaning("policy/kl_old", estimator="k1"),
    "actor/entropy": Meaning("policy/entropy"),
    "actor/entropy_loss": Meaning("policy/entropy", rank=1),
    "actor/pg_clipfrac": Meaning("policy/clip_frac"),
    "actor/pg_clipfrac_lower": Meaning("policy/clip_frac_low"),
    "actor/grad_norm": Meaning("policy/grad_norm"),
    "actor/lr": Meaning("policy/lr"),
    "actor/lr(1e-4)": Meaning("policy/lr", scale=1e-4, rank=1),
    "critic/vf_loss": Meaning("critic/loss"),
    "critic/vf_clipfrac": Meaning("critic/clip_frac"),
    "critic/vf_explained_var": Meaning("critic/explained_var"),
    "critic/vpred_mean": Meaning("critic/value_mean"),
    "critic/values/mean": Meaning("critic/value_mean", rank=1),
    "critic/values/max": Meaning("critic/value_max"),
    "critic/values/min": Meaning("critic/value_min"),
    "critic/grad_norm": Meaning("critic/grad_norm"),
    "critic/lr": Meaning("critic/lr"),
    "critic/lr(1e-4)": Meaning("critic/lr", scale=1e-4, rank=1),
    "critic/score/mean": Meaning("reward/mean"),
    "critic/score/max": Meaning("reward/max"),
    "critic/score/min": Meaning("reward/min"),
    "critic/rewards/mean": Meaning("return/mean"),
    "critic/returns/mean": Meaning("return/token_mean"),
    "response_length/mean": Meaning("rollout/response_tokens_mean"),
    "response_length/max": Meaning("rollout/response_tokens_max"),
    "response_length/clip_ratio": Meaning("rollout/truncated_frac"),
    "response/aborted_ratio": Meaning("rollout/aborted_frac"),
    "prompt_length/mean": Meaning("rollout/prompt_tokens_mean"),
    "batch/solve_none": Meaning("reward/solve_none_frac", over=_GROUPS),
    "batch/solve_all": Meaning("reward/solve_all_frac", over=_GROUPS),
    "global_seqlen/balanced_max": Meaning("balance/tokens_max_over_mean", over=("global_seqlen/mean",)),
    "global_seqlen/minmax_diff": Meaning("balance/tokens_spread_frac", over=("global_seqlen/mean",)),
    "perf/throughput": Meaning("tokens/per_second_per_device"),
    "Tokens/Sec/GPU": Meaning("tokens/per_second_per_device", rank=1),
    "perf/mfu/actor": Meaning("tokens/mfu"),
    "mfu/actor": Meaning("tokens/mfu", rank=1),
    "perf/total_num_tokens": Meaning("tokens/total"),
    "total_num_tokens": Meaning("tokens/total", rank=1),
    "training/epoch": Meaning("data/epoch"),
    "training/rollout_probs_diff_mean": Meaning("mismatch/prob_abs_mean"),
    "training/rollout_probs_diff_max": Meaning("mismatch/prob_abs_max"),
    "training/rollout_actor_probs_pearson_corr": Meaning("mismatch/prob_corr"),
    "rollout_corr/kl": Meaning("mismatch/kl_k1", estimator="k1"),
    "rollout_corr/k3_kl": Meaning("mismatch/kl_k3", estimator="k3"),
    "rollout_corr/chi2_token": Meaning("correction/chi2_token"),
    "rollout_corr/log_ppl_abs_diff": Meaning("mismatch/log_ppl_abs_diff"),
    "rollout_corr/rollout_is_mean": Meaning("correction/weight_mean"),
    "rollout_corr/rollout_is_std": Meaning("correction/weight_std"),
    "rollout_corr/rollout_is_max": Meaning("correction/weight_max"),
    "rollout_corr/rollout_is_eff_sample_size": Meaning("correction/effective_frac"),
    "rollout_corr/rollout_rs_masked_fraction": Meaning("correction/masked_frac"),
    "trainer/idle_ratio": Meaning("idle/trainer_frac"),
    "timing_s/gen": Meaning("seconds/generate"),
    "timing_s/reward": Meaning("seconds/reward"),
    "timing_s/old_log_prob": Meaning("seconds/score", adds=True),
    "timing_s/ref": Meaning("seconds/score", adds=True),
    "timing_s/values": Meaning("seconds/score", adds=True),
    "timing_s/update_critic": Meaning("seconds/train_critic"),
    "timing_s/update_actor": Meaning("seconds/train_policy"),
    "timing_s/update_weights": Meaning("seconds/sync"),
    "timing_s/testing": Meaning("seconds/eval"),
    "timing_s/save_checkpoint": Meaning("seconds/save"),
    "timing_s/step": Meaning("seconds/total"),
    "time_per_step": Meaning("seconds/total", rank=1),
    "perf/time_per_step": Meaning("seconds/total", rank=1),
    "timing/gen": Meaning("seconds/generate", rank=1),
    "timing/ref": Meaning("seconds/score", adds=True),
    "timing/values": Meaning("seconds/score", adds=True),
    "timing/update_critic": Meaning("seconds/train_critic", rank=1),
    "timing/update_actor": Meaning("seconds/train_policy", rank=1),
    "timing/testing": Meaning("seconds/eval", rank=1),
}
"""Raw key to meaning; validation sets have their names in their keys."""


def meaning_of(key: str) -> Meaning | None:
    """Return what a raw key is."""
    known = MEANINGS.get(key)
    if known is not None:
        return known
    if match := _EVALUATED.match(key):
        return Meaning(f"eval/{match['set'].replace('/', '-')}/accuracy", rank=0 if match["k"] == "1" else 1)
    if match := _BEST.match(key):
        rank = ("acc", "reward", "score").index(match["of"]) - 3 * int(match["k"])  # the best of most samples
        return Meaning(f"eval/{match['set'].replace('/', '-')}/pass_at_k", rank=rank)
    if match := _TEST_SCORE.match(key):
        return Meaning(f"eval/{match['set'].replace('/', '-')}/accuracy", rank=2)
    if key.startswith("actor/perf/"):
        return MEANINGS.get(key.removeprefix("actor/"))
    return None
