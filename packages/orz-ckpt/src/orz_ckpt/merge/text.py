"""What a merge came to, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orz_ckpt.quoting import shell_path
from orz_ckpt.report.styled import findings_pieces, headline_pieces
from orz_ckpt.report.words import count, plain, size
from orz_ckpt.tensors.cast import TORCH_NAMES
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from orz_ckpt.merge.result import Merged
    from orz_cli.styled import Styled


def merge_pieces(merged: Merged, fail_on: Severity = Severity.ERROR) -> Styled:
    """Yield what was merged, what was found, and what to run next."""
    source = merged.source
    yield from headline_pieces(merged.status(fail_on), str(merged.out if merged.written else source.path))
    said = [f"from {source.format}", plain(source.writer)]
    said += [f"step {source.step}"] if source.step is not None else []
    said += [count(source.world_size, "rank")] if source.world_size is not None else []
    yield f"\n  {', '.join(part for part in said if part)}", "dim"
    yield from findings_pieces(merged.findings, str(source.path))
    yield f"\n  {_summary(merged)}\n", "dim"
    if merged.written:
        yield f"  next: orz ckpt verify {shell_path(merged.out)}\n", ""


def _summary(merged: Merged) -> str:
    if not merged.written:
        return "nothing was written"
    dtypes = ", ".join(TORCH_NAMES.get(dtype, dtype) for dtype in merged.dtypes)
    written = (
        f"{count(merged.tensors, 'tensor')}, {merged.parameters:,} numbers, {dtypes},"
        f" {size(merged.bytes)} in {count(merged.files, 'file')}"
    )
    if merged.was_there:
        return f"{written} · the same merge was done before: nothing was written"
    kept = f" · {count(merged.kept, 'file')} kept of an earlier run" if merged.kept else ""
    rate = size(int(merged.bytes / max(merged.seconds, 1e-3)))
    return f"{written}{kept} · {merged.seconds:.1f} s, {rate}/s"
