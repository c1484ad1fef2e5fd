"""Memory that does not grow with a checkpoint: commands over one twice as large as all that they may take (F22).

Nor with what somebody else wrote: a document of JSON that is too large is told by its size, or by its entries.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.component, pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")]

CHECKPOINT_BYTES = 320 * 1024 * 1024
PEAK_BYTES = 150 * 1024 * 1024
HOSTILE_PEAK_BYTES = 256 * 1024 * 1024
PART_BYTES = 16 * 1024 * 1024
SECONDS = 15
"""Some of the documents took half a minute and more."""

# The peak of this process's own memory: that of `getrusage` begins with the one that it was forked from.
SCRIPT = """
import re, sys
from pathlib import Path
from orz_cli.main import main
code = main(["ckpt", *sys.argv[1:]])
print(code, int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024)
"""


def write_one_number(path: Path) -> None:
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0\x80\x3f")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in one file with one tensor of 160 MB and ten of 16 MB, no number twice in a row."""
    folder = tmp_path_factory.mktemp("large")
    part = np.random.default_rng(0).standard_normal(PART_BYTES // 4, dtype=np.float32).tobytes()
    header, begin = {}, 0
    for name, parts in [("model.large", 10), *((f"model.layers.{number}.w", 1) for number in range(10))]:
        nbytes = parts * PART_BYTES
        header[name] = {"dtype": "F32", "shape": [nbytes // 4096, 1024], "data_offsets": [begin, begin + nbytes]}
        begin += nbytes
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for _ in range(CHECKPOINT_BYTES // PART_BYTES):
            stream.write(part)
    return folder


def peak_of(*arguments: object) -> tuple[int, int]:
    """Run `orz ckpt`; return its exit code and the most memory that it had, in bytes."""
    code, peak, _ = told_by(*arguments)
    return code, peak


def told_by(*arguments: object) -> tuple[int, int, str]:
    """Run `orz ckpt`; return its exit code, the most memory that it had, in bytes, and what it said."""
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "" == run.stderr
    code, peak = run.stdout.splitlines()[-1].split()
    return int(code), int(peak), run.stdout


@pytest.mark.parametrize("level", ["full", "sample", "deep"])
def test_verify(level: str, large: Path) -> None:
    """Every byte is read, within half of the file's size."""
    code, peak = peak_of("verify", large, "--level", level)

    assert 0 == code
    assert peak < PEAK_BYTES


@pytest.mark.parametrize("options", [[], ["--dtype", "bfloat16"], ["--max-shard-size", "20MB"]])
def test_merge(options: list[str], large: Path, tmp_path: Path) -> None:
    """A model larger than the memory is merged, cast and cut into files."""
    code, peak = peak_of("merge", large, tmp_path / "out", *options)

    assert 0 == code
    assert peak < PEAK_BYTES
    written = sum(file.stat().st_size for file in (tmp_path / "out").glob("*.safetensors"))
    assert written > CHECKPOINT_BYTES // (2 if "bfloat16" in options else 1)


def test_the_others(large: Path, tmp_path: Path) -> None:
    """To compare, to describe and to look takes no more."""
    (tmp_path / "copy").mkdir()
    os.link(large / "model.safetensors", tmp_path / "copy" / "model.safetensors")
    for command in (["diff", large, tmp_path / "copy"], ["manifest", tmp_path / "copy"], ["inspect", large]):
        code, peak = peak_of(*command)
        assert 0 == code, command
        assert peak < PEAK_BYTES, command


@pytest.mark.parametrize(
    ("num_entries", "name", "says"),
    [
        (340_000, "model.layers.{0}.mlp.experts.{0}.weight", "index_differs"),
        (700_000, "model.layers.{0}.mlp.experts.{0}.weight", "its 700,001 entries"),
        (230_000, "model.layers.{0}." + "language_model." * 6 + "weight", "index_differs"),
        (380_000, "model.layers.{0}." + "language_model." * 6 + "weight", "its 380,001 entries"),
    ],
    ids=["many", "too many", "long names", "too many long names"],
)
def test_index_of_many_tensors(num_entries: int, name: str, says: str, tmp_path: Path) -> None:
    """Hundreds of thousands of tensors that are not there: it is read, or refused before it is."""
    names = {name.format(number): "model-00001-of-00001.safetensors" for number in range(num_entries)}
    document = {"metadata": {"total_size": 4}, "weight_map": names}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(document), encoding="utf-8")
    write_one_number(tmp_path / "model-00001-of-00001.safetensors")
    for command in ("verify", "inspect"):
        code, peak, said = told_by(command, tmp_path)
        assert says in " ".join(said.split()), command
        assert 1 == code
        assert peak < HOSTILE_PEAK_BYTES, command


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors.index.json", "config.json"])
def test_sparse_documents(name: str, tmp_path: Path) -> None:
    """Eight terabytes of nothing, under a name that is read as JSON, are not read at all."""
    step = tmp_path / "step_000001"
    (step / "state").mkdir(parents=True)
    path = step / name
    write_one_number(step / "model.safetensors")
    path.touch()
    os.truncate(path, 2**43)
    for command in (["verify", step], ["verify", step, "--level", "quick"], ["inspect", step]):
        _, peak = peak_of(*command)
        assert peak < PEAK_BYTES
    if name == "manifest.json":
        code, peak, said = told_by("copy", step, tmp_path / "copy")
        assert (1, True) == (code, "it has 8,796,093,022,208 bytes" in " ".join(said.split()))
        assert peak < PEAK_BYTES


@pytest.mark.parametrize("letter", [b"\\ud83d\\ude00", "\U0001f600".encode(), "\u0416".encode(), b"a"])
def test_documents_of_one_long_text(letter: bytes, tmp_path: Path) -> None:
    """One letter among sixty million can make each of them four bytes wide."""
    write_one_number(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes(b'{"a":"' + letter + b"a" * 60_000_000 + b'"}')
    _, peak = peak_of("verify", tmp_path)
    assert peak < HOSTILE_PEAK_BYTES


def of_safetensors(document: bytes) -> bytes:
    document += b" " * (-len(document) % 8)
    return len(document).to_bytes(8, "little") + document


QUOTES = ",".join(f'"k{number}":"' + '\\"' * 999 + "\u00e9" + '"' for number in range(45_000)).encode()
"""90 MB of texts in which each character but one is escaped."""
TENSOR = b'{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'


COMMANDS = (["verify"], ["verify", "--format", "json"], ["inspect"])


@pytest.mark.parametrize("name", ["manifest.json", ".orz/manifest-a.json", "model.safetensors", "config.json"])
@pytest.mark.parametrize("text", ["largest", "large", "quotes"])
def test_long_texts(text: str, name: str, tmp_path: Path) -> None:
    """Plain text takes memory, too, three times its bytes; and to look for where texts begin takes no minute."""
    large = {"largest": b'"":"' + b"a" * 90_000_000, "large": b'"":"' + b"a" * 44_000_000, "quotes": QUOTES[:-1]}[text]
    large = large[:62_000_000] if name == "config.json" else large  # more is told by its size
    path = tmp_path / "step_000001" / name if "manifest" in name else tmp_path / "model" / name
    path.parent.mkdir(parents=True)
    write_one_number(path.parent / "other.safetensors")
    if name == "model.safetensors":
        path.write_bytes(of_safetensors(b'{"__metadata__":{' + large + b'"}}'))
    else:
        path.write_bytes(b'{"attempt":{' + large + b'"}}')
    for command in (*COMMANDS, *([] if "manifest" in name else [["manifest"]])):
        begin = time.monotonic()
        _, peak = peak_of(command[0], tmp_path / path.relative_to(tmp_path).parts[0], *command[1:])
        assert peak < HOSTILE_PEAK_BYTES, command
        assert time.monotonic() - begin < SECONDS, command


def test_a_long_name(tmp_path: Path) -> None:
    """No message has a name of megabytes in it, whatever its form."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(of_safetensors(b'{"' + b"n" * 40_000_000 + b'":' + TENSOR + b"}"))
    for form in ("text", "json"):
        code, peak, said = told_by("verify", path, "--format", form)
        assert (1, True) == (code, len(said) < 10_000)
        assert peak < HOSTILE_PEAK_BYTES
