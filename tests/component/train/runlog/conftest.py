"""Run logs of four small steps, written with a clock that stands still."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from orz_monitor.records import EventRecord, StepRecord, read_records
from orz_train.config.schema import Config
from orz_train.runlog import RunFolder, RunLog
from orz_train.types import FinishReason, Prompt, Rollout, Score, StepReport

NUM_STEPS = 4


def config(**settings: object) -> Config:
    """Build a small valid configuration; top-level settings may be replaced."""
    defaults: dict[str, object] = {
        "name": "tiny",
        "backend": "local",
        "steps": NUM_STEPS,
        "prompts_per_step": 4,
        "samples_per_prompt": 2,
        "data": {"train": ("train.jsonl",), "max_prompt_tokens": 16},
        "generation": {"max_response_tokens": 16},
        "policy": {"model": "base", "optimizer": {"lr": 1e-4}},
        "critic": {"optimizer": {"lr": 5e-4}},
        "packing": {"max_tokens_per_row": 64},
        "logging": {"tensorboard": False, "rollouts_every_steps": 2},
    }
    return Config.model_validate(defaults | settings)


def report(step: int, *, seconds: float = 1.0, reward: float | None = None, **metrics: float) -> StepReport:
    """Build the report of one step with one sample; `metrics` are added."""
    prompt = Prompt(prompt_id="train:7", text="3+4=", token_ids=(5, 12), answer="7")
    rollout = Rollout(
        rollout_id=f"{step}/train:7/0",
        prompt_id="train:7",
        group_index=0,
        token_ids=(5, 12, 1),
        prompt_len=2,
        sampler_logprobs=(-0.1,),
        finish=FinishReason.STOP,
        policy_version=step - 1,
        text=f"answer {step}",
    )
    return StepReport(
        step=step,
        metrics={
            "reward/mean": step / 4 if reward is None else reward,
            "return/mean": 0.5,
            "policy/loss": float("nan"),
            "policy/updates": 1.0,
            "critic/loss": 0.1,
            "tokens/trained": 100.0,
            **metrics,
        },
        seconds={"generate": seconds / 2, "total": seconds},
        policy_version=step - 1,
        samples=[(prompt, rollout, Score(reward=1.0))],
    )


def write_whole_run(log: RunLog) -> None:
    """Write four steps, an evaluation before and a checkpoint after them, from start to finish."""
    log.environment({"generator": "local"})
    log.event("start")
    log.write(StepReport(step=0, metrics={"eval/sums/accuracy": 0.25}, seconds={"eval": 2.0}, policy_version=0))
    for step in range(1, NUM_STEPS + 1):
        log.phase("generate", 4, 8)
        log.write(report(step))
    log.event("checkpoint_saved", step=4, path=str(log._folder.checkpoints / "step_000004"), bytes=2048, seconds=0.5)
    log.event("finish", reason="all steps done")


def read_back(path: Path) -> list[StepRecord | EventRecord]:
    """Return the records of a run, none of which may be broken."""
    lines = list(read_records(path / "metrics.jsonl"))
    assert [] == [line for line in lines if line.record is None and not line.torn]
    return [line.record for line in lines if line.record is not None]


@pytest.fixture(scope="session")
def make_config() -> Callable[..., Config]:
    """The function that builds a configuration."""
    return config


@pytest.fixture(scope="session")
def make_report() -> Callable[..., StepReport]:
    """The function that builds the report of a step."""
    return report


@pytest.fixture(scope="session")
def whole_run() -> Callable[[RunLog], None]:
    """The function that writes a run from start to finish."""
    return write_whole_run


@pytest.fixture(scope="session")
def records() -> Callable[[Path], list[StepRecord | EventRecord]]:
    """The function that reads the records of a run."""
    return read_back


@pytest.fixture
def streams() -> dict[str, io.StringIO]:
    """What a run writes to its standard streams."""
    return {"stdout": io.StringIO(), "stderr": io.StringIO()}


@pytest.fixture
def log_in(tmp_path: Path, streams: dict[str, io.StringIO]) -> Callable[..., Path]:
    """Run a body in a new run log in `tmp_path / name`, strict and with a clock that stands still."""

    def run(
        body: Callable[[RunLog], object],
        *,
        name: str = "run",
        num_steps: int = NUM_STEPS,
        steps_per_episode: int | None = None,
        **settings: object,
    ) -> Path:
        path = tmp_path / name
        with (
            RunFolder(config(**settings), path) as folder,
            RunLog(
                folder,
                num_steps=num_steps,
                steps_per_episode=steps_per_episode,
                now=lambda: 1.5,
                strict=True,
                **streams,
            ) as log,
        ):
            body(log)
        return path

    return run
