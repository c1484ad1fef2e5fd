"""OpenRLHF's bars, step dictionaries and evaluations, old names and new."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.dialects.openrlhf import OpenRlhf
from orz_monitor.loading import load_run
from orz_monitor.log import Row
from orz_monitor.reading import read_chunks

pytestmark = pytest.mark.unit

ACTOR = (
    "(PolicyModelActor pid=71) Train epoch [1/1]:  50%|█████     | 1/2 [00:06<00:06,  6.57s/it, act_loss=0.5, "
    "reward=0.25, return=0.125, gen_len=852, tot_len=1.07e+3, kl=0.01, act_lr=1e-6, grad_norm=0.75, ent_loss=0.5]"
)
CRITIC = (
    "(CriticModelActor pid=72) Train epoch [1/1]:  50%|█████     | 1/2 [00:06<00:06,  6.57s/it, critic_loss=0.25, "
    "values=0.5, critic_lr=9e-6, critic_grad_norm=3]"
)
STEP = (
    "INFO 08-13 19:25:45 ppo_trainer.py:547] ✨ Global step 7: {'policy_loss': -0.0123, 'actor_lr': 1e-06, "
    "'ppo_clip_ratio': 0.001, 'ppo_kl': -0.0002, 'kl': np.float64(0.02), 'reward': 0.5, "
    "'response_clip_ratio': 0.03125, 'entropy_loss': nan, "
    "'timing/step_total': 63.5, 'dynamic_filtering_pass_rate': 0.75}"
)


def rows(*lines: str) -> list[Row]:
    log = read_chunks([("\n".join(lines) + "\n").encode()], dialects=[OpenRlhf])
    OpenRlhf().number(log)
    return sorted((entry for entry in log.entries if isinstance(entry, Row)), key=lambda row: row.line)


def values(row: Row) -> dict[str, float]:
    return dict(zip(row.keys, row.values, strict=True))


def test_bars_of_actor_and_critic_take_the_step_that_ends_after_them() -> None:
    """Their frames alternate; the second frame of each is part of its pass: (0.5 + 0.25) / 2."""
    actor = ACTOR.replace("1/2 [", "2/2 [").replace("act_loss=0.5", "act_loss=0.25")
    critic = CRITIC.replace("1/2 [", "2/2 [").replace("critic_loss=0.25", "critic_loss=0.75")
    found = rows(ACTOR, CRITIC, actor + "\r" + critic, STEP, ACTOR)
    assert [(row.step, row.count) for row in found] == [(7, 2), (7, 2), (7, 1), (8, 1)]
    assert values(found[0])["bar/act_loss"] == 0.375
    assert values(found[0])["bar/tot_len"] == 1070
    assert values(found[1]) == {
        "bar/critic_loss": 0.5,
        "bar/values": 0.5,
        "bar/critic_lr": 9e-6,
        "bar/critic_grad_norm": 3,
    }


def test_the_dictionary_of_a_step_keeps_every_number() -> None:
    """With emoji or, in the asynchronous trainer, without it."""
    for line in (STEP, STEP.replace("✨ ", "")):
        (row,) = rows(line)
        assert row.step == 7
        assert row.keys[:4] == ("policy_loss", "actor_lr", "ppo_clip_ratio", "ppo_kl")
        assert values(row)["policy_loss"] == -0.0123
        assert values(row)["kl"] == 0.02
        assert str(values(row)["entropy_loss"]) == "nan"
        assert len(row.keys) == 10


def test_a_dictionary_that_was_wrapped_or_pasted_with_dots() -> None:
    """Lines of other processes come between, and the end may be missing."""
    found = rows(
        "(PPOTrainer pid=3) \x1b[36m✨ Global step 8: {'policy_loss': 0.5, ..., \x1b[0m",
        "(WorkerDict pid=9) {'policy_loss': 99}",
        "(PPOTrainer pid=3)   'kl': 0.25,",
        "(PPOTrainer pid=3)   'reward': 1.5}",
        "(PPOTrainer pid=3) ✨ Global step 9: {'policy_loss': 0.75, 'kl':",
    )
    assert [(row.step, values(row)) for row in found] == [
        (8, {"policy_loss": 0.5, "kl": 0.25, "reward": 1.5}),
        (9, {"policy_loss": 0.75}),
    ]


def test_an_evaluation_says_how_long_it_took() -> None:
    """3 minutes and 12 seconds are 192 seconds."""
    (row,) = rows("✨ Evaluation completed in 0:03:12, global_step 10, eval_metrics: {'eval_gsm8k_pass1': 0.5}")
    assert (row.step, row.axis) == (10, "eval")
    assert values(row) == {"eval_gsm8k_pass1": 0.5, "evaluation time": 192}
    meaning = OpenRlhf().meaning("eval_gsm8k_pass1")
    assert meaning is not None
    assert meaning.name == "eval/gsm8k/accuracy"


def test_old_logs_have_bars_only() -> None:
    """Until 2025 there was no line a step; each pass over the samples is one."""
    bar = "Train epoch [1/1]:  12%|#         | 1/8 [00:06<00:42,  6.0s/it, "
    actor, critic = bar + "pg={}, rm=0.5, ret=0.4, glen=200, kl=0.01]", bar + "critic_loss={}, values=0.3]"
    ends = [line.replace("1/8", "8/8") for line in (actor.format(0.3), critic.format(0.2))]
    found = rows(actor.format(0.1), critic.format(0.1), *ends, actor.format(0.4), critic.format(0.5))
    assert [row.step for row in found] == [1, 1, 2, 2]
    assert [row.values[0] for row in found] == pytest.approx([0.2, 0.15, 0.4, 0.5])


def test_bars_of_orz_are_not_openrlhfs() -> None:
    """They differ by one word; each is read by its own dialect, and once."""
    orz = (
        ACTOR.replace(" Train epoch", " Actor Train epoch")
        + "\n"
        + CRITIC.replace(" Train epoch", " Critic Train epoch")
    )
    for text, name in ((orz, "orz"), (f"{ACTOR}\n{CRITIC}", "openrlhf")):
        log = read_chunks([text.encode()])
        assert [row.dialect for row in log.entries if isinstance(row, Row)] == [name, name]


def test_a_run_has_canonical_names(tmp_path: Path) -> None:
    """The dictionary counts before the bars; a share of groups with spread becomes one of groups without."""
    path = tmp_path / "train.log"
    sooner, later = (f"Episode [1/1]:  10%|#   | {n}/20 [00:0{n}<01:00,  1.00s/it]" for n in (3, 4))
    path.write_text(f"{ACTOR}\n{CRITIC}\n{sooner}\n{STEP}\n{later}\n", encoding="utf-8")
    run = load_run(path)
    assert run.framework == "openrlhf"
    assert run.metrics["policy/loss"].values.tolist() == [-0.0123]
    assert run.metrics["policy/loss"].lines is not None
    assert run.metrics["critic/loss"].values.tolist() == [0.25]
    assert run.metrics["rollout/zero_variance_frac"].values.tolist() == [0.25]
    assert run.metrics["rollout/truncated_frac"].values.tolist() == [0.03125]
    assert run.seconds["total"].values.tolist() == [63.5]
    assert run.seconds["total"].steps.tolist() == [7], "the episode's bar counts prompts here, and steps in ORZ"
