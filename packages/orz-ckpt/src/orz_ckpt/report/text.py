"""The pieces of a verdict as rich texts, for what puts tables beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from orz_ckpt.report.styled import findings_pieces, headline_pieces

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orz_ckpt.findings import CkptFinding
    from orz_cli.findings import Status


def headline(status: Status, subject: str) -> Text:
    """Return how a verdict begins: `FAILED runs/exp`."""
    return Text.assemble(*headline_pieces(status, subject))


def findings_text(findings: Iterable[CkptFinding], base: str) -> Text:
    """Return all findings, errors first, each beginning with a new line; paths as seen from `base`."""
    return Text.assemble(*findings_pieces(findings, base))
