"""Event files, written with TensorBoard's own writer and messages, read without them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.summary.writer.record_writer import RecordWriter

from orz_monitor.errors import UnreadableRunError
from orz_monitor.loading import load_run
from orz_monitor.stores import open_store
from orz_monitor.stores.base import Problem, Store
from orz_monitor.stores.crc32c import crc32c
from orz_monitor.stores.tfrecord import read_windows

pytestmark = pytest.mark.unit

NAME = "events.out.tfevents.{}.host.1.0"


def write(path: Path, events: Sequence[Event | bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event if isinstance(event, bytes) else event.SerializeToString())
    return path


def scalar(tag: str, step: int, value: float, time: float = 1.7e9) -> Event:
    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
    return Event(wall_time=time, step=step, summary=summary)


def tensor(tag: str, step: int, proto: TensorProto) -> Event:
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="scalars"))
    value = Summary.Value(tag=tag, tensor=proto, metadata=metadata)
    return Event(wall_time=1.0, step=step, summary=Summary(value=[value]))


def read(path: Path) -> Store:
    store = open_store(path)
    assert store is not None
    return store


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),  # the check value of CRC-32C
        (bytes(32), 0x8A9136AA),  # RFC 3720, B.4: 32 bytes of zeros, of ones, rising
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_checksums_of_the_standard(data: bytes, expected: int) -> None:
    """The vectors that the standards give, alone and in rows."""
    row = np.frombuffer(data, dtype=np.uint8)
    assert [int(value) for value in crc32c(np.stack([row, row]))] == [expected, expected]


def test_checksums_of_long_rows() -> None:
    """Over the border of a block, against the definition: bit by bit."""
    data = np.random.default_rng(0).integers(0, 256, size=2050, dtype=np.uint8)
    for length in (1023, 1024, 1025, 1027, 1028, 2050):
        state = 0xFFFFFFFF
        for byte in data[:length].tolist():
            state ^= byte
            for _ in range(8):
                state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
        assert int(crc32c(data[None, :length])[0]) == state ^ 0xFFFFFFFF


def test_scalars_of_many_tags_and_steps(tmp_path: Path) -> None:
    """Every value, step and time, though tags have equal lengths and steps varints of one to four bytes."""
    tags = ["a/loss", "a/kl__", "b", "long/name/of/a/metric"]
    steps = [0, 1, 127, 128, 20_000, 3_000_000]
    events: list[Event | bytes] = [Event(wall_time=1.0, file_version="brain.Event:2")]
    events += [scalar(tag, step, i + step / 4, 100.0 + step) for step in steps for i, tag in enumerate(tags)]
    store = read(write(tmp_path / NAME.format(1), events))
    assert store.keys == tuple(sorted(tags))
    for i, tag in enumerate(tags):
        column = store.column(tag)
        assert column.steps.tolist() == steps
        assert column.values.tolist() == [float(np.float32(i + step / 4)) for step in steps]
        assert column.times.tolist() == [100.0 + step for step in steps]
    assert store.problems == ()


def test_an_event_without_a_time_has_none(tmp_path: Path) -> None:
    """As `export` writes them where the log has no times; 1970 was no step."""
    events = [scalar("loss", step, 0.5, time=0.0 if step < 3 else 1.7e9) for step in range(5)]
    (column,) = read(write(tmp_path / "events.out.tfevents.1.x", events)).columns
    assert np.isnan(column.times).tolist() == [True, True, True, False, False]


def test_more_kinds_of_event_than_are_looked_for(tmp_path: Path) -> None:
    """Events of one length with all kinds of metadata are read one by one in the end, with nothing lost."""
    events = []
    for step in range(120):
        value = Summary.Value(tag="x", simple_value=step, node_name=f"node{step % 60:03d}")
        events.append(Event(wall_time=1.0, step=step + 200, summary=Summary(value=[value])))
    column = read(write(tmp_path / NAME.format(1), events)).column("x")
    assert column.steps.tolist() == list(range(200, 320))
    assert column.values.tolist() == [float(step) for step in range(120)]


def test_several_values_an_event_and_none(tmp_path: Path) -> None:
    """An event may hold many values; images and histograms are none of them."""
    values = [Summary.Value(tag="x", simple_value=1.5), Summary.Value(tag="h", histo=HistogramProto(num=3.0))]
    values.append(Summary.Value(tag="y", simple_value=float("nan")))
    store = read(write(tmp_path / NAME.format(1), [Event(step=3, summary=Summary(value=values))]))
    assert store.keys == ("x", "y")
    assert store.column("x").values.tolist() == [1.5]
    assert np.isnan(store.column("y").values).tolist() == [True]
    assert np.isnan(store.column("x").times).tolist() == [True]


@pytest.mark.parametrize(
    ("proto", "expected"),
    [
        (TensorProto(dtype=1, float_val=[1.25]), 1.25),
        (TensorProto(dtype=1, tensor_content=struct.pack("<f", -2.5)), -2.5),
        (TensorProto(dtype=2, double_val=[1e-300]), 1e-300),
        (TensorProto(dtype=2, tensor_content=struct.pack("<d", 0.1)), 0.1),
        (TensorProto(dtype=3, int_val=[-7]), -7.0),
        (TensorProto(dtype=9, int64_val=[1 << 40]), float(1 << 40)),
        (TensorProto(dtype=9, tensor_content=struct.pack("<q", -3)), -3.0),
        (TensorProto(dtype=10, bool_val=[True]), 1.0),
        (TensorProto(dtype=19, half_val=[0x3E00]), 1.5),  # sign 0, exponent 15, half a mantissa
        (TensorProto(dtype=14, half_val=[0x3FC0]), 1.5),  # bfloat16: the upper half of f32 0x3FC00000
        (TensorProto(dtype=14, tensor_content=b"\xc0\x3f"), 1.5),
        (TensorProto(dtype=23, uint64_val=[9]), 9.0),
    ],
)
def test_tensors_of_one_number(tmp_path: Path, proto: TensorProto, expected: float) -> None:
    """TensorFlow 2 writes scalars as tensors, of any type, in lists or as content, with a shape of any rank."""
    for i, dims in enumerate([(), (1,), (1, 1)]):
        shaped = TensorProto()
        shaped.CopyFrom(proto)
        shaped.tensor_shape.CopyFrom(TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in dims]))
        folder = tmp_path / str(i)
        column = read(write(folder / NAME.format(1), [tensor("x", 5, shaped)])).column("x")
        assert (column.steps.tolist(), column.values.tolist()) == ([5], [expected])


def test_tensors_of_more_numbers_are_no_scalars(tmp_path: Path) -> None:
    """A tensor of equal values is stored as one, with its shape."""
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=4)])
    text = TensorProto(dtype=7, string_val=[b"hello"])
    events = [tensor("x", 1, TensorProto(dtype=1, float_val=[1.0], tensor_shape=shape)), tensor("t", 1, text)]
    assert read(write(tmp_path / NAME.format(1), events)).keys == ()


def test_a_restart_undoes_what_was_after_its_first_step(tmp_path: Path) -> None:
    """The later file wins from its first step of each tag on, and tags it lacks keep theirs."""
    write(tmp_path / NAME.format(100), [scalar("x", step, step) for step in range(6)] + [scalar("old", 5, 1.0)])
    write(tmp_path / NAME.format(99), [scalar("x", step, -1.0) for step in range(2)])
    write(tmp_path / NAME.format(1000), [scalar("x", step, 10.0 + step) for step in range(4, 7)])
    store = read(tmp_path)
    assert store.column("x").steps.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert store.column("x").values.tolist() == [0.0, 1.0, 2.0, 3.0, 14.0, 15.0, 16.0]
    assert store.column("old").steps.tolist() == [5]
    assert store.restarts == (0, 4)


def test_a_step_written_twice_keeps_the_later_value(tmp_path: Path) -> None:
    """Within one file, and steps out of order are put in order."""
    events = [scalar("x", 2, 1.0), scalar("x", 1, 2.0), scalar("x", 2, 3.0)]
    column = read(write(tmp_path / NAME.format(1), events)).column("x")
    assert (column.steps.tolist(), column.values.tolist()) == ([1, 2], [2.0, 3.0])


def test_a_torn_end_is_told(tmp_path: Path) -> None:
    """What is whole is read; the place of the torn record is that of its begin."""
    path = write(tmp_path / NAME.format(1), [scalar("x", step, 1.0) for step in range(3)])
    whole = path.stat().st_size // 3 * 2  # steps 0 to 2: step 0 is left out of its message, two bytes less
    path.write_bytes(path.read_bytes()[:-1])
    store = read(path)
    assert store.column("x").steps.tolist() == [0, 1]
    (problem,) = store.problems
    assert "cut off" in problem.message
    assert problem.place.startswith("byte ")
    assert abs(int(problem.place.removeprefix("byte ")) - whole) <= 2


def test_a_damaged_value_is_left_out(tmp_path: Path) -> None:
    """A wrong checksum costs one record; a wrong length the rest, since nothing says where the next one begins."""
    path = write(tmp_path / NAME.format(1), [scalar("x", step, 1.0) for step in range(1, 4)])
    data = bytearray(path.read_bytes())
    size = len(data) // 3
    data[size + 20] ^= 1
    path.write_bytes(data)
    store = read(path)
    assert store.column("x").steps.tolist() == [1, 3]
    assert "checksum of a record" in store.problems[0].message
    data[size + 20] ^= 1
    data[size] ^= 1
    path.write_bytes(data)
    store = read(path)
    assert store.column("x").steps.tolist() == [1]
    assert store.problems[0].place == f"byte {size}"


def test_small_windows_lose_nothing(tmp_path: Path) -> None:
    """Records that go over the border of what is read at once, and records longer than it."""
    path = write(tmp_path / NAME.format(1), [scalar("x" * (1 + 40 * (step % 5)), step, 1.0) for step in range(50)])
    problems: list[Problem] = []
    whole = [(w.offset + w.starts).tolist() for w in read_windows(path, problems)]
    parts = [(w.offset + w.starts).tolist() for w in read_windows(path, problems, window_bytes=64)]
    assert len(whole) == 1
    assert len(parts) > 10
    assert [place for part in parts for place in part] == whole[0]
    assert problems == []


def test_runs_below_a_folder_must_be_named(tmp_path: Path) -> None:
    """One is taken; of several one is named after a #."""
    write(tmp_path / "a" / NAME.format(1), [scalar("x", 1, 1.0)])
    assert read(tmp_path).name == "a"
    write(tmp_path / "b" / "c" / NAME.format(1), [scalar("x", 1, 2.0)])
    with pytest.raises(UnreadableRunError, match=r"holds 2 runs: a, b/c"):
        open_store(tmp_path)
    assert read(Path(f"{tmp_path}#b/c")).column("x").values.tolist() == [2.0]
    with pytest.raises(UnreadableRunError, match="no run 'd' in it; it has a, b/c"):
        open_store(Path(f"{tmp_path}#d"))


def test_the_files_of_orz_have_names_of_their_own(tmp_path: Path) -> None:
    """Entropy and the share of clipped tokens; the critic's loss, which is divided there, is no metric of ours."""
    tags = {
        "policy_entropy": 0.5,
        "ppo_clip_count": 0.25,
        "critic_loss": 0.125,
        "avg_kl": 0.75,
        "evals/gpqa/accuracy": 1,
    }
    write(tmp_path / NAME.format(1), [scalar(tag, 3, value) for tag, value in tags.items()])
    run = load_run(tmp_path)
    assert "orz" == run.framework
    named = {name: float(series.values[0]) for name, series in run.metrics.items()}
    assert {
        "policy/entropy": 0.5,
        "policy/clip_frac": 0.25,
        "critic_loss": 0.125,
        "policy/kl_ref": 0.75,
        "eval/gpqa/accuracy": 1.0,
    } == named
