"""Was there any weight to judge? Where there was none, that nothing is wrong says nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from orz_ckpt.checks.model import is_beside
from orz_ckpt.checks.torch_files import is_torch_file
from orz_ckpt.findings import CkptFinding, Report, conclude, finding
from orz_ckpt.formats.safetensors import SUFFIX
from orz_ckpt.inventory import WEIGHTS_SUFFIXES
from orz_ckpt.quoting import locate_command, shell_path
from orz_ckpt.subject import Kind
from orz_cli.findings import Status

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from orz_ckpt.subject import Subject

_STATE: Final = "state"
"""The folder of a checkpoint that a training goes on from; its files are the trainer's own."""


def nothing_foreign(path: Path, report: Report, findings: Sequence[CkptFinding]) -> list[CkptFinding]:
    """Say that what no manifest covers has no tensor in it, unless something worse has been said.

    Args:
        path: a folder or a file.
        report: of it.
        findings: all of it so far.
    """
    if report.tensors or conclude(findings) is not Status.OK:
        return []
    if path.is_file() and is_beside(path.name):
        return [_beside(path, path.parent)]
    return [_empty(path)]


def nothing_covered(
    subject: Subject, roles: Collection[str], report: Report, findings: Sequence[CkptFinding]
) -> list[CkptFinding]:
    """Say that a checkpoint, or what was asked for of it, has no tensor in it, unless something worse has been said.

    Files to go on from are no weights, and are judged without.

    Args:
        subject: the checkpoint, or a part of it.
        roles: the folders of its models, relative to it.
        report: of it.
        findings: all of it so far.

    Raises:
        OSError: a file cannot be read.
    """
    part = subject.prefix
    if report.tensors or conclude(findings) is not Status.OK or part.partition("/")[0] == _STATE:
        return []
    if subject.kind is Kind.PART and part not in roles:
        weights = any(name.endswith(WEIGHTS_SUFFIXES) for name in report.checked)
        return [] if weights else [_beside(subject.path, subject.root)]
    mine = [Path(name) for name in report.checked if not Path(name).is_relative_to(subject.root / _STATE)]
    if roles or any(file.suffix == SUFFIX or is_torch_file(file) for file in mine):
        return [_empty(subject.path)]
    return []


def _empty(path: Path) -> CkptFinding:
    locate = locate_command(path)
    remedy = f"save the model again; if another node wrote its weights: {locate}"
    return finding("no_weights", "it holds no tensor", remedy=remedy, path=path)


def _beside(path: Path, folder: Path) -> CkptFinding:
    message = "it is none of the weights, and of them nothing is said"
    return finding("beside_weights", message, remedy=f"orz ckpt verify {shell_path(folder)}", path=path)
