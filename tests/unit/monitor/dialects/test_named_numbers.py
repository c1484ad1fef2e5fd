"""No number of a home-made line is lost: each has its name, or is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orz_cli.main import main
from orz_monitor.dialects.dicts import dict_and_end
from orz_monitor.dialects.generic import named_numbers as module
from orz_monitor.dialects.generic.named_numbers import NamedNumber, named_numbers
from orz_monitor.loading import load_run

pytestmark = pytest.mark.unit


def read(line: str) -> list[tuple[str, str]]:
    return [(one.key.decode(), one.token.decode()) for one in named_numbers(line.encode())]


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        ("{'loss': 1} {'reward': 2}", [("loss", "1"), ("reward", "2")]),
        ("{'loss': 1}{'loss': 2}", [("loss", "1"), ("loss/1", "2")]),
        (
            "step 3 {'a': 1, 'of': {'b': 2}} zork 9, kl=5 {'c': 3} took 4 s",
            [("step", "3"), ("a", "1"), ("of/b", "2"), ("zork", "9"), ("kl", "5"), ("c", "3"), ("took", "4 s")],
        ),
        ("{'loss': 1} reward 2 }", [("loss", "1"), ("reward", "2")]),
        ("{'loss': 1} {'reward': 2, 'kl': 3", [("loss", "1"), ("reward", "2"), ("kl", "3")]),
        ("[{'loss': 1}, {'loss': 2, 'kl': 3}]", [("loss", "1"), ("loss/1", "2"), ("kl", "3")]),
        ("{'loss': 0,5} {'kl': 0,25}", [("loss", "0,5"), ("kl", "0,25")]),
    ],
)
def test_several_dictionaries_on_a_line(line: str, numbers: list[tuple[str, str]]) -> None:
    """Each is read, and so is what stands between them and behind the last."""
    assert read(line) == numbers


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        ("number of nan iterations:   3 |", [("number of nan iterations", "3")]),
        (
            "step 3 loss nan count: 0 loss inf count: 0",
            [("step", "3"), ("loss nan count", "0"), ("loss inf count", "0")],
        ),
        ("step 3 nan grads: 0", [("step", "3"), ("nan grads", "0")]),
        ("| loss nan/inf: 0/0", [("loss nan/inf", "0"), ("loss nan/inf/of", "0")]),
        ("| loss nan / overflow: 0", [("loss nan overflow", "0")]),
        ("loss nan/overflow: 0", [("loss nan overflow", "0")]),
        ("loss nan inf count: 2", [("loss nan inf count", "2")]),
        ("nan: 3, inf=4", [("nan", "3"), ("inf", "4")]),
        ("step 3 loss nan count 0", [("step", "3"), ("loss nan count", "0")]),
    ],
)
def test_nan_in_a_name_is_no_value(line: str, numbers: list[tuple[str, str]]) -> None:
    """What is counted are the times that there was one: a healthy run says 0."""
    assert read(line) == numbers


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        ("loss: nan", [("loss", "nan")]),
        ("step: 3 loss:NaN reward: 0.5", [("step", "3"), ("loss", "NaN"), ("reward", "0.5")]),
        ("loss=nan/kl=-inf (took 3 s)", [("loss", "nan"), ("kl", "-inf"), ("took", "3 s")]),
        ("| loss nan | ppl inf|", [("loss", "nan"), ("ppl", "inf")]),
        ("| loss | nan | ppl | 3 |", [("loss", "nan"), ("ppl", "3")]),
        ("(loss nan) kl inf, lr 3", [("loss", "nan"), ("kl", "inf"), ("lr", "3")]),
        (
            "step 3 loss nan reward 0.5 grad norm inf",
            [("step", "3"), ("loss", "nan"), ("reward", "0.5"), ("grad norm", "inf")],
        ),
        ("loss: [nan, 0.5]", [("loss", "nan"), ("loss/1", "0.5")]),
        ("loss 0.3 (nan)", [("loss", "0.3"), ("unnamed", "nan")]),
        ("loss: tensor(nan) kl 3", [("loss", "tensor(nan)"), ("kl", "3")]),
    ],
)
def test_nan_is_a_value_where_a_number_can_stand(line: str, numbers: list[tuple[str, str]]) -> None:
    """Behind a colon or an equals sign, or behind its name."""
    assert read(line) == numbers


def test_a_dictionary_ends_with_its_own_brace() -> None:
    """However deep others lie in it; keys deeper than eight have the names of the eighth."""
    inner = "'k': {" * 12 + "'x': 1" + "}" * 12
    body = f"{{{inner}, 'loss': 2}} {{'kl': 3}}".encode()
    pairs, end = dict_and_end(body)
    assert pairs == [(b"k/" * 8 + b"x", b"1"), (b"loss", b"2")]
    assert body[end:] == b" {'kl': 3}"


@pytest.mark.parametrize("unit", ["{'a': 1} ", "{'a': {", "}{'", "{'}", "{'a': [", "{'a': 1}}{", "{'a': 0,5} "])
def test_dictionaries_are_found_in_linear_time(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In 256 KiB on one line: no byte is looked at twice, as part of a dictionary or of the text between."""
    looked_at = 0

    def counted_dictionary(body: bytes, start: int) -> tuple[list[tuple[bytes, bytes]], int]:
        nonlocal looked_at
        pairs, end = dict_and_end(body, start)
        looked_at += end - start
        return pairs, end

    def counted_text(body: bytes) -> list[NamedNumber]:
        nonlocal looked_at
        looked_at += len(body)
        return of_text(body)

    of_text = module._of_text
    monkeypatch.setattr(module, "dict_and_end", counted_dictionary)
    monkeypatch.setattr(module, "_of_text", counted_text)
    body = (unit * ((1 << 18) // len(unit))).encode()
    named_numbers(body)
    assert looked_at == len(body)


@pytest.mark.parametrize(
    ("line", "metrics", "num_unnamed"),
    [
        ("step {} 0.13 loss 0.2 12 lr 3", {"policy/total_loss": 0.2, "policy/lr": 3}, 2),
        ("step {}/9 loss 0.2 (0.25) lr 3 [7] [8]", {"policy/total_loss": 0.2, "policy/lr": 3}, 3),
        ("step {}/9 loss 0.2 lr 3 [7/8] [7/8]", {"policy/total_loss": 0.2, "policy/lr": 3}, 2),
        ("step {} loss 0.2 lr 3 of 2024-01-02", {"policy/total_loss": 0.2, "policy/lr": 3}, 0),
    ],
)
def test_numbers_without_a_name_are_counted(
    tmp_path: Path, line: str, metrics: dict[str, float], num_unnamed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the lines that are read; totals and dates are none. The check says how many."""
    path = tmp_path / "train.log"
    path.write_text("".join(line.format(step) + "\n" for step in (1, 2, 3)) + "files 3 4 5\n", encoding="utf-8")
    run = load_run(path)
    assert {name: float(series.values[-1]) for name, series in run.metrics.items()} == metrics
    assert run.coverage.num_unnamed == 3 * num_unnamed
    assert main(["monitor", "check", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["coverage"]["unnamed_numbers"] == 3 * num_unnamed
    main(["monitor", "check", str(path)])
    assert (f"numbers without a name: {3 * num_unnamed}" in capsys.readouterr().out) == (num_unnamed > 0)
