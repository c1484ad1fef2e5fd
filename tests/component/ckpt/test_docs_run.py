"""What the documentation of the Python API shows is what happens."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import fsspec
import pytest

pytestmark = pytest.mark.component

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
