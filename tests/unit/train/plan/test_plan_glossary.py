"""What parameters mean, in this run's words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orz_train.config.fields import all_keys
from orz_train.config.orz_names import ORZ_NAMES
from orz_train.config.problems import dotted
from orz_train.config.schema import Config
from orz_train.plan.arithmetic import plan_batches
from orz_train.plan.glossary import Term, glossary

pytestmark = pytest.mark.unit

Make = Callable[..., Config]


def terms_of(config: Config) -> dict[str, Term]:
    terms = glossary(config, plan_batches(config, ranks=1, critic_ranks=1))
    return {term.key: term for term in terms}


def test_terms_carry_this_runs_numbers(planned: Make) -> None:
    """8 x 4 rollouts, 12 critic updates on 2 or 3 each, two epochs, a warm-up counted in training steps."""
    critic = {"optimizer": {"lr": 1e-6, "warmup_steps": 50}, "updates_per_step": 12, "epochs_per_step": 2}
    terms = terms_of(planned(steps=None, episodes=3, data__expected_rows=20, critic=critic))
    assert ("3", "passes over the training prompts: 3 steps each") == terms["episodes"][1:3]
    assert terms["samples_per_prompt"].meaning.endswith("8 x 4 = 32 rollouts a step")
    assert "optimizer steps on a step's rollouts, each on 2 or 3" == terms["critic.updates_per_step"].meaning
    assert "so 24 optimizer steps in all" in terms["critic.epochs_per_step"].meaning
    assert "1e-6" == terms["critic.optimizer.lr"].value
    assert "in optimizer steps: 2.08 training steps" == terms["critic.optimizer.warmup_steps"].meaning
    assert "no reference model is loaded" in terms["kl.loss_coef"].meaning


def test_terms_are_settings_and_orz_names_are_orz_own(planned: Make) -> None:
    """Every key exists, and what stands beside it is the name that leads to it from ORZ."""
    known = {dotted(key) for key in all_keys()}
    of_orz = {name.orz for name in ORZ_NAMES} | {"global_step", "total_num_nodes"}
    for term in terms_of(planned()).values():
        assert term.key in known
        assert term.orz.replace(";", " ").split()[0] in of_orz


def test_absent_parts_are_not_explained(planned: Make) -> None:
    """GRPO has no critic to explain, and one process no GPUs."""
    terms = terms_of(planned(algorithm="grpo", critic=None, backend="local"))
    assert set() == {key for key in terms if key.startswith(("critic", "cluster"))} | (
        {"policy.freeze_steps"} & set(terms)
    )


def test_row_mean_is_not_called_harmless(planned: Make) -> None:
    """Under row_mean the row size does change the gradient, and the glossary says so."""
    assert "never the gradient" in terms_of(planned())["packing.max_tokens_per_row"].meaning
    by_row = terms_of(planned(loss__reduction="row_mean"))["packing.max_tokens_per_row"].meaning
    assert "under row_mean, how responses weigh" in by_row
