"""Files of ranks say the same, each of itself: their pickle is read once, and the result is as if each were."""

from __future__ import annotations

import argparse
import collections
from typing import TYPE_CHECKING, Any

import pytest

from orz_ckpt.errors import FormatError, HostileError
from orz_ckpt.formats import torch_file
from orz_ckpt.formats.alike import Alike
from orz_ckpt.formats.inert import Inert, blocks

if TYPE_CHECKING:
    from pathlib import Path

torch = pytest.importorskip("torch")  # orz-ckpt works without it; what is read here is what it writes

pytestmark = pytest.mark.component


class Stranger:
    """Of a type that no checkpoint is known to hold."""


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every pickle that is really gone through, in order."""
    ran: list[bytes] = []
    real = torch_file.load_pickle

    def counted(data: bytes, **settings: Any) -> Any:
        ran.append(data)
        return real(data, **settings)

    monkeypatch.setattr(torch_file, "load_pickle", counted)
    return ran


def state(rank: int, *, rows: int = 3) -> dict[str, Any]:
    """What a rank saves: numbers of its own in all kinds of collections."""
    weight = torch.full((rows, 4), float(rank))
    schedule = argparse.Namespace(steps=torch.arange(2))
    schedule.owner = argparse.Namespace(schedule=schedule)
    return {
        "module": collections.OrderedDict(weight=weight, tied=weight, bias=torch.arange(4) + rank),
        "groups": [{"params": [0, 1], "step": torch.tensor(7.0 + rank)}, (weight[1:], None)],
        "names": {"weight", "bias"},
        "arguments": argparse.Namespace(lr=1e-3, mask=torch.zeros(2, dtype=torch.bool)),
        "schedule": schedule,
        "shape": weight.shape,
    }


def save(folder: Path, rank: int, value: Any) -> Path:
    path = folder / f"rank_{rank}.pt"
    torch.save(value, path)
    return path


def test_each_rank_reads_as_if_alone(tmp_path: Path, programs: list[bytes]) -> None:
    paths = [save(tmp_path, rank, state(rank)) for rank in (0, 1, 12)]
    alike = Alike()
    together = [torch_file.load(path, alike=alike) for path in paths]
    assert len(programs) == 1
    for path, file in zip(paths, together, strict=True):
        alone = torch_file.load(path)
        assert dict(blocks(file.value)) == dict(blocks(alone.value))
        assert (file.path, file.records, file.globals) == (alone.path, alone.records, alone.globals)
        assert {block.path for _, block in blocks(file.value)} == {path}
    first, second = (file.value for file in together[:2])
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert type(second["module"]) is collections.OrderedDict
    assert list(second["module"]) == ["weight", "tied", "bias"]
    assert second["module"]["weight"] is second["module"]["tied"]
    assert second["names"] == {"weight", "bias"}
    assert second["shape"] == (3, 4)
    assert isinstance(second["arguments"], Inert)
    assert isinstance(second["arguments"].state, dict)
    assert second["arguments"].state["lr"] == 1e-3


def test_what_one_rank_says_is_not_shared(tmp_path: Path) -> None:
    """Whoever changes what it was given changes it for itself alone."""
    paths = [save(tmp_path, rank, state(rank)) for rank in range(3)]
    alike = Alike()
    for path in paths:
        value = torch_file.load(path, alike=alike).value
        assert isinstance(value, dict)
        assert dict(blocks(value)) == dict(blocks(torch_file.load(path).value))
        value["groups"].clear()
        value["module"].clear()
        value["arguments"].state.clear()


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"module": {"weight": 1}}, id="another program"),
        pytest.param(state(1, rows=5), id="longer tensors"),
    ],
)
def test_another_file_is_read_itself(tmp_path: Path, programs: list[bytes], other: object) -> None:
    paths = [save(tmp_path, 0, state(0)), save(tmp_path, 1, other)]
    alike = Alike()
    _, read = (torch_file.load(path, alike=alike) for path in paths)
    assert len(programs) == 2
    assert dict(blocks(read.value)) == dict(blocks(torch_file.load(paths[1]).value))


def test_records_elsewhere_are_found_there(tmp_path: Path, programs: list[bytes]) -> None:
    """The name of the archive's folder is that of the file: a long one moves what lies behind it."""
    paths = [save(tmp_path, 0, state(0)), save(tmp_path, int("1" * 150), state(1))]
    alike = Alike()
    files = [torch_file.load(path, alike=alike) for path in paths]
    assert len(programs) == 2
    assert [record.offset for record in files[0].records] != [record.offset for record in files[1].records]
    assert dict(blocks(files[1].value)) == dict(blocks(torch_file.load(paths[1]).value))


def test_a_damaged_pickle_is_found_behind_a_sound_one(tmp_path: Path) -> None:
    paths = [save(tmp_path, rank, state(rank)) for rank in range(2)]
    data = bytearray(paths[1].read_bytes())
    data[data.index(b"groups")] ^= 1
    paths[1].write_bytes(data)
    alike = Alike()
    torch_file.load(paths[0], alike=alike)
    with pytest.raises(FormatError, match=r"rank_1\.pt.*checksum of .*data\.pkl"):
        torch_file.load(paths[1], alike=alike)


def test_programs_that_alternate_are_each_gone_through_once(tmp_path: Path, programs: list[bytes]) -> None:
    """As those of the GPUs of a node do, of which each has its number in it; more of them than are kept still read."""
    values = [{f"on cuda:{rank % 4}": torch.zeros(2) + rank} for rank in range(12)]
    alike = Alike()
    for rank, value in enumerate(values):
        path = save(tmp_path, rank, value)
        assert dict(blocks(torch_file.load(path, alike=alike).value)).keys() == value.keys()
    assert len(programs) == 4
    for rank in range(20):
        path = save(tmp_path, 100 + rank, {f"name {rank}": torch.zeros(2)})
        assert list(dict(blocks(torch_file.load(path, alike=alike).value))) == [f"name {rank}"]


def test_what_may_be_called_is_decided_anew(tmp_path: Path) -> None:
    path = save(tmp_path, 0, {"a": Stranger()})
    alike = Alike()
    name = f"{Stranger.__module__}.Stranger"
    torch_file.load(path, inert=frozenset({name}), alike=alike)
    with pytest.raises(HostileError, match="Stranger"):
        torch_file.load(path, alike=alike)
