"""Pipes, devices and links that lead nowhere: what is wrong, where, what to do, and exit code 3; never a traceback."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from orz_cli.main import main
from orz_monitor.errors import UnreadableRunError
from orz_monitor.loading import load_run
from orz_monitor.tail.source import Source
from orz_monitor.transport import pipes

pytestmark = pytest.mark.component

STEPS = "".join(f"step {step} loss 0.5 reward 0.{step}\n" for step in range(1, 9))
READ_ONCE = [
    *(["check"], ["report", "-o", "x.html"], ["tail", "--once"], ["export", "--to", "csv", "-o", "x.csv"]),
    *(["compare", "good.log"], ["watch", "--once", "--notify", "true"]),
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a log, a pipe, and links to nothing and to itself; nobody has much patience."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(pipes, "_PATIENCE_S", 0.1)
    Path("good.log").write_text(STEPS, encoding="ascii")
    Path("binary.log").write_bytes(bytes(range(8)) * 99)
    os.mkfifo("pipe.log")
    Path("broken.log").symlink_to("gone.log")
    Path("loop.log").symlink_to("loop.log")


@pytest.mark.parametrize("command", [*READ_ONCE, ["bundle"]], ids=lambda command: command[0])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pipe.log", "pipe.log: a pipe that nobody writes to"),
        ("broken.log", "broken.log: a link to gone.log, where nothing is"),
        ("loop.log", "loop.log: can't be read: Too many levels of symbolic links"),
        ("/dev/null", "/dev/null: no metric recognised in an empty file"),
    ],
)
def test_what_can_not_be_read(name: str, said: str, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """By every command in the same words; a bundle is made of files."""
    if command[0] == "bundle" and name in {"pipe.log", "/dev/null"}:
        said = f"{name}: a pipe or a device: a bundle is made of files"
    assert main(["monitor", *command, name]) == 3
    out, err = capsys.readouterr()
    assert said in out + err
    assert "->" in out + err or command[0] == "watch"


@pytest.mark.parametrize("command", READ_ONCE, ids=lambda command: command[0])
def test_a_pipe_is_read_as_a_file_is(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Once, whatever looks at it how often: what the fallback reads is read twice."""
    writer = threading.Thread(target=Path("pipe.log").write_text, args=(STEPS,))
    writer.start()
    assert main(["monitor", *command, "pipe.log"]) == 0
    writer.join()
    assert "Traceback" not in "".join(capsys.readouterr())


def test_a_run_from_a_pipe_is_that_from_a_file() -> None:
    """Values, and the place that findings name."""
    writer = threading.Thread(target=Path("pipe.log").write_text, args=(STEPS,))
    writer.start()
    run, of_file = load_run("pipe.log"), load_run("good.log")
    writer.join()
    assert (run.name, run.path, run.files, run.framework) == (
        "pipe.log",
        Path("pipe.log"),
        (Path("pipe.log"),),
        "generic",
    )
    assert {name: series.values.tolist() for name, series in run.metrics.items()} == {
        name: series.values.tolist() for name, series in of_file.metrics.items()
    }


def test_who_writes_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that somebody has open is read to its end, however long nothing comes."""
    monkeypatch.setattr(pipes, "_PATIENCE_S", 5.0)
    opened, goes_on = threading.Event(), threading.Event()

    def write() -> None:
        with Path("pipe.log").open("wb", buffering=0) as file:
            opened.set()
            goes_on.wait(10)
            file.write(STEPS.encode())

    writer = threading.Thread(target=write)
    writer.start()
    threading.Timer(0.3, goes_on.set).start()
    assert load_run("pipe.log").steps.tolist() == list(range(1, 9))
    assert opened.is_set()
    writer.join()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pipe.log", r"pipe\.log: a pipe or a device: only files are followed"),
        ("/dev/null", r"/dev/null: a pipe or a device: only files are followed"),
        ("loop.log", r"loop\.log: can't be read: Too many levels of symbolic links"),
        ("binary.log", r"binary\.log: no metric recognised: binary data, not a log"),
    ],
)
def test_what_is_not_followed(name: str, said: str) -> None:
    """Nobody waits for it: what was read of a pipe is gone."""
    with Source(Path(name)) as source:
        for _ in range(2):  # a page that is open asks again and again
            with pytest.raises(UnreadableRunError, match=said):
                source.poll()
        assert source.title == Path(name).name


def test_a_closed_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a service may have it."""
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UnreadableRunError, match="standard input: is closed"):
        load_run("-")
