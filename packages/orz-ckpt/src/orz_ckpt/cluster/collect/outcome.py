"""What a collection did, or would do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orz_ckpt.cluster.collect.plan import Origin, PlannedFile
from orz_ckpt.findings import CkptFinding, conclude
from orz_cli.findings import Severity, Status, to_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """A file and what is to be done about it."""

    file: PlannedFile
    origin: Origin
    there: bool
    """Whether it is at the destination already."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gathered:
    """One checkpoint."""

    rel: str
    kind: str
    step: int | None
    moves: Sequence[Move]
    complete: bool | None
    committed: bool
    """Whether its manifest is at the destination; always False in a dry run, and for other formats."""

    @property
    def to_copy(self) -> list[Move]:
        """What is not at the destination yet."""
        return [move for move in self.moves if not move.there]

    @property
    def nbytes(self) -> int:
        """Of all its files."""
        return sum(move.file.size for move in self.moves)


@dataclass(frozen=True, kw_only=True, slots=True)
class Collection:
    """What was brought together."""

    runs: Sequence[str]
    dest: str
    dry_run: bool
    gathered: Sequence[Gathered]
    findings: Sequence[CkptFinding]
    copied_bytes: int
    seconds: float

    def status(self, fail_on: Severity = Severity.ERROR) -> Status:
        """Conclude from the findings."""
        return conclude(self.findings, fail_on)

    def to_json(self, fail_on: Severity = Severity.ERROR) -> dict[str, Any]:
        """Return the JSON object that all judging commands share, with this command's own keys behind."""
        return to_json(
            self.status(fail_on),
            self.findings,
            path=", ".join(self.runs),
            to=self.dest,
            dry_run=self.dry_run,
            checkpoints=[
                {
                    "rel": one.rel,
                    "kind": one.kind,
                    "step": one.step,
                    "files": len(one.moves),
                    "bytes": one.nbytes,
                    "complete": one.complete,
                    "committed": one.committed,
                    "moves": [
                        {
                            "name": move.file.name,
                            "bytes": move.file.size,
                            "node": move.origin.node,
                            "path": move.origin.path,
                            "there": move.there,
                        }
                        for move in one.moves
                    ],
                }
                for one in self.gathered
            ],
            copied_bytes=self.copied_bytes,
            seconds=round(self.seconds, 3),
        )
