"""The metric registry and its page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orz_monitor.records import METRICS, describe
from orz_monitor.records.page import metrics_page

pytestmark = pytest.mark.unit

PAGE = Path(__file__).parents[3] / "docs/reference/metrics.md"


@pytest.mark.parametrize(
    ("name", "registered"),
    [
        ("reward/mean", "reward/mean"),
        ("eval/gsm8k/accuracy", "eval/<set>/accuracy"),
        ("eval/math-500.v2/truncated_frac", "eval/<set>/truncated_frac"),
        ("reward/part/format", "reward/part/<name>"),
        ("storage/free_bytes/node-1", "storage/free_bytes/<node>"),
        ("staleness/mean", "staleness/<name>"),
    ],
)
def test_a_registered_name_is_described(name: str, registered: str) -> None:
    """Plain names and names with a part of the user's are found."""
    spec = describe(name)
    assert spec is not None
    assert registered == spec.name


@pytest.mark.parametrize(
    "name", ["reward", "reward/meaN", "eval//accuracy", "eval/a/b/accuracy", "reward/mean/x", "reward/part/", ""]
)
def test_other_names_are_not(name: str) -> None:
    """A near miss is a miss, so an emitted name must be registered as it is."""
    assert describe(name) is None


def test_every_entry_is_one_sentence() -> None:
    """Each metric has a unit and a meaning that ends in a full stop."""
    assert [] == [s.name for s in METRICS.values() if not s.unit or not s.meaning.endswith(".") or "|" in s.meaning]


def test_what_is_no_step_of_its_own_is_not_in_metrics() -> None:
    """Equal seeds give byte-equal metrics, so wall-clock and disk values live elsewhere."""
    outside = {spec.name for spec in METRICS.values() if spec.source != "metrics"}
    derived = {"tokens/per_second", "sync/bytes_per_second"}
    assert derived | {"storage/free_bytes/<node>", "data/prompts_too_long"} == outside


def test_the_reference_page_is_current() -> None:
    """docs/reference/metrics.md equals `orz_monitor.records.page.metrics_page()`; write that text to renew it."""
    assert metrics_page() == PAGE.read_text(encoding="utf-8")


def test_the_contract_is_standard_library_only() -> None:
    """A trainer that writes records loads neither numpy nor rich for it."""
    heavy = "{'numpy', 'rich', 'typer', 'torch'}"
    code = f"import sys, orz_monitor.records; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
