"""Folders in which no weights are, or none that are known here: it is never a pass, and where to look is said.

Covers F1, F2 and F16 of the failure modes: weights that another node, rank or working directory has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orz_ckpt.findings import Report
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.component


def codes(report: Report) -> set[str]:
    return {entry.code for entry in report.findings if entry.severity is not Severity.INFO}


def the(report: Report, code: str) -> Any:
    (found,) = (entry for entry in report.findings if entry.code == code)
    return found


def test_only_json_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The driver's records and no weights: it is said where they may be, and how to look for them (F1, F2)."""
    (tmp_path / "iter50_generation_results.json").write_text("{}", encoding="utf-8")
    (tmp_path / "dumped_replay_buffer.jsonl").write_text("", encoding="utf-8")

    assert 3 == main(["ckpt", "verify", str(tmp_path)])
    said = " ".join(capsys.readouterr().out.split())
    assert "it holds no weights, only records: dumped_replay_buffer.jsonl, iter50_generation_results.json" in said
    assert "to another node, or below another working directory" in said
    assert f"orz ckpt locate {tmp_path}" in said


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "it is empty"),
        (lambda path: path.write_bytes(b"hello"), "it is a file without suffix, which is no format of weights"),
        (lambda path: (path.mkdir(), (path / "a.h5").write_bytes(b"x")), "no weights in a format known here: a.h5"),
    ],
)
def test_nothing_that_is_known(tmp_path: Path, make: Callable[[Path], object], words: str) -> None:
    """An empty folder, a file in place of a folder, and another format: exit 3, with what was found."""
    make(tmp_path / "x")
    report = verify(tmp_path / "x")

    assert (Status.INCONCLUSIVE, {"nothing_recognised"}) == (report.status(), codes(report))
    assert words in the(report, "nothing_recognised").message


def test_weights_that_went_elsewhere(model: Path) -> None:
    """Configuration and tokenizer were saved, the weights by another rank to another place (F16)."""
    for path in model.glob("model*"):
        path.unlink()
    report = verify(model)

    assert {"no_weights"} == codes(report)
    assert str(model) == the(report, "no_weights").path
