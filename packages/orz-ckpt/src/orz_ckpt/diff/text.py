"""How two checkpoints differ, as tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Group as Lines
from rich.table import Table
from rich.text import Text

from orz_ckpt.diff.summary import most_changed_first
from orz_ckpt.report.words import count, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import RenderableType

    from orz_ckpt.diff.summary import Diff, Group, TensorDiff

_MAX_NAMES: Final = 10
_TENSORS: Final = 15
"""Tensors that are listed, the most changed ones."""


def diff_tables(diff: Diff) -> Lines:
    """Return the verdict in a line, then what differs by kind of tensor, by layer, and the most changed tensors."""
    return Lines(*_parts(diff))


def verdict(diff: Diff) -> str:
    """Say in one sentence how they differ. Example: `B is A in another type: F32 -> BF16`."""
    if diff.same:
        return f"B is A in another type: {diff.types}" if diff.types else "all tensors have equal bits"
    if not diff.changed and diff.tensors:
        parts = [f"all {len(diff.tensors):,} tensors that both have are equal"]
    else:
        parts = [f"{len(diff.changed):,} of {count(len(diff.tensors), 'tensor')} changed"]
    parts += [f"{count(len(names), 'tensor')} {where}" for names, where in _others(diff) if names]
    return "; ".join(parts)


def _parts(diff: Diff) -> Iterator[RenderableType]:
    yield Text.assemble(("A ", "bold"), plain(str(diff.a.path)))
    yield Text.assemble(("B ", "bold"), plain(str(diff.b.path)))
    yield Text(verdict(diff), "bold")
    for names, where in _others(diff):
        yield from _named(names, where)
    if diff.changed:
        yield _groups("kind of tensor", diff.by_module())
        yield _groups("layer", diff.by_layer())
        yield _most_changed(diff)


def _others(diff: Diff) -> list[tuple[Sequence[str], str]]:
    return [(diff.only_a, "only in A"), (diff.only_b, "only in B"), (diff.unlike, "of another shape or type")]


def _named(names: Sequence[str], where: str) -> Iterator[Text]:
    if names:
        more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
        yield Text(f"  {where}: {', '.join(map(plain, names[:_MAX_NAMES]))}{more}")


def _groups(title: str, groups: Iterable[Group]) -> Table:
    table = _table(title, "changed", "numbers changed", "relative norm", "largest change")
    for group in groups:
        table.add_row(
            Text(plain(group.name)),
            f"{group.changed_tensors} of {group.tensors}",
            _changed(group),
            _number(group.relative, group),
            _number(group.largest, group),
        )
    return table


def _most_changed(diff: Diff) -> Table:
    table = _table("tensor, most changed first", "type", "numbers changed", "relative norm", "largest change")
    ordered = sorted(diff.changed, key=most_changed_first)
    for tensor in ordered[:_TENSORS]:
        types = tensor.dtype_a if tensor.dtype_a == tensor.dtype_b else f"{tensor.dtype_a} -> {tensor.dtype_b}"
        table.add_row(
            Text(plain(tensor.name)),
            types,
            _changed(tensor),
            _number(tensor.relative, tensor),
            _number(tensor.largest, tensor),
        )
    if len(ordered) > _TENSORS:
        table.add_row(Text(f"and {len(ordered) - _TENSORS} more", "dim"))
    return table


def _changed(changed: TensorDiff | Group) -> str:
    """Return the share of the numbers, and how many of them are no numbers now, or were none."""
    bad = f" ({changed.nonfinite:,} NaN or Inf)" if changed.nonfinite else ""
    return f"{_share(changed.changed_share)}{bad}"


def _share(share: float) -> str:
    if 0 < share < 0.0001:  # noqa: PLR2004  too little to see as a percentage
        return f"{share:.1e}"
    return f"{share:.2%}"


def _number(value: float, of: TensorDiff | Group) -> str:
    """Return the number; `-` for a type that has none, where `nan` would be read as one that broke."""
    return "-" if math.isnan(value) and not of.nonfinite else f"{value:.3g}"


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=True)
    table.add_column(first, overflow="fold")
    for title in numbers:
        table.add_column(title, justify="right")
    return table
