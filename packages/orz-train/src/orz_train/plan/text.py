"""A plan for people: tables on a terminal, aligned plain text in a pipe."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence

import typer
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from orz_cli.findings import Severity
from orz_cli.output import OutputConsole
from orz_train.plan.arithmetic import Batches, OrzUpdates, Rows, Updates
from orz_train.plan.disk import Disk
from orz_train.plan.memory import Memory
from orz_train.plan.placement import Placement
from orz_train.plan.summary import Plan
from orz_train.plan.units import count, gb, share, times

WHY_ORZ_COUNTS_MOVE = (
    "Why the count in ORZ's log moves: its progress bars count packed rows a rank, so longer responses mean more of"
    " them. It takes an optimizer step every rows // update_steps rows and drops what remains. Here an update takes its"
    " share of the rollouts, so the number of optimizer steps never moves and no rollout is dropped."
)

PIPE_WIDTH = 150
"""Columns where no terminal says how many there are."""


def write_plan(plan: Plan, console: Console) -> None:
    """Print a plan, section by section."""
    _title(plan, console)
    _section(console, "What each parameter means here")
    console.print(_glossary(plan, console))
    _section(console, "One step")
    _paragraphs(console, step_sentences(plan.batches))
    console.print(_rows(plan.batches, console, with_orz=plan.follows_orz))
    if plan.follows_orz:
        _paragraphs(console, [WHY_ORZ_COUNTS_MOVE])
    if plan.memory:
        holder = {"local": "the process", "processes": "a process"}.get(plan.placement.layout, "a device")
        _section(console, f"Memory of {holder} (estimates; the formulas are in --json)")
        console.print(_memory(plan.memory, plan.placement, console))
        _paragraphs(console, memory_sentences(plan))
    if plan.disk:
        _section(console, "Disk (estimates)")
        _paragraphs(console, disk_sentences(plan.disk))
    _findings(plan, console)


def write_summary(plan: Plan, console: Console) -> None:
    """Print the sentences of a plan, without its tables."""
    _title(plan, console)
    _paragraphs(console, step_sentences(plan.batches))
    _paragraphs(console, memory_sentences(plan))
    if plan.disk:
        _paragraphs(console, disk_sentences(plan.disk))
    _findings(plan, console)


def show(plan: Plan, write: Callable[[Plan, Console], None], *, stderr: bool = False) -> None:
    """Print a plan to stdout or stderr: coloured on a terminal, plain and without trailing blanks in a pipe."""
    console = OutputConsole(highlight=False, stderr=stderr)
    if console.is_terminal:
        write(plan, console)
        return
    wide = Console(highlight=False, width=PIPE_WIDTH, file=io.StringIO(), color_system=None)
    with wide.capture() as captured:
        write(plan, wide)
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()), err=stderr)


def step_sentences(batches: Batches) -> Iterator[str]:
    """Say how prompts become optimizer steps, with this run's numbers."""
    yield (
        f"{batches.prompts:,} prompts x {batches.samples:,} samples = {batches.rollouts:,} rollouts, which are packed"
        " into rows; the row size changes memory and speed, never which rollouts an update sees."
    )
    for updates in (batches.policy, batches.critic):
        if updates:
            yield _update_sentence(updates, batches.rollouts)
    if batches.num_prompts is not None and batches.steps_per_episode is not None:
        yield (
            f"{batches.num_prompts:,} prompts / {batches.prompts:,} a step ="
            f" {batches.num_prompts / batches.prompts:,.1f}, so an episode has {batches.steps_per_episode:,} steps."
        )
    if batches.num_steps is not None:
        totals = " and ".join(
            f"{updates.in_run:,} {updates.role} updates"
            for updates in (batches.policy, batches.critic)
            if updates and updates.in_run is not None
        )
        yield f"The run has {batches.num_steps:,} steps: {totals}."


def memory_sentences(plan: Plan) -> Iterator[str]:
    """Say where the roles are and what their numbers stand for."""
    placement, needs = plan.placement, plan.memory
    if placement.layout == "local":
        yield "One plain process holds all roles at once; the generator samples with the policy's own weights."
    for group in placement.groups:
        turns = ", in turns" if len(group.roles) > 1 else ""
        yield f"{group.devices}: {', '.join(group.roles)}{turns}."
    if placement.layout == "processes":
        yield f"On CPUs, each a process: {times(placement.policy_ranks, 'rank')} of each model, and the engines."
        yield f"Generation: {times(placement.engines, 'engine')}."
    elif placement.layout != "local":
        yield f"Generation: {times(placement.engines, 'engine')} of {times(placement.tensor_parallel, 'GPU')}."
    if needs and plan.shape:
        sampler = "The generator" if placement.layout == "local" else "An engine"
        yield (
            f"{sampler} samples {needs.in_flight:,} sequences at a time; at full length they want"
            f" {gb(needs.kv_wanted)} of KV cache."
        )
        yield f"At most about {gb(needs.peak)} at a time, for a policy of {count(plan.shape.num_params)} parameters."


def disk_sentences(usage: Disk) -> Iterator[str]:
    """Say what checkpoints take and what is free."""
    critic = f" + critic {gb(usage.critic)}" if usage.critic else ""
    yield (
        f"A checkpoint: policy {gb(usage.policy)}{critic} + state for a resume {gb(usage.state)}"
        f" = {gb(usage.checkpoint)}."
    )
    if usage.saves is not None and usage.needed is not None:
        at_once = "all kept" if usage.kept == usage.saves else f"at most {usage.kept} at a time"
        yield f"The run saves {usage.saves:,} of them, {at_once}: {gb(usage.needed)}."
    free = "unknown" if usage.free is None else f"{gb(usage.free)} free"
    yield f"{usage.folder}: {free}."


def _title(plan: Plan, console: Console) -> None:
    line = Text(plan.config.name, style="bold")
    if plan.config.description:
        line.append(f"  {plan.config.description}", style="not bold")
    console.print(line)
    console.print(
        f"{plan.config.algorithm.kind} on {plan.config.policy.model}, backend {plan.config.backend}", style="dim"
    )


def _section(console: Console, title: str) -> None:
    console.print()
    console.print(Text(title, style="bold cyan"))


def _paragraphs(console: Console, sentences: Iterable[str]) -> None:
    for sentence in sentences:
        console.print(Padding(Text(sentence), (0, 0, 0, 2)))


def _table(console: Console, columns: Sequence[tuple[str, str]]) -> Table:
    """Make an empty table of (heading, alignment) columns; without frames in a pipe."""
    style = box.SIMPLE_HEAD if console.is_terminal else None
    table = Table(box=style, pad_edge=True, header_style="bold", padding=(0, 1))
    for heading, alignment in columns:
        table.add_column(heading, justify="right" if alignment == "right" else "left", overflow="fold")
    return table


def _glossary(plan: Plan, console: Console) -> Table:
    table = _table(console, [("parameter", "left"), ("value", "right"), ("meaning", "left"), ("in ORZ", "left")])
    for term in plan.terms:
        table.add_row(term.key, term.value, term.meaning, term.orz)
    return table


def _rows(batches: Batches, console: Console, *, with_orz: bool) -> Table:
    headings = [("mean response", "left"), ("tokens a step", "right"), ("rows", "right"), ("policy steps", "right")]
    headings += [("critic steps", "right")] if batches.critic else []
    if with_orz:
        headings += [("ORZ's policy bar", "left")]
        headings += [("ORZ's critic bar", "left")] if batches.critic else []
    table = _table(console, headings)
    for rows in batches.rows:
        cells = [_length(rows), count(rows.step_tokens), f"{rows.num_rows:,}", f"{batches.policy.per_step:,}"]
        cells += [f"{batches.critic.per_step:,}"] if batches.critic else []
        if with_orz:
            cells += [_orz_bar(rows.orz_policy)]
            cells += [_orz_bar(rows.orz_critic)] if rows.orz_critic else []
        table.add_row(*cells)
    return table


def _memory(needs: Memory, placement: Placement, console: Console) -> Table:
    parts = ("weights", "gradients", "optimizer", "activations", "logits", "kv_cache", "total")
    table = _table(console, [("role", "left"), *((part.replace("_", " "), "right") for part in parts)])
    for role in needs.roles:
        sizes = [getattr(role, part) for part in parts]
        shared = role.role == "generator" and placement.layout == "local"
        table.add_row(role.role, *("shared" if shared and i == 0 else gb(x) if x else "-" for i, x in enumerate(sizes)))
    return table


def _findings(plan: Plan, console: Console) -> None:
    if not plan.findings:
        return
    _section(console, "Warnings and remarks")
    for finding in plan.findings:
        warns = finding.severity is Severity.WARN
        line = Text("warning: " if warns else "note: ", style="bold yellow" if warns else "bold")
        line.append(finding.message, style="not bold default")
        console.print(Padding(line, (0, 0, 0, 2)))
        if finding.remedy:
            console.print(Padding(Text(f"-> {finding.remedy}"), (0, 0, 0, 4)))


def _update_sentence(updates: Updates, rollouts: int) -> str:
    each = "" if updates.per_step == 1 else "each "
    seen = share(updates.rollouts_each, rollouts)
    return f"The {updates.role} takes {times(updates.per_step, 'optimizer step')}, {each}on {seen}."


def _length(rows: Rows) -> str:
    return f"{rows.response_tokens:,} tokens ({rows.fraction:.0%} of the limit)"


def _orz_bar(orz: OrzUpdates) -> str:
    dropped = f", {orz.dropped_rows:,} dropped" if orz.dropped_rows else ""
    steps = times(orz.optimizer_steps, "step")
    return f"{times(orz.rows_per_rank, 'row')}, {steps} of {orz.accumulation:,}{dropped}"
