"""Remedies name settings that exist, metrics that are registered, and nothing else."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator

import pytest

from orz_monitor.findings import Cause
from orz_monitor.metrics.peers import spec_of
from orz_monitor.records import PHASES
from orz_monitor.rules import RULES

pytestmark = pytest.mark.component

SETTING = re.compile(r"[a-z_]+(?:\.[a-z_]+)+")


def causes() -> Iterator[tuple[str, Cause]]:
    for rule in RULES:
        module = importlib.import_module(rule.check.__module__)
        for value in vars(module).values():
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, Cause):
                    yield rule.code, item


def quoted(text: str) -> list[str]:
    """Return what stands in backquotes, without the value given to it."""
    return [part.split("=")[0] for part in re.findall(r"`([^`]+)`", text)]


def exists(setting: str) -> bool:
    """Tell whether the trainer's configuration has a setting."""
    schema = pytest.importorskip("orz_train.config.schema")
    model = schema.Config
    for part in setting.split("."):
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            return False
        annotation = fields[part].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next((option for option in options if hasattr(option, "model_fields")), None)
    return True


def test_every_setting_named_exists() -> None:
    """A remedy that names a setting the trainer doesn't have is worse than none."""
    named = {
        part
        for _, cause in causes()
        for part in quoted(f"{cause.confirm} {cause.try_}")
        if SETTING.fullmatch(part) and not part.startswith("seconds.")
    }
    assert len(named) > 15
    assert [setting for setting in sorted(named) if not exists(setting)] == []


def test_every_metric_named_is_registered() -> None:
    """So is a check that names a metric nobody logs."""
    named = {part for _, cause in causes() for part in quoted(f"{cause.confirm} {cause.try_}") if "/" in part}
    metrics = {part for part in named if not part.endswith("/")}
    assert [name for name in sorted(metrics) if spec_of(name.replace("<set>", "x")) is None] == []
    phases = {part for _, cause in causes() for part in quoted(cause.confirm) if part.startswith("seconds.")}
    assert [phase for phase in phases if phase.removeprefix("seconds.") not in PHASES] == []


def test_every_cause_can_be_confirmed() -> None:
    """Each names a check and something to try."""
    assert [code for code, cause in causes() if not (cause.what and cause.confirm and cause.try_)] == []
