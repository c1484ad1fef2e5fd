"""The logs of workers: begun on every node, read from whichever has them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayError

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
    assert Log(path=folder / "policy-1.log", start=8) == begun.of(SLOT, THERE)
    assert [folder / "policy-1.log"] == list(folder.iterdir()), "the marks are gone"


def test_a_folder_on_another_disk_is_read_there(tmp_path: Path, other_node: Callable[..., None]) -> None:
    """Its node says where the log begins, and for people the log says on which node it is."""
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    (there / "policy-1.log").write_text("123")
    other_node(lambda folder, mark: logs.begin(there, mark))
    begun = Logs(here)
    begun.begin([THERE], here=HERE.node_id)
    log = begun.of(SLOT, THERE)
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


def test_the_end_of_a_log_elsewhere_is_told_in_the_drivers_time(
    tmp_path: Path, other_node: Callable[..., None]
) -> None:
    """The other node's clock is an hour ahead: 5 s before its answer are 5 s before now."""
    ahead = 3600.0

    def read(path: Path, start: int, ending_s: float) -> tuple[str, float]:
        now = time.time() + ahead
        return "last words\n" + ENDED.format(at=now - 5), now

    other_node(read)
    (end,) = logs.read_ends([Log(path=tmp_path / "none", node_id="2", address="10.0.0.2")])
    assert "\n  | last words" == end.tail()
    assert end.ending is not None
    assert time.time() - 5 == pytest.approx(end.ending.at, abs=2)


def test_a_node_that_is_gone_has_no_log(tmp_path: Path, other_node: Callable[..., None]) -> None:
    """That is no empty log."""

    def read(**_: object) -> None:
        raise RayError

    other_node(read)
    (end,) = logs.read_ends([Log(path=tmp_path / "none", node_id="2", address="10.0.0.2")])
    assert (None, None, " it can't be read") == (end.text, end.ending, end.tail())


def test_only_what_this_process_wrote_is_read(tmp_path: Path) -> None:
    """An ending of an earlier process is not this one's."""
    log = tmp_path / "policy-1.log"
    earlier = ENDED.format(at="1.000")
    log.write_text(f"{earlier}now\n")
    text, _ = logs.read(log, len(earlier), 0)
    assert "now\n" == text
    assert (None, " it can't be read") == (logs.read(tmp_path / "none", 0, 0)[0], logs.LogEnd(text=None).tail())
    assert " it is empty" == logs.LogEnd(text="\n").tail()
