"""SQLite files of other tools, opened so that nothing is ever written to them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from orz_monitor.errors import unreadable

MAGIC: Final = b"SQLite format 3\0"
_WAIT_S: Final = 5.0
"""How long to wait for a writer."""
_COLUMNS: Final = 2000
"""The most columns a table of SQLite has by default."""


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database for reading, also one that is being written.

    A database with a write-ahead log on a file system that is read-only can't be locked; it is read as it stands.

    Raises:
        UnreadableRunError: it is no database, or damaged; also while it is read within the `with`.
    """
    try:
        with closing(_connected(path)) as connection:
            yield connection
    except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
        remedy = "copy it together with its -wal file, or when the run is over"
        raise unreadable(path, error, form="a SQLite database", remedy=remedy) from error


def tables(connection: sqlite3.Connection) -> dict[str, frozenset[str]]:
    """Return the names of each table's columns."""
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    quoted = {name: '"' + str(name).replace('"', '""') + '"' for name in names[:_COLUMNS]}
    return {
        str(name): frozenset(str(row[1]) for row in connection.execute(f"PRAGMA table_info({inside})"))
        for name, inside in quoted.items()
    }


def _connected(path: Path) -> sqlite3.Connection:
    """Connect read-only; without locks where these can't be had."""
    place = f"file:{quote(str(path.resolve()))}?mode=ro"
    connection = sqlite3.connect(place, uri=True, timeout=_WAIT_S)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        if "unable to open" not in str(error) and "readonly" not in str(error):
            raise
        connection = sqlite3.connect(f"{place}&immutable=1", uri=True, timeout=_WAIT_S)
    except sqlite3.Error:
        connection.close()
        raise
    connection.text_factory = lambda raw: raw.decode("utf-8", errors="replace")
    return connection
