"""What the documentation of the Python API shows is what happens."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from dataclasses import fields
from pathlib import Path

import fsspec
import pytest

from orz_ckpt.cluster.collect.run import Collection
from orz_ckpt.cluster.locate import Location
from orz_ckpt.cluster.preflight import Preflight
from orz_ckpt.cluster.verify import ClusterReport
from orz_ckpt.copy.run import Copied
from orz_ckpt.describing import Described
from orz_ckpt.diff.run import Diff
from orz_ckpt.findings import Report
from orz_ckpt.inspection import Inspection
from orz_ckpt.merge.run import Merged
from orz_ckpt.prune.run import Pruned

pytestmark = pytest.mark.component

RESULTS = (
    Inspection,
    Report,
    ClusterReport,
    Described,
    Merged,
    Diff,
    Copied,
    Pruned,
    Preflight,
    Location,
    Collection,
)
PAGE = Path(__file__).parents[3] / "docs/reference/python-ckpt.md"


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example gives the output that stands below it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("orz_ckpt.node.roots._all_roots", lambda _: iter([(str(tmp_path), "here")]))
    fsspec.filesystem("memory").store.clear()
    result = doctest.testfile(str(PAGE), module_relative=False)
    fsspec.filesystem("memory").store.clear()
    assert (0, True) == (result.failed, result.attempted > 30)


def test_every_function_of_the_table_is_there() -> None:
    """Names in the table can be imported, and are documented."""
    rows = re.findall(r"^\| `[^|]+ \| `(orz_ckpt[\w.]+)\.(\w+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) >= 12
    for module, name in rows:
        assert getattr(importlib.import_module(module), name).__doc__, (module, name)


def test_every_result_has_what_the_page_says() -> None:
    """Findings, a status that depends on the severity from which on it fails, and the JSON object with that status."""
    for result in RESULTS:
        assert hasattr(result, "findings") or "findings" in {field.name for field in fields(result)}, result
        for method in (result.status, result.to_json):
            assert ["self", "fail_on"] == list(inspect.signature(method).parameters), (result, method)
