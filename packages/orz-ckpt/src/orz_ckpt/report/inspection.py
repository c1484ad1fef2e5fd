"""What is at a path, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from orz_ckpt.quoting import locate_command
from orz_ckpt.report.text import findings_text
from orz_ckpt.report.words import count, plain, relative, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from orz_ckpt.inspection import Inspection, Model


def inspection_tables(inspection: Inspection, *, all_tensors: bool = False) -> Group:
    """Return everything that `inspect` shows.

    Args:
        inspection: what is at the path.
        all_tensors: list each tensor, too.
    """
    return Group(*_parts(inspection, all_tensors=all_tensors))


def _parts(inspection: Inspection, *, all_tensors: bool) -> Iterator[RenderableType]:
    yield Text.assemble((plain(str(inspection.path)), "bold"), f"  {inspection.kind}")
    if inspection.checkpoints:
        yield from _checkpoints(inspection)
    elif inspection.kind == "run":
        yield Text("  this run has saved nothing here yet; it may have on another node:")
        yield Text(f"  {locate_command(inspection.path)}    # on a node of the cluster, or --hosts", "bold")
    for model in inspection.models:
        yield Text("")
        yield _about(model, str(inspection.path))
        yield _types(model)
        if all_tensors:
            yield _tensors(model)
    if inspection.findings:
        yield findings_text(inspection.findings, str(inspection.path))


def _checkpoints(inspection: Inspection) -> Iterator[RenderableType]:
    table = _table("step", "committed", "path")
    for entry in inspection.checkpoints:
        state = "yes" if entry.committed else entry.state
        table.add_row(str(entry.step), state, plain(relative(str(entry.path), str(inspection.path))))
    yield table
    for entry in inspection.checkpoints:
        if entry.unusable:
            yield Text(f"  step {entry.step}: {plain(entry.problem)}")


def _about(model: Model, base: str) -> Table:
    source = model.source
    architectures = model.config.get("architectures")
    architecture = ", ".join(map(str, architectures)) if isinstance(architectures, list) else ""
    code = ", ".join(model.code) or ("named by config.json" if model.remote_code else "")
    rows = {
        "role": model.role,
        "path": relative(str(source.path), base) if str(source.path) != base else "",
        "format": source.format,
        "written by": source.writer,
        "step": "" if source.step is None else str(source.step),
        "ranks": "" if source.world_size is None else str(source.world_size),
        "architecture": architecture,
        "parameters": f"{model.parameters:,} in {count(len(source.tensors), 'tensor')}",
        "tied": ", ".join(f"{alias} = {name}" for alias, name in source.aliases.items()),
        "size": f"{size(model.bytes)} of tensors in {count(len(model.weight_files), 'file')}",
        **source.facts,
        "remote code": code,
    }
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for key, value in rows.items():
        if value:
            table.add_row(Text(f"  {plain(key)}"), Text(plain(value)))
    return table


def _types(model: Model) -> Table:
    table = _table("type", ">tensors", ">numbers", ">size")
    for share in model.shares():
        table.add_row(share.dtype, f"{share.tensors:,}", f"{share.numbers:,}", size(share.bytes))
    return table


def _tensors(model: Model) -> Table:
    table = _table("tensor", "type", "shape", ">size", ">pieces")
    for tensor in model.source.tensors.values():
        shape = str(list(tensor.shape))
        table.add_row(Text(plain(tensor.name)), tensor.dtype, Text(shape), size(tensor.nbytes), str(len(tensor.pieces)))
    return table


def _table(*columns: str) -> Table:
    """Return a table; a column whose title begins with `>` holds numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=True)
    for title in columns:
        table.add_column(title.removeprefix(">"), justify="right" if title.startswith(">") else "left", overflow="fold")
    return table
