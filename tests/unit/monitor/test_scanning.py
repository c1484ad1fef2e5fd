"""The compiled scanner: places, repeats and joined pieces as Python finds them; and what is no library of ours."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from orz_monitor.transport import pieces, places, scanning
from orz_monitor.transport.pieces import Pieces
from orz_monitor.transport.places import places_of
from orz_monitor.transport.scanning import LIBRARY_FILE, SCANNER, SWITCH, load_library

pytestmark = pytest.mark.unit


@pytest.fixture(params=["scanner", "python"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """By the compiled scanner, and without it."""
    name: str = request.param
    if name == "python":
        monkeypatch.setattr(pieces, "SCANNER", None)
        monkeypatch.setattr(places, "SCANNER", None)
    elif SCANNER is None:
        pytest.skip("the scanner was not compiled: no C compiler when orz-monitor was installed")
    return name


def test_where_there_is_a_compiler_there_is_a_scanner() -> None:
    """It is made when the package is installed, of the source that lies beside it."""
    if not any(map(shutil.which, ("cc", "gcc", "clang"))) or os.environ.get(SWITCH) == "off":
        pytest.skip("no C compiler, or the scanner is switched off")
    assert SCANNER is not None, "install the package again: the scanner is missing, or of another source"


@pytest.mark.parametrize("piece", [b"\n", b"|", b"ab", b"Train epoch [", b"b" * 70, b"\0\xff"])
def test_a_piece_is_found_wherever_it_stands(engine: str, piece: bytes) -> None:
    """At both ends of the text, close together, and not at all; in texts of every length around 64."""
    rng = random.Random(engine)  # noqa: S311 - test data
    for size in [*range(70), 1000, 5000]:
        parts = [piece, piece[:1], piece[:-1], b"a", b" "]
        weights = rng.choice([(0, 1, 1, 1, 1), (1, 9, 9, 9, 9), (9, 1, 1, 1, 1), (1, 0, 0, 0, 0)])
        text = b"".join(rng.choices(parts, weights, k=size))
        expected = [at for at in range(len(text)) if text.startswith(piece, at)]
        if piece == b"b" * 70:  # which overlaps itself
            expected = []
            text = text.replace(piece, b"")
        assert places_of(text, piece).tolist() == expected


def test_pieces_that_are_like_the_one_before(engine: str) -> None:
    """Those of other lengths, and of none, too."""
    shown = [b"", b"", b"ab", b"ab", b"ac", b"a", b"ac", b"ac", b"\0", b"\0\0", b"\0\0"]
    expected = [at > 0 and one == shown[at - 1] for at, one in enumerate(shown)]
    assert Pieces.of(shown).repeats().tolist() == expected, engine
    assert Pieces.of([]).repeats().tolist() == []


def test_pieces_are_joined_in_their_order(engine: str) -> None:
    """Whatever their places."""
    text = b"0123456789"
    chosen = Pieces(text, np.array([7, 0, 3, 3]), np.array([10, 2, 3, 5]))
    assert chosen.joined() == b"7890134", engine
    assert chosen.at(np.array([True, False, False, True])).joined() == b"78934"
    assert Pieces.of([]).joined() == b""


def test_a_file_that_is_no_library_of_ours_is_not_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of another machine, of another version of the source, and none; nor is any by a Python that can't."""
    with pytest.raises(OSError, match="No such file"):
        load_library(tmp_path / "scan.compiled")
    (tmp_path / "scan.compiled").write_bytes(b"\x7fELF of another machine")
    with pytest.raises(OSError, match="scan"):
        load_library(tmp_path / "scan.compiled")
    monkeypatch.setattr(scanning, "LIBRARY_FILE", tmp_path / "scan.compiled")
    scanner, why = scanning._scanner()
    assert scanner is None
    assert "not loaded: " in why
    if LIBRARY_FILE.is_file():
        assert load_library(LIBRARY_FILE) is not None
        (tmp_path / "scan.c").write_bytes(scanning.SOURCE_FILE.read_bytes() + b"/* changed */\n")
        monkeypatch.setattr(scanning, "SOURCE_FILE", tmp_path / "scan.c")
        with pytest.raises(ValueError, match="install orz-monitor again"):
            load_library(LIBRARY_FILE)
    monkeypatch.setitem(sys.modules, "ctypes", None)
    assert scanning._scanner()[0] is None


@pytest.mark.parametrize("word", ["off", "OFF", "0"])
def test_the_scanner_can_be_switched_off(word: str) -> None:
    """For who suspects it: by a variable of the environment, which processes that read parts of a file get, too."""
    code = "from orz_monitor.transport.scanning import SCANNER, WHY_NOT; print(SCANNER, WHY_NOT)"
    environment = {**os.environ, SWITCH: word}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"None switched off by {SWITCH}\n"


def test_no_byte_is_looked_at_outside_of_a_text(tmp_path: Path) -> None:
    """Under the sanitizers of the compiler, which end a program that does."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        pytest.skip("no C compiler")
    flags = ["-std=c99", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    program, source = tmp_path / "bounds", f'-DSCAN_SOURCE="{scanning.SOURCE_FILE}"'
    command = [compiler, *flags, source, "-o", str(program), str(Path(__file__).with_name("scan_bounds.c"))]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this compiler has no sanitizers")
    environment = {"ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run([program], check=False, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, "every byte was inside\n"), done.stderr[:2000]
