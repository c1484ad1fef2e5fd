"""A dialect of the user's in every command that reads: it is used, and what it raises is told as its fault."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orz_cli.main import main
from orz_monitor import dialects, parts
from orz_monitor.cli.options import dialects_with
from orz_monitor.dialects import find_dialect
from orz_monitor.dialects.guarded import DialectError

pytestmark = pytest.mark.component

MINE = '''
from orz_monitor.dialects import Dialect, Meaning


class Mine(Dialect):
    """Lines such as `<< 12 // r 0.5`, in which the fallback sees no metric."""

    name = "mine"
    gates = (b"<< ",)
    meanings = {"r": Meaning("reward/mean")}
    missing = {"policy/kl_ref": "set `kl: true`"}

    def read(self, line, log):
        words = line.segments[-1].body.split()
        return log.add_pairs(self.name, [(words[3], words[4])], line=line.number, step=int(words[1])) is not None


class Boom(Mine):
    def read(self, line, log):
        if line.number >= 5:
            raise ValueError("what is {this}?")
        return super().read(line, log)


class BoomLater(Mine):
    def number(self, log):
        raise KeyError("no such step")


class Leave(Mine):
    def read(self, line, log):
        raise SystemExit(0)


class WrongLine(Mine):
    def read(self, line, log):
        return log.add_pairs(self.name, [(b"r", b"0.5")], line="x") is not None


class NoGates(Dialect):
    name = "mine"


class Verl(Mine):
    name = "verl"


class OfNumbers(Mine):
    meanings = {"r": Meaning(5)}


class OfLists(Mine):
    missing = ["policy/kl_ref"]
'''
COMMANDS = {
    "check": ["--fail-on", "error"],
    "report": ["-o", "page.json"],
    "tail": ["--once"],
    "tail --plain": ["--plain"],
    "export": ["--to", "csv", "-o", "out.csv"],
    "watch": ["--once", "--notify", "true", "--state", "told.json"],
    "bundle": ["-o", "bundle.zip"],
    "compare": ["other.log"],
    "serve": ["--port", "0"],
}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "users_dialects", raising=False)  # that of another test's folder
    Path("users_dialects.py").write_text(MINE)
    for name in ("train.log", "other.log"):
        Path(name).write_text("".join(f"<< {step} // r 0.{step}5\n" for step in range(9)))


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in {"serve", "tail --plain"}])
def test_it_is_used_by_every_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What no dialect of ours reads is read."""
    arguments = ["monitor", command.split(maxsplit=1)[0], "train.log", *COMMANDS[command]]
    assert main([*arguments, "--dialect", "users_dialects:Mine"]) == 0
    told = capsys.readouterr()
    assert "no metric" not in told.out + told.err
    if command == "export":
        assert Path("out.csv").read_text().splitlines()[-1].startswith("8,")


def test_it_says_how_to_log_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """Its own words, in a check and in a report."""
    assert main(["monitor", "check", "train.log", "--dialect", "users_dialects:Mine"]) == 0
    assert "not logged policy/kl_ref (set kl: true): kl_drift" in " ".join(capsys.readouterr().out.split())
    assert main(["monitor", "report", "train.log", "-o", "a.html", "--dialect", "users_dialects:Mine"]) == 0
    assert "<td>set <code>kl: true</code></td>" in Path("a.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("name", "said", "at"),
    [
        ("Boom", "raised ValueError on train.log:5: what is {this}?", "raise ValueError"),
        ("BoomLater", "raised KeyError on train.log: 'no such step'", "raise KeyError"),
        ("Leave", "raised SystemExit on train.log:1: 0", "raise SystemExit"),
    ],
)
def test_what_it_raises_is_its_fault(
    command: str, name: str, said: str, at: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2 with the place in the log and in the dialect; nothing about a bug in orz-monitor."""
    arguments = ["monitor", command.split(maxsplit=1)[0], "train.log", *COMMANDS[command]]
    assert main([*arguments, "--dialect", f"users_dialects:{name}"]) == 2
    told = capsys.readouterr().err
    assert f"--dialect users_dialects:{name}: {said}" in " ".join(told.split())
    line = next(number for number, text in enumerate(MINE.splitlines(), 1) if at in text)
    assert f"correct users_dialects.py:{line}, or leave the dialect out" in told
    assert "bug" not in told


def test_what_it_adds_is_its_fault(capsys: pytest.CaptureFixture[str]) -> None:
    """Though its own call has ended well."""
    assert main(["monitor", "check", "train.log", "--dialect", "users_dialects:WrongLine"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "it gave a row the line 'x', which is no whole number from 0 to 2**40, on train.log:1" in told
    assert "bug" not in told


def test_an_interrupt_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a dialect reads is no fault of the dialect."""
    Path("interrupted.py").write_text(MINE.replace("SystemExit(0)", "KeyboardInterrupt"))
    monkeypatch.delitem(sys.modules, "interrupted", raising=False)
    assert main(["monitor", "check", "train.log", "--dialect", "interrupted:Leave"]) == 130


def test_beside_it_nothing_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    """A table, and a log of an unknown trainer: what the dialect does not read is told, not read in another way."""
    Path("table.csv").write_text("step,reward,kl\n1,0.5,0.01\n2,0.25,0.02\n3,0.5,0.01\n")
    Path("unknown.log").write_text("".join(f"step {i} loss: 0.5 reward: 0.25 kl: 0.01\n" for i in range(9)))
    for name in ("table.csv", "unknown.log"):
        assert main(["monitor", "check", name]) == 0
        assert main(["monitor", "check", name, "--dialect", "users_dialects:Mine"]) == 3
        assert "no metric recognised" in capsys.readouterr().out


def test_one_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    """With an attribute that is wrong, and in a module that does not compile, or exits: exit 2, and what is wrong."""
    for name, said in {
        "NoGates": "its gates are no tuple of bytes",
        "OfNumbers": "its meanings give 'r' the name 5",
        "OfLists": "its missing is of type list",
    }.items():
        assert main(["monitor", "check", "train.log", "--dialect", f"users_dialects:{name}"]) == 2
        assert f"--dialect users_dialects:{name}: {said}" in " ".join(capsys.readouterr().err.split())
    Path("torn_dialect.py").write_text("class Mine(\n")
    assert main(["monitor", "check", "train.log", "--dialect", "torn_dialect:Mine"]) == 2
    assert "--dialect torn_dialect:Mine: SyntaxError" in capsys.readouterr().err
    Path("script_dialect.py").write_text("import sys\nsys.exit(0)\n")
    assert main(["monitor", "check", "train.log", "--dialect", "script_dialect:Mine"]) == 2
    assert "--dialect script_dialect:Mine: SystemExit: 0" in capsys.readouterr().err


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install a package `acme` with entry points, a line each."""
    monkeypatch.syspath_prepend(Path.cwd())

    def install(*lines: str) -> None:
        Path("acme-1.dist-info").mkdir()
        Path("acme-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
        Path("acme-1.dist-info/entry_points.txt").write_text("\n".join(["[orz.monitor.dialects]", *lines]))
        dialects._of_packages.cache_clear()

    yield install
    dialects._of_packages.cache_clear()


def test_one_of_a_package_that_is_broken(installed: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    """A package whose dialects can't be imported or used is warned of, once each; the others still read."""
    Path("torn_package.py").write_text("raise RuntimeError('driver too old')\n")
    installed(
        "a = torn_package:A",
        "b = users_dialects:NoGates",
        "c = no_such_module:C",
        "d = users_dialects:Mine",
        "e = users_dialects:Verl",
        "f = users_dialects:Boom",
        "g = users_dialects:Mine",
    )
    assert main(["monitor", "check", "train.log"]) == 0
    assert [
        "the dialect a of acme: RuntimeError: driver too old; it is left out",
        'the dialect b of acme: its gates are no tuple of bytes, such as `gates = (b"STEP ",)`; it is left out',
        "the dialect c of acme: No module named 'no_such_module'; it is left out",
        "the dialect e of acme: the name verl is taken by orz's own dialect; choose another; it is left out",
        "the dialect f of acme: the name mine is taken by the dialect d of acme; choose another; it is left out",
    ] == [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("name", [*dialects.KNOWN, "generic", "orz-train"])
def test_a_name_of_ours_is_taken(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Or the meanings of the user's would be lost without a word, since ours are looked up by the name."""
    Path("users_dialects.py").write_text(MINE.replace('name = "verl"', f'name = "{name}"'))
    assert main(["monitor", "check", "train.log", "--dialect", "users_dialects:Verl"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert f"--dialect users_dialects:Verl: the name {name} is taken by orz's own dialect; choose another" in told


def test_no_other_name_is_ours() -> None:
    """Those that are refused are those that our dialects have."""
    places = [*dialects.KNOWN.values(), dialects.GENERIC, dialects.ORZ_TRAIN]
    assert sorted(dialects._OUR_NAMES) == sorted(find_dialect(place).name for place in places)


def test_the_name_of_a_packages_dialect_is_taken(
    installed: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """By another class; the same class is used once, with the option as without."""
    installed("d = users_dialects:Mine")
    assert main(["monitor", "check", "train.log", "--dialect", "users_dialects:Boom"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "--dialect users_dialects:Boom: the name mine is taken by the dialect d of acme; choose another" in told
    assert main(["monitor", "check", "train.log", "--dialect", "users_dialects:Mine"]) == 0
    assert ["mine"] == [kind.name for kind in dialects_with("users_dialects:Mine") or () if kind.name == "mine"]


def test_one_of_ours_may_be_asked_first(capsys: pytest.CaptureFixture[str]) -> None:
    """Its name is its own."""
    Path("verl.log").write_text(
        "".join(f"step:{step} - critic/score/mean:0.5 - actor/pg_loss:0.1\n" for step in range(9))
    )
    assert main(["monitor", "check", "verl.log", "--dialect", dialects.KNOWN["verl"]]) == 0
    assert "steps 0 to 8" in capsys.readouterr().out
    asked = [kind.name for kind in dialects_with(dialects.KNOWN["trl"]) or ()]  # of which another one is a kind
    assert ["trl", *(name for name in dialects.KNOWN if name != "trl")] == asked


def test_in_another_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that several processes read is cited by its own line, wherever the dialect raised."""
    monkeypatch.setattr(parts, "_HEAD_START_BYTES", 0)
    monkeypatch.setattr(parts, "_BYTES_BEFORE", 3000)  # before a cut the line is read, too, where its number is unknown
    monkeypatch.setattr("orz_monitor.readlog.num_parts", lambda _: 3)
    lines = [f"<< {step} // r 0.5\n" for step in range(900)]
    Path("far_down.py").write_text(MINE.replace("line.number >= 5", 'b"boom" in line.raw'))
    lines[550] = "<< boom\n"
    Path("train.log").write_text("".join(lines))
    assert main(["monitor", "check", "train.log", "--dialect", "far_down:Boom"]) == 2
    assert "raised ValueError on train.log:551: what" in " ".join(capsys.readouterr().err.split())


def test_the_error_can_be_sent() -> None:
    """Pickled and back, it says the same."""
    error = DialectError("a: raised B on c:1: d", place="c:1")
    assert str(error) == str(pickle.loads(pickle.dumps(error)))  # noqa: S301 - our own bytes
    assert "c:8: d" in str(error.further_down(7))
