"""`orz monitor tail --once`: how a run stands now, as a picture or as lines."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from orz_cli.main import main

pytestmark = pytest.mark.component


def test_once_is_a_snapshot(sick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One picture without any cursor movement; 1 for a run that failed."""
    assert 1 == main(["monitor", "tail", "--once", str(sick)])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "step 59/120" in out
    assert "failed" in out
    assert "nonfinite" in out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "{path}: no such file or folder"),
        (b"", "{path}: no metric recognised in an empty file"),
        (b"\x00\xff" * 5000, "{path}: "),
        (b"hello\nworld\n", "{path}: no metric recognised"),
    ],
)
def test_once_decides_nothing_without_metrics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, message: str
) -> None:
    """Nothing there, an empty file, binary data, text without metrics: why, what next, and exit code 3."""
    path = tmp_path / "train.log"
    if content is not None:
        path.write_bytes(content)
    assert 3 == main(["monitor", "tail", "--once", str(path)])
    err = " ".join(capsys.readouterr().err.split())
    assert message.format(path=path) in err
    assert "->" in err


def test_options_that_exclude_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Leaving and staying at once is neither."""
    assert 2 == main(["monitor", "tail", "--once", "--stay", str(tmp_path)])
    assert "exclude each other" in capsys.readouterr().err


def test_a_plain_snapshot(sick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last steps, the findings and the end as lines; 1 for a run that failed."""
    assert 1 == main(["monitor", "tail", "--once", "--plain", str(sick)])
    lines = capsys.readouterr().out.splitlines()
    assert "steps 0 to 59; the last 10:" == lines[0]
    assert ["step 50/120", "step 59/120"] == [lines[1].partition(" reward")[0], lines[10].partition(" reward")[0]]
    assert ["error[crash]", "warn[nonfinite]"] == [line.split()[0] for line in lines[11:-1]]
    assert "the run failed" == lines[-1]


def test_a_plain_snapshot_of_a_run_that_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is there of the newest step, as such; when the run was last heard of."""
    path = tmp_path / "train.log"
    whole = "".join(f"step: {step}, loss: {loss}, entropy: 0.3\n" for step, loss in ((1, 0.5), (2, 0.25), (3, 0.5)))
    path.write_text(f"{whole}step: 4, loss: 0.125\n")
    assert 0 == main(["monitor", "tail", "--once", "--plain", str(path)])
    lines = capsys.readouterr().out.splitlines()
    assert [
        "step 1 pg=0.5 ent=0.3",
        "step 2 pg=0.25 ent=0.3",
        "step 3 pg=0.5 ent=0.3",
        "step 4 pg=0.125 so far",
        "the run has not ended",
    ] == [line for line in lines if "[" not in line]


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress], ids=["gzip", "zstandard"])
@pytest.mark.parametrize("plain", [True, False])
def test_a_compressed_log_that_ends_early(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], compress: Callable[[bytes], bytes], plain: bool
) -> None:
    """That it ends early is said; its last lines are those that were packed, not bytes of the packing."""
    path = tmp_path / "train.log.packed"
    text = "".join(f"step:{step} - actor/pg_loss:{step**0.5}\n" for step in range(10_000))
    packed = compress(text.encode())
    path.write_bytes(packed[: len(packed) * 2 // 3])
    assert 0 == main(["monitor", "tail", "--once", *(["--plain"] if plain else []), str(path)])
    lines = capsys.readouterr().out.splitlines()
    (found,) = [line for line in lines if "damaged_records" in line]
    assert f"{path} ends in the middle, and was read up to there" in found or not plain
    if not plain:
        logged = lines[next(at for at, line in enumerate(lines) if line.startswith("log -")) + 1 :]
        assert 8 == len(logged)
        assert all(line in text for line in logged)


def test_a_folder_of_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not followed is shown as it stands, without lines of a log that there is not."""
    (tmp_path / "progress.csv").write_text("step,loss,kl\n" + "".join(f"{n},0.5,0.{n}\n" for n in range(1, 9)))
    assert 0 == main(["monitor", "tail", "--once", str(tmp_path)])
    out = capsys.readouterr().out
    assert "step 8" in out
    assert "log -" not in out
