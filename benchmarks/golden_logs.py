"""Writes the logs that the tests of the dialects read into a folder: what a fuzzer of logs begins with.

    python benchmarks/golden_logs.py FOLDER

Runs those tests, and keeps the first log that each of them gives to a reader, in a file of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import pytest

from orz_monitor.reading import Reader

ROOT: Final = Path(__file__).parent.parent
TESTS: Final = ROOT / "tests/unit/monitor/dialects"
LONGEST: Final = 1 << 13
"""Bytes of a log that are kept; what is longer repeats itself."""


class Recorder:
    """A plug-in of pytest that keeps what readers are given.

    Attributes:
        logs: the first log that each test read, by its name without parameters.
    """

    def __init__(self) -> None:
        self.logs: dict[str, bytes] = {}
        self._read: dict[int, tuple[Reader, bytes]] = {}
        self._feed = Reader.feed

    def pytest_sessionstart(self) -> None:
        """Stand in for `Reader.feed`."""

        def feed(reader: Reader, chunk: bytes) -> None:
            before = self._read.get(id(reader), (reader, b""))[1]
            self._read[id(reader)] = reader, (before + chunk)[:LONGEST]  # kept alive, or its number is given again
            self._feed(reader, chunk)

        Reader.feed = feed  # type: ignore[method-assign]

    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """Keep what a test read first."""
        for _, text in self._read.values():
            self.logs.setdefault(item.nodeid.partition("[")[0], text)
        self._read.clear()

    def pytest_sessionfinish(self) -> None:
        """Put it back."""
        Reader.feed = self._feed  # type: ignore[method-assign]


def main() -> int:
    """Run the tests and write the logs; return pytest's exit code."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and the folder
        raise SystemExit((__doc__ or "").partition("\n\n")[2])
    folder, recorder = Path(sys.argv[1]), Recorder()
    options = ("--quiet", f"--rootdir={ROOT}", "-p", "no:cacheprovider")
    code = int(pytest.main([*options, str(TESTS)], plugins=[recorder]))
    for index, log in enumerate(dict.fromkeys(recorder.logs.values())):
        (folder / f"{index:04}.log").write_bytes(log)
    return code


if __name__ == "__main__":
    sys.exit(main())
