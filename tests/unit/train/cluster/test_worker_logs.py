"""The logs of workers: begun on every node, read from whichever has them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayError, RayTaskError

from orz_train.cluster import logs
from orz_train.cluster.errors import ClusterError
from orz_train.cluster.logs import Log, Logs
from orz_train.cluster.placement import Node, Slot

pytestmark = pytest.mark.unit

HERE, THERE = (Node(node_id=name, address=f"10.0.0.{name}", cpus=1, gpus=0) for name in ("1", "2"))
SLOT = Slot(role="policy", rank=1)
ENDED = "orz-train: policy rank 1, process 8, ended at {at} by signal 9 (SIGKILL)\n"


@pytest.fixture
def other_node(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Let another node answer every question with a function of the question's arguments, at once."""

    def be(answers: Callable[..., Any]) -> None:
        def ask(node_id: str, function: str, arguments: Mapping[str, Any]) -> Any:
            assert THERE.node_id == node_id
            return (function, tuple(arguments.items()))

        def get(ref: Any, timeout: float | None = None) -> Any:
            return answers(**dict(ref[1]))

        monkeypatch.setattr(logs, "ask", ask)
        monkeypatch.setattr(logs, "answer", lambda _name, ref, _end: get(ref))
        ready = SimpleNamespace(get=get, wait=lambda refs, **_: (refs[:1], refs[1:]))
        monkeypatch.setattr(logs, "ray", ready)

    return be


def test_a_folder_on_one_disk_is_read_here(tmp_path: Path, other_node: Callable[..., None]) -> None:
    """The other node sees the driver's mark; what an earlier run wrote doesn't count."""
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "policy-1.log").write_text("12345678")
    other_node(logs.begin)
    begun = Logs(folder)
    begun.begin([HERE, THERE], here=HERE.node_id)
    assert Log(path=folder / "policy-1.log", start=8) == replace(begun.of(SLOT, THERE), ahead_s=0.0)
    assert [folder / "policy-1.log"] == list(folder.iterdir()), "the marks are gone"


def test_a_folder_on_another_disk_is_read_there(tmp_path: Path, other_node: Callable[..., None]) -> None:
    """Its node says where the log begins, and for people the log says on which node it is."""
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    (there / "policy-1.log").write_text("123")
    other_node(lambda folder, mark: logs.begin(there, mark))
    begun = Logs(here)
    begun.begin([THERE], here=HERE.node_id)
    log = replace(begun.of(SLOT, THERE), ahead_s=0.0)
    assert Log(path=here / "policy-1.log", start=3, node_id="2", address="10.0.0.2") == log
    assert f"{here / 'policy-1.log'} on 10.0.0.2" == str(log)


def test_a_node_that_can_write_no_log_is_named(tmp_path: Path, other_node: Callable[..., None]) -> None:
    """Before any worker is started there."""
    (tmp_path / "file").write_text("")
    other_node(lambda folder, mark: logs.begin(tmp_path / "file" / "logs", mark))
    with pytest.raises(ClusterError, match=r"can't be written\n  .*/logs on 10.0.0.2: NotADirectoryError: Not a dir"):
        Logs(tmp_path / "logs").begin([THERE], here=HERE.node_id)


def test_a_driver_that_can_write_no_log_is_named_beside_the_others(
    tmp_path: Path, other_node: Callable[..., None]
) -> None:
    """It is a node like any other, whether a rank runs there or not."""
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "logs"
    other_node(logs.begin)
    listed = rf"can't be written\n  {folder} on 10.0.0.1: NotADirectoryError: .*\n  {folder} on 10.0.0.2: NotADirectory"
    with pytest.raises(ClusterError, match=listed):
        Logs(folder).begin([THERE, HERE], here=HERE.node_id)
    with pytest.raises(ClusterError, match=r"on the driver's node: NotADir.*\n.* on 10.0.0.2: NotADir"):
        Logs(folder).begin([THERE], here=HERE.node_id)


@pytest.mark.parametrize("shared", [True, False])
def test_an_end_on_another_node_is_told_in_the_drivers_time(
    tmp_path: Path, other_node: Callable[..., None], shared: bool
) -> None:
    """The other node's clock is an hour ahead, wherever its log is; its worker ended when this clock said 500."""
    here, there = tmp_path / "here", tmp_path / ("here" if shared else "there")
    other_node(lambda folder, mark: replace(logs.begin(there, mark), clock=time.time() + 3600))
    begun = Logs(here)
    begun.begin([HERE, THERE], here=HERE.node_id)
    log = begun.of(SLOT, THERE)
    assert 3600 == pytest.approx(log.ahead_s, abs=1)
    assert 0 == begun.of(SLOT, HERE).ahead_s
    (there / "policy-1.log").write_text("last words\n" + ENDED.format(at=500 + log.ahead_s))
    other_node(lambda path, **named: logs.read(there / path.name, **named))
    (end,) = logs.read_ends([log])
    assert "\n  | last words" == end.tail()
    assert end.ending is not None
    assert 500 == pytest.approx(end.ending.at, abs=0.01)


@pytest.mark.parametrize(
    ("error", "node"), [(RayError(), "gone"), (RayTaskError("read", "traceback", OSError("no disk")), "up")]
)
def test_a_node_that_is_gone_has_no_log(
    tmp_path: Path, other_node: Callable[..., None], error: Exception, node: str
) -> None:
    """That is no empty log; a node that answers with an error is there."""

    def read(**_: object) -> None:
        raise error

    other_node(read)
    (end,) = logs.read_ends([Log(path=tmp_path / "none", node_id="2", address="10.0.0.2")])
    assert (None, None, " it can't be read", node) == (end.text, end.ending, end.tail(), end.node)


def test_a_slow_node_is_not_gone(
    tmp_path: Path, other_node: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have much to do, or be slow to start the process that answers."""
    other_node(logs.read)
    monkeypatch.setattr(logs.ray, "wait", lambda refs, **_: ([], refs))
    (end,) = logs.read_ends([Log(path=tmp_path / "none", node_id="2", address="10.0.0.2")])
    assert ("slow", " its node didn't answer within 8 s") == (end.node, end.tail())


def test_a_node_that_does_not_answer_in_time_ends_the_beginning(
    tmp_path: Path, other_node: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is started where no log can be begun."""

    def late(**_: object) -> None:
        raise ClusterError("node 10.0.0.2 doesn't answer")

    other_node(late)
    monkeypatch.setattr(logs.ray, "wait", lambda refs, **_: ([], refs))
    with pytest.raises(ClusterError, match=r"10.0.0.2 doesn't answer"):
        Logs(tmp_path / "logs").begin([THERE], here=HERE.node_id)


def test_only_what_this_process_wrote_is_read(tmp_path: Path) -> None:
    """An ending of an earlier process is not this one's."""
    log = tmp_path / "policy-1.log"
    earlier = ENDED.format(at="1.000")
    log.write_text(f"{earlier}now\n")
    assert "now\n" == logs.read(log, len(earlier), 0)
    assert (None, " it can't be read") == (logs.read(tmp_path / "none", 0, 0), logs.LogEnd(text=None).tail())
    assert " it is empty" == logs.LogEnd(text="\n").tail()
