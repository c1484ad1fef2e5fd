"""What another machine may ask of this one: a call by name, JSON in, JSON out. Nothing here alters a checkpoint.

`python -m orz_ckpt.node` reads one request from standard input and writes one reply to standard output:

| line | meaning |
|---|---|
| `{"call": NAME, "arguments": {...}}` | the request |
| `ORZ-NODE {"value": ...}` | the reply; lines before it are whatever the machine's shell prints at a login |
| `ORZ-NODE {"error": TEXT}` | it cannot be answered |
| `ORZ-CHUNK {"offset": N, "nbytes": N, "digest": HEX}` | of the call `chunks`: as many raw bytes follow |
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from orz_ckpt.disk.space import try_room
from orz_ckpt.manifest import MANIFEST_NAME
from orz_ckpt.node import files
from orz_ckpt.node.identity import identify
from orz_ckpt.node.nonces import look
from orz_ckpt.node.probe import clean, probe
from orz_ckpt.node.roots import Root, find_roots, find_run, why_unknown
from orz_ckpt.node.scan import BUDGET_S, scan
from orz_ckpt.node.scanned import Scan, Unread
from orz_ckpt.records import node_records
from orz_cli.errors import OrzError

REPLY: Final = b"ORZ-NODE "
CHUNK: Final = b"ORZ-CHUNK "
MAX_REQUEST_BYTES: Final = 64 * 1024 * 1024
_MAX_MANIFEST_BYTES: Final = 64 * 1024 * 1024


def answer(call: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{"value": ...}`, or `{"error": text}` where this machine cannot answer."""
    function = CALLS.get(call)
    if function is None:
        return {"error": f"this node's orz-ckpt does not know the question {call!r}"}
    try:
        return {"value": function(**arguments)}
    except TypeError as error:
        return {"error": f"this node's orz-ckpt asks {call!r} otherwise: {error}"}
    except (OSError, OrzError) as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": f"this node has not enough memory to answer {call!r}"}


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer the one request in `source`."""
    try:
        request = json.loads(source.readline(MAX_REQUEST_BYTES))
        call, arguments = str(request["call"]), dict(request["arguments"])
    except (ValueError, KeyError, TypeError) as error:
        sink.write(REPLY + json.dumps({"error": f"not a request: {error}"}).encode() + b"\n")
        return
    if call != "chunks":
        sink.write(REPLY + json.dumps(answer(call, arguments)).encode() + b"\n")
        return
    reply: dict[str, Any] = {"value": None}
    try:
        for chunk in files.chunks(**arguments):
            head = {"offset": chunk.offset, "nbytes": len(chunk.data), "digest": chunk.digest}
            sink.write(CHUNK + json.dumps(head).encode() + b"\n")
            sink.write(chunk.data)
    except (OSError, TypeError) as error:
        reply = {"error": str(error)}
    sink.write(REPLY + json.dumps(reply).encode() + b"\n")


def locate(
    runs: Sequence[str], *, driver_cwd: str = "", everywhere: bool = False, budget_s: float = BUDGET_S
) -> dict[str, Any]:
    """Look for weights where each of `runs` may lie here, or below all likely folders.

    Args:
        runs: paths as the user or a configuration spells them, absolute or not.
        driver_cwd: working directory of the command that asks.
        everywhere: look below all likely folders, whatever the runs' names.
        budget_s: for all of it.
    """
    begin = time.monotonic()
    roots = find_roots(driver_cwd=driver_cwd)
    search = _Search(deadline=begin + budget_s)
    unread: list[Unread] = []
    if everywhere:
        # Below the root of all lies everything: it is a place for a name, and none to search.
        search.look([root for root in roots if root.path != "/"], whole_runs=False)
    for run in () if everywhere else runs:
        places = find_run(run, roots)
        unknown = why_unknown(run, driver_cwd=driver_cwd)
        unread += [Unread(path=unknown[0], why=unknown[1])] if unknown else []
        own = [place for place in places if Path(run).is_absolute() and place.path == os.path.realpath(run)]
        search.look(own)
        if not search.has_weights(own):  # where the path itself holds some, other folders of its name are other runs
            search.look([place for place in places if place not in own], by_name=Path(run).is_absolute())
    found = search.found
    pieces = {piece.path: piece for result in found for piece in result.pieces}
    return {
        "roots": [asdict(root) for root in roots],
        "places": [asdict(place) for place in search.places],
        "pieces": [asdict(piece) for piece in pieces.values()],
        "folders": sum(result.folders for result in found),
        "files": sum(result.files for result in found),
        "cut": [f"{result.root}: {why}" for result in found for why in result.cut],
        "left_out": [what for result in found for what in result.left_out],
        "unread": [asdict(entry) for entry in (*unread, *(entry for result in found for entry in result.unread))],
        "seconds": time.monotonic() - begin,
    }


@dataclass(slots=True)
class _Search:
    """One search, of several places."""

    deadline: float
    """On `time.monotonic`."""
    places: list[Root] = field(default_factory=list)
    found: list[Scan] = field(default_factory=list)

    def look(self, places: Sequence[Root], *, whole_runs: bool = True, by_name: bool = False) -> None:
        """Look below places, but below those that lie in one that was looked at.

        Args:
            places: where to look.
            whole_runs: whether each of them is a run's folder.
            by_name: see `LocatedPiece.by_name`.
        """
        self.places += places
        for place in places:
            if any(Path(place.path).is_relative_to(earlier.root) for earlier in self.found):
                continue
            base = place.path if whole_runs else ""
            result = scan(Path(place.path), base=base, deadline=self.deadline, all_disks=whole_runs and not by_name)
            result.pieces = [replace(piece, by_name=by_name) for piece in result.pieces]
            self.found.append(result)

    def has_weights(self, places: Sequence[Root]) -> bool:
        """Return whether there are weights in or below any of these places, as far as was looked."""
        pieces = [piece for result in self.found for piece in result.pieces if piece.weights]
        return any(Path(piece.path).is_relative_to(place.path) for piece in pieces for place in places)


def records(folder: str) -> dict[str, Any]:
    """Return the text of a step folder's manifest, and of what its nodes recorded, by name below the folder.

    Raises:
        OSError: a record cannot be read. A manifest that cannot be read is left out: `LocatedPiece.problem` says so.
    """
    root = Path(folder)
    texts: dict[str, str] = {}
    with suppress(OSError):
        texts |= _text(root, root / MANIFEST_NAME)
    for path, _ in node_records(root):
        texts |= _text(root, path)
    return texts


def _text(root: Path, path: Path) -> dict[str, str]:
    """Return the text of a small file by its name below `root`; nothing where there is none."""
    if not path.is_file() or path.is_symlink() or path.stat().st_size > _MAX_MANIFEST_BYTES:
        return {}
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8", errors="replace")}


def states(paths: Sequence[str]) -> dict[str, Any]:
    """Return the state of each of these plain files that is there."""
    found = {}
    for path in paths:
        with suppress(OSError):
            found[path] = asdict(files.state_of(path))
    return found


def digests(paths: Sequence[str]) -> dict[str, str]:
    """Return the blake3 of each file."""
    return {path: files.digest_of(path) for path in paths}


def _verify(pieces: Sequence[Mapping[str, Any]], **options: Any) -> list[dict[str, Any]]:
    """Verify pieces of checkpoints; see `orz_ckpt.node.verifying`."""
    from orz_ckpt.node.verifying import verify_pieces  # noqa: PLC0415  other questions need no format's reader

    return verify_pieces(pieces, **options)


CALLS: Final[Mapping[str, Callable[..., Any]]] = {
    "identify": lambda: asdict(identify()),
    "probe": lambda asked, **rest: asdict(probe(asked, **rest)),
    "look": lambda asked, **rest: {name: asdict(sight) for name, sight in look(asked, **rest).items()},
    "room": lambda asked, wanted: asdict(try_room(Path(asked).absolute(), wanted)),
    "clean": clean,
    "locate": locate,
    "records": records,
    "states": states,
    "digests": digests,
    "verify": _verify,
}
"""What may be asked, by name."""


def chunks(path: str, offset: int) -> Iterator[files.Chunk]:
    """Yield the bytes of a file; see `orz_ckpt.node.files.chunks`."""
    return files.chunks(path, offset=offset)
