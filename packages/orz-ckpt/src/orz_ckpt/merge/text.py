"""What a merge came to, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from orz_ckpt.quoting import shell_word
from orz_ckpt.report.text import STATUS_STYLES, findings_text
from orz_ckpt.report.words import count, plain, size
from orz_ckpt.tensors.cast import TORCH_NAMES
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from orz_ckpt.merge.run import Merged


def merge_text(merged: Merged, fail_on: Severity = Severity.ERROR) -> Text:
    """Return what was merged, what was found, and what to run next; `str` of it is plain text."""
    status, source = merged.status(fail_on), merged.source
    text = Text()
    text.append(f"{status.value.upper()} ", STATUS_STYLES[status])
    text.append(plain(str(merged.out if merged.written else source.path)), "bold")
    said = [f"from {source.format}", plain(source.writer)]
    said += [f"step {source.step}"] if source.step is not None else []
    said += [count(source.world_size, "rank")] if source.world_size is not None else []
    text.append(f"\n  {', '.join(part for part in said if part)}", "dim")
    text.append_text(findings_text(merged.findings, str(source.path)))
    text.append(f"\n  {_summary(merged)}\n", "dim")
    if merged.written:
        text.append(f"  next: orz ckpt verify {shell_word(str(merged.out))}\n")
    return text


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
