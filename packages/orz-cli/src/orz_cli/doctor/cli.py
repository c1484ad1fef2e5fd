"""The command `orz doctor`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orz_cli.doctor.machine import GIB, Machine
from orz_cli.doctor.probes import PROBES, cluster_needs
from orz_cli.doctor.survey import PACKAGES, survey
from orz_cli.findings import Finding, Severity, Status, status_of, to_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_STYLES = {Severity.ERROR: "bold red", Severity.WARN: "bold yellow", Severity.INFO: "dim"}


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check this machine, and name the remedy of each problem.

    Versions, devices, memory and disk. Imports neither torch nor vLLM, so it answers where these are broken.
    """
    machine = survey()
    findings = judge(machine)
    status = status_of(findings)
    if as_json:
        typer.echo(json.dumps(to_json(status, findings, machine=machine_to_json(machine)), indent=2))
    else:
        _show(machine, findings, status)
    raise typer.Exit(status.exit_code)


def judge(machine: Machine) -> list[Finding]:
    """Return the findings of all probes, the worst first."""
    ranks = list(Severity)
    findings = [finding for probe in PROBES for finding in probe(machine)]
    return sorted(findings, key=lambda finding: ranks.index(finding.severity))


def machine_to_json(machine: Machine) -> dict[str, Any]:
    """Return a machine's facts as JSON values."""
    facts = asdict(machine)
    facts["cpu_flags"] = None if machine.cpu_flags is None else sorted(machine.cpu_flags)
    facts["gpus"] = list(facts["gpus"])
    return facts


def _show(machine: Machine, findings: Sequence[Finding], status: Status) -> None:
    from rich.text import Text  # noqa: PLC0415  likewise

    from orz_cli.output import OutputConsole  # noqa: PLC0415  `orz --help` imports this module and needs no rich

    console = OutputConsole(highlight=False, soft_wrap=True)
    for label, value in _facts(machine):
        console.print(Text.assemble((f"{label:<15}", "bold"), value))
    console.print()
    for finding in findings:
        text = Text.assemble((f"{finding.severity.value:<6}", _STYLES[finding.severity]), finding.message)
        if finding.remedy:
            text.append(f"\n      -> {finding.remedy}")
        console.print(text)
    counts = [f"{sum(finding.severity is severity for finding in findings)} {severity.value}" for severity in Severity]
    style = "bold green" if status is Status.OK else "bold red"
    console.print(Text.assemble((status.value, style), f": {', '.join(counts)}"))


def _facts(machine: Machine) -> Iterator[tuple[str, str]]:
    yield "python", machine.python
    yield "platform", f"{machine.platform} {machine.architecture}, {machine.num_cores} cores"
    for gpu in machine.gpus:
        yield "device", f"{gpu.name}, {gpu.memory_bytes / GIB:.0f} GiB, driver {gpu.driver}"
    if not machine.gpus:
        yield "device", "no NVIDIA driver answers: CPU"
    if machine.cpu_flags is not None:
        found = [name for flag, name in (("avx2", "AVX2"), ("avx512f", "AVX-512")) if flag in machine.cpu_flags]
        yield "instructions", ", ".join(found) or "neither AVX2 nor AVX-512"
    for name in PACKAGES:
        package = machine.packages.get(name)
        pin = machine.pins.get(name) if name in cluster_needs(machine) else None
        differs = pin is not None and (package is None or package.release != pin)
        yield name, str(package or "-") + (f" (orz-train asks for {pin})" if differs else "")
    for name, path in machine.programs.items():
        yield f"program {name}", path
    if machine.memory_bytes is not None and machine.free_memory_bytes is not None:
        free, total = machine.free_memory_bytes / GIB, machine.memory_bytes / GIB
        yield "memory", f"{free:.1f} of {total:.1f} GiB free"
    if machine.shm_bytes is not None:
        yield "shared memory", f"{machine.shm_bytes / GIB:.1f} GiB"
    if machine.free_bytes is not None:
        yield "free disk", f"{machine.free_bytes / GIB:.1f} GiB in {machine.work_dir}"
    yield "Ray temp", machine.ray_temp_dir
