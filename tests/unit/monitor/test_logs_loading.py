"""From files of any kind to a run: compression, folders, rotation, ranks, restarts, and what can't be read."""

from __future__ import annotations

import gzip
import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import zstandard

from orz_monitor.engine import judge
from orz_monitor.errors import UnreadableRunError
from orz_monitor.formats.text import not_read
from orz_monitor.loading import load_run

pytestmark = pytest.mark.unit


def lines(first: int, last: int, reward: float = 0.5, prefix: str = "") -> str:
    return "".join(f"{prefix}step:{i} - actor/pg_loss:0.{i} - critic/score/mean:{reward}\n" for i in range(first, last))


@pytest.mark.parametrize(
    "kind",
    ["plain", "gz", "members", "zst", "frames", "torn gz", "torn zst", "torn frames", "damaged gz", "damaged zst"],
)
def test_compressed_logs_are_logs(tmp_path: Path, kind: str) -> None:
    """Gzip in several members and Zstandard; of a torn or damaged file what is whole is read, and that is said."""
    noise = os.urandom(4_000_000).hex().encode()
    data = lines(1, 6).encode()
    packed = {
        "plain": data,
        "gz": gzip.compress(data),
        "members": gzip.compress(data[:50]) + gzip.compress(data[50:]),
        "zst": zstandard.ZstdCompressor().compress(data),
        "frames": zstandard.compress(data[:50]) + zstandard.compress(data[50:]),
        "torn gz": gzip.compress(data + noise[:200_000])[:-20],
        "torn zst": zstandard.compress(data + noise[:600_000])[:-20],
        "torn frames": zstandard.compress(data) + zstandard.compress(noise[:100])[:5],
        "damaged gz": gzip.compress(data + noise)[:-8] + bytes(8),
        "damaged zst": zstandard.compress(data) + b"no frame",
    }[kind]
    path = tmp_path / "train.log"
    path.write_bytes(packed)
    run = load_run(path)
    assert run.steps.tolist() == [1, 2, 3, 4, 5]
    why = {"torn": "ends in the middle", "damaged": "is damaged"}.get(kind.partition(" ")[0])
    assert run.problems == ((f"{path} {why}, and was read up to there",) if why else ())


def test_nothing_of_a_torn_log_is_no_empty_file(tmp_path: Path) -> None:
    """Where all of it is lost, the message says why nothing was found."""
    path = tmp_path / "train.log.gz"
    path.write_bytes(gzip.compress(lines(1, 6).encode())[:10])
    with pytest.raises(UnreadableRunError, match=r"no metric recognised in 0 lines; it ends in the middle") as caught:
        load_run(path)
    assert caught.value.remedy == "copy it again from where it was written"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (lines(1, 4), "train.log"),
        ("iter 1 loss: 0.1 kl: 0\niter 2 loss: 0.2 kl: 0\niter 3 loss: 0.3 kl: 0\nKilled\n", "train.log"),
        ("step,loss,kl\n1,0.1,0\n2,0.2,0\n3,0.3,0\n", "rows.csv"),
        ("step;loss;kl\n1;0.1;0\n2;0.2;0\n3;0.3;0\n", "rows.csv"),
        ('{"step": 1, "loss": 0.1}\n{"step": 2, "loss": 0.2}\n{"step": 3, "loss": 0.3}\n', "rows.jsonl"),
    ],
)
def test_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, name: str) -> None:
    """A log may come through a pipe, and so may what the fallback reads, a table and rows of JSON."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    run = load_run(Path("-"))
    (tmp_path / name).write_text(text)
    of_file = load_run(tmp_path / name)
    assert (run.name, run.path, run.framework) == ("standard input", Path("-"), of_file.framework)
    assert list(run.metrics) == list(of_file.metrics)
    assert run.steps.tolist() == [1, 2, 3]
    assert run.files == (Path("-"),)
    assert [event.data["file"] for event in run.events if "file" in event.data] == ["-"] * len(run.events)


def test_standard_input_without_a_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names what was read, and no file that nobody knows."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"nothing\n")))
    with pytest.raises(UnreadableRunError, match=r"^standard input: no metric recognised in 1 line\n"):
        load_run(Path("-"))


def test_a_url(tmp_path: Path) -> None:
    """Whatever fsspec opens can be read."""
    (tmp_path / "train.log").write_text(lines(1, 4))
    assert load_run(f"file://{tmp_path}/train.log").steps.tolist() == [1, 2, 3]


def test_rotated_files_are_read_from_the_oldest_on(tmp_path: Path) -> None:
    """`train.log.10` was written before `train.log.9`."""
    for index, name in enumerate(["train.log.10.gz", "train.log.9", "train.log.1", "train.log"]):
        text = lines(10 * index, 10 * index + 10).encode()
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    run = load_run(tmp_path)
    assert run.steps.tolist() == list(range(40))
    assert run.restarts == ()
    series = run.metrics["reward/mean"]
    assert series.files is not None
    assert series.lines is not None
    assert run.files[int(series.files[15])].name == "train.log.9"
    assert series.lines[15] == 6


@pytest.mark.parametrize(
    "names",
    [
        ["attempt_2/out.log", "attempt_10/out.log"],
        ["slurm-999.out", "slurm-1000.out"],
        ["train.log-20260101.gz", "train.log-20260102", "train.log"],
        ["train.log.2026-01-01", "train.log.2026-01-02", "train.log"],
        ["train.log.2026-01-01_09-00-00", "train.log.2026-01-01_10-00-00", "train.log"],
        ["train.2025-12-31_23-59-59_000001.log", "train.2026-01-01_10-00-00_000001.log", "train.log"],
        ["train.log.10", "train.log.2", "train.log"],
    ],
)
def test_the_newest_file_is_read_last(tmp_path: Path, names: list[str]) -> None:
    """Numbers and dates in names tell the order, so that no older file undoes what a newer one tells."""
    for index, name in enumerate(names):
        text = lines(10 * index, 10 * index + 12, 0.25 * index).encode()
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    run = load_run(tmp_path)
    assert [str(file.relative_to(tmp_path)) for file in run.files] == names
    assert run.steps.tolist() == list(range(10 * len(names) + 2))
    assert run.series("reward/mean").values[-1] == 0.25 * (len(names) - 1)


def test_ranks_that_print_the_same_are_one(tmp_path: Path) -> None:
    """Rank 0 counts, in one file or in a file each, whichever comes first."""
    mixed = "".join(
        f"[rank1]: step:{i} - critic/score/mean:0.9\n[rank0]: step:{i} - critic/score/mean:0.1\n" for i in range(5)
    )
    (tmp_path / "mixed.log").write_text(mixed)
    run = load_run(tmp_path / "mixed.log")
    assert run.series("reward/mean").values.tolist() == [0.1] * 5
    assert (run.restarts, run.folded) == ((), 5)
    folder = tmp_path / "each"
    folder.mkdir()
    (folder / "rank_0.log").write_text(lines(0, 5, 0.1))
    (folder / "rank_1.log").write_text(lines(0, 5, 0.9))
    run = load_run(folder)
    assert run.series("reward/mean").values.tolist() == [0.1] * 5
    assert run.restarts == ()


def test_a_restart_undoes_what_it_repeats(tmp_path: Path) -> None:
    """Steps that were lost with the crash are not in the run; a process that took over is no rank."""
    path = tmp_path / "train.log"
    path.write_text(lines(1, 9, 0.1, "(TaskRunner pid=5) ") + lines(4, 7, 0.7, "(TaskRunner pid=99) "))
    run = load_run(path)
    assert run.steps.tolist() == [1, 2, 3, 4, 5, 6]
    assert run.series("reward/mean").values.tolist() == [0.1] * 3 + [0.7] * 3
    assert run.restarts == (4,)


def test_two_processes_without_a_name_are_no_restarts(tmp_path: Path) -> None:
    """Each step stands there twice, with other values: one line of each counts, and it is said that some do not."""
    path = tmp_path / "train.log"
    path.write_text("".join(lines(i, i + 1, 0.25) + lines(i, i + 1, 0.75) for i in range(1, 31)))
    run = load_run(path)
    assert (run.restarts, run.mixed) == ((), 30)
    assert run.series("reward/mean").values.tolist() == [0.25] * 30
    assert "Several processes print the same steps" in [finding.title for finding in judge(run).findings]


def test_a_step_that_is_done_again_is_still_a_restart(tmp_path: Path) -> None:
    """One step, not most of them."""
    path = tmp_path / "train.log"
    path.write_text(lines(1, 9, 0.25) + lines(8, 12, 0.75))
    run = load_run(path)
    assert (run.restarts, run.mixed) == ((8,), 0)


def test_an_announced_resume_undoes_too(tmp_path: Path) -> None:
    """What the trainer says it goes on from counts before its first step is logged."""
    path = tmp_path / "train.log"
    path.write_text(lines(1, 9, 0.1) + "Setting global step to 4\n" + lines(7, 9, 0.7))
    run = load_run(path)
    assert run.steps.tolist() == [1, 2, 3, 4, 7, 8]
    assert run.restarts == (5,)


def test_a_line_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    """A log that went through tee twice is no restart."""
    path = tmp_path / "train.log"
    path.write_text("".join(2 * line for line in lines(1, 5).splitlines(keepends=True)))
    run = load_run(path)
    assert run.steps.tolist() == [1, 2, 3, 4]
    assert run.restarts == ()


def test_zero_below_its_quantum_is_told_from_zero(tmp_path: Path) -> None:
    """0.000 may be anything below half of 0.001; the unit and the raw key travel along."""
    path = tmp_path / "train.log"
    path.write_text("".join(f"step:{i} - actor/lr(1e-4):0.000 - critic/score/mean:0.5{i}0\n" for i in range(4)))
    run = load_run(path)
    series = run.metrics["policy/lr"]
    assert series.raw_keys == ("actor/lr(1e-4)",)
    assert series.quanta is not None
    assert np.allclose(series.quanta, 1e-7)
    assert series.below_quantum.tolist() == [True] * 4
    assert not run.metrics["reward/mean"].below_quantum.any()


def test_a_log_of_nobody_we_know(tmp_path: Path) -> None:
    """Names and numbers are read anyway, and keys without a meaning are listed."""
    path = tmp_path / "train.log"
    path.write_text("".join(f"[train] step {i}: loss=0.5 reward: {i} my_metric = 1e-3\n" for i in range(3)))
    run = load_run(path)
    assert run.framework == "generic"
    assert run.series("reward/mean").values.tolist() == [0, 1, 2]
    assert run.coverage.unrecognised == ("my_metric",)


@pytest.mark.parametrize(
    ("name", "text", "metrics", "unread"),
    [
        ("a.log", "iter {0} loss: 0.{0} kl: 0 tokens: 12.{0}k size: {0}7B\n", {"tokens": 12_300.0}, ("size",)),
        ("a.csv", "{0},0.{0},12.{0}k,{0}7B\n", {"tokens": 12_300.0}, ("size",)),
        (
            "trl.log",
            "{{'loss': 0.{0}, 'learning_rate': 1e-6, 'tokens': '1,234,567', 'reward_std': None, 'of': '7B'}}\n",
            {"tokens": 1_234_567.0},
            ("of", "reward_std"),
        ),
        (
            "prime.log",
            "23:59:0{0} SUCCESS Step {0} |  1m 16s | Loss 0.{0} | Throughput 8.7k tokens/s | Peak Mem. 9.6 Zb\n",
            {"tokens/per_second": 8700.0, "seconds/total": 76.0},
            ("Peak Mem.",),
        ),
    ],
)
def test_every_number_is_read_or_listed(
    tmp_path: Path, name: str, text: str, metrics: dict[str, float], unread: tuple[str, ...]
) -> None:
    """Values with units are read; keys whose values can't be are named."""
    path = tmp_path / name
    head = "step,loss,tokens,size\n" if name.endswith("csv") else ""
    path.write_text(head + "".join(text.format(i) for i in range(1, 4)))
    run = load_run(path)
    last = {metric: float(series.values[-1]) for metric, series in run.metrics.items()}
    last |= {f"seconds/{phase}": float(series.values[-1]) for phase, series in run.seconds.items()}
    assert {metric: last[metric] for metric in metrics} == metrics
    assert run.coverage.unread == unread


def test_lines_that_nobody_understood_are_counted(tmp_path: Path) -> None:
    """They look like metrics, but not as the trainer writes them; prose with the same words does not count."""
    path = tmp_path / "train.log"
    odd = "at step: 3 reward=0.5 loss=0.1 kl=1e-3\n"
    path.write_text(lines(1, 4) + 2 * odd + "the next step: save\n")
    run = load_run(path)
    assert (run.coverage.num_missed_lines, run.steps.tolist()) == (2, [1, 2, 3])
    assert not_read(run.coverage) == "not read: lines that look like metrics: 2"
    path.write_text(lines(1, 4))
    assert not_read(load_run(path).coverage) == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [(os.urandom(5000), "binary data"), ("step:1".encode("utf-16"), "UTF-16"), (b"\0" * 100, "binary data")],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """A checkpoint given by mistake is named as what it is."""
    path = tmp_path / "train.log"
    path.write_bytes(content)
    with pytest.raises(UnreadableRunError, match=said):
        load_run(path)


def test_holes_of_zeros_and_bells_are_still_a_log(tmp_path: Path) -> None:
    """A log that was truncated while it was written begins with zeros."""
    path = tmp_path / "train.log"
    path.write_bytes(b"\0" * 5000 + b"\n" + lines(1, 4).encode() + b"\x1b]8;;x\x07y\x1b]8;;\x07\n" * 50)
    assert load_run(path).steps.tolist() == [1, 2, 3]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    """The message names the file and the reason."""
    path = tmp_path / "train.log"
    path.write_text(lines(1, 2))
    path.chmod(0)
    with pytest.raises(UnreadableRunError, match="Permission denied"):
        load_run(path)
