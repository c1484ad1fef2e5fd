"""What all nodes found of one run, and what it adds up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orz_ckpt.cluster.verdict import NodeFinding
from orz_ckpt.findings import Level, conclude
from orz_cli.findings import Severity, Status, to_json


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifiedPiece:
    """What one node has of a checkpoint, verified there."""

    node: str
    nodes: tuple[str, ...]
    """All that see it."""
    path: str
    rel: str
    """Where it belongs below the run's folder."""
    kind: str
    step: int | None
    ranks: tuple[int, ...]
    """Of which there are shards here, where the format has any."""
    files: int
    bytes: int
    tensors: int
    whole: bool
    """Whether it was verified as a checkpoint; otherwise each file was by itself."""
    findings: tuple[NodeFinding, ...]

    def status(self, fail_on: Severity = Severity.ERROR) -> Status:
        """Conclude from what was found here."""
        return conclude(self.findings, fail_on)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterReport:
    """What one verification over several nodes found."""

    path: str
    level: Level
    nodes: Sequence[str]
    pieces: Sequence[VerifiedPiece]
    findings: Sequence[NodeFinding]
    newest_good: str
    """Where the newest checkpoint without an error belongs; empty where there is none."""
    seconds: float
    kind: str = "nodes"

    @property
    def command(self) -> str:
        """What was run, as it stands behind `orz ckpt`."""
        return f"verify {self.level.value}"

    @property
    def checked(self) -> Sequence[str]:
        """The folders that were verified."""
        return [piece.path for piece in self.pieces]

    def status(self, fail_on: Severity = Severity.ERROR) -> Status:
        """Conclude from the findings."""
        return conclude(self.findings, fail_on)

    def to_json(self, fail_on: Severity = Severity.ERROR) -> dict[str, Any]:
        """Return the JSON object that all judging commands share, with this command's own keys behind."""
        return to_json(
            self.status(fail_on),
            self.findings,
            path=self.path,
            kind=self.kind,
            level=self.level.value,
            files=sum(piece.files for piece in self.pieces),
            bytes=sum(piece.bytes for piece in self.pieces),
            tensors=sum(piece.tensors for piece in self.pieces),
            seconds=round(self.seconds, 3),
            newest_good=self.newest_good,
            nodes=list(self.nodes),
            pieces=[
                {
                    **{key: value for key, value in asdict(piece).items() if key != "findings"},
                    "status": piece.status(fail_on).value,
                }
                for piece in self.pieces
            ],
        )


def together(reports: Sequence[ClusterReport]) -> ClusterReport:
    """Return one report of several paths, with the findings of all; of one path it is that path's own."""
    if len(reports) == 1:
        return reports[0]
    return ClusterReport(
        path=", ".join(report.path for report in reports),
        level=reports[0].level,
        nodes=list(dict.fromkeys(node for report in reports for node in report.nodes)),
        pieces=[piece for report in reports for piece in report.pieces],
        findings=[entry for report in reports for entry in report.findings],
        newest_good="",
        seconds=sum(report.seconds for report in reports),
    )
