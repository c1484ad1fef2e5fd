"""Counts in words: one is one, and several are several."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orz_cli.main import main
from orz_monitor.units import counted, in_nats

pytestmark = pytest.mark.unit


def test_the_noun_fits_the_number() -> None:
    """Zero of something is said as several are."""
    assert ["0 lines", "1 line", "2 lines"] == [counted(number, "line") for number in range(3)]
    assert ["1 flush", "12 flushes"] == [counted(number, "flush", "flushes") for number in (1, 12)]
    assert ["1 nat", "1 nat", "1.5 nats", "0 nats"] == [in_nats(value) for value in (1.0, 1.0001, 1.5, 0.0)]


def test_nothing_is_one_somethings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A log of one line with one metric, in each command that counts."""
    path = tmp_path / "train.log"
    path.write_text("step:1 - actor/pg_loss:0.5\n")
    page = tmp_path / "report.html"
    commands = (["check"], ["tail", "--once"], ["report", "-o", str(page)])
    for command, *options in commands:
        assert main(["monitor", command, str(path), *options]) == 0
    said = capsys.readouterr().out + re.sub(r"<style>.*?</style>", "", page.read_text(), flags=re.DOTALL)
    assert "on 1 metric\n" in said
    assert "1 metric recognised" in said
    assert re.findall(r"(?<![\d.,-])1 (?:lines|rules|metrics|steps|records|runs|notes|warnings|errors)\b.*", said) == []
