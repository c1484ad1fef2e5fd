"""Names of step folders: how each framework spells them, and what is none."""

from __future__ import annotations

import pytest

from orz_ckpt.steps import around_step, attempt_named, final_name, names_step, our_step, step_named

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step_000050", 50),
        ("step_000050.tmp-ab12", 50),
        ("global_step_100", 100),  # verl
        ("global_step100", 100),  # DeepSpeed
        ("checkpoint-20", 20),  # transformers
        ("tmp-checkpoint-20", 20),
        ("step-7", 7),  # torchtitan
        ("iter_0000100", 100),  # Megatron
        ("iter100", 100),  # Open-Reasoner-Zero
        ("epoch_3", 3),
        ("tmp_iter5", 5),
        ("global_step_7_hf", 7),
        ("iteration7", None),
        ("stepwise", None),
        ("checkpoint-final", None),
        ("my_step_5", None),
        ("5", None),
        ("policy", None),
        ("", None),
        ("step_" + "9" * 40, None),
    ],
)
def test_steps_of_all_frameworks(name: str, step: int | None) -> None:
    """One spelling of each framework, and names that look like one."""
    assert step == names_step(name)
    assert step == step_named(f"/runs/a/{name}/policy")


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("iter10", "iter5", True),
        ("checkpoint-99", "checkpoint-100", True),
        ("iter_0000100", "iter_0000200", True),
        ("global_step_7_hf", "global_step_14_hf", True),
        ("global_step_7", "global_step_14_hf", False),
        ("global_step7", "global_step_7", False),
        ("checkpoint-7", "tmp-checkpoint-7", False),
        ("checkpoint-7", "epoch_7", False),
    ],
)
def test_steps_of_one_run(one: str, other: str, *, alike: bool) -> None:
    """They are named alike but for the number."""
    assert alike == (around_step(one) == around_step(other))
    assert None is around_step("policy")


def test_names_of_orz_train() -> None:
    """Only a finished save of orz-train has its name; one in flight says what it will be named, and its attempt."""
    assert (50, None, None) == (our_step("step_000050"), our_step("step_50"), our_step("step_000050.tmp-a"))
    assert "step_000050" == final_name("step_000050.tmp-a1") == final_name("step_000050.old-b")
    assert None is final_name("step_000050")
    assert ("a-1_B", None) == (attempt_named("step_000050.tmp-a-1_B"), attempt_named("step_000050.tmp-a b"))
