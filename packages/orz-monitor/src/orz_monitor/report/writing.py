"""Make a report and put it where it belongs, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from orz_cli.errors import UsageError
from orz_monitor.addresses import is_url, real
from orz_monitor.dialects import Dialect
from orz_monitor.judge import Judge
from orz_monitor.loading import load_run
from orz_monitor.publishing import is_standard_output, publish, refuse_inputs
from orz_monitor.report.content import Content, gather
from orz_monitor.report.data import as_data
from orz_monitor.report.html import as_html
from orz_monitor.report.markdown import as_markdown

_FORMS: Final[Mapping[str, Callable[[Content], str]]] = {
    ".html": as_html,
    ".htm": as_html,
    ".md": as_markdown,
    ".json": as_data,
}


def targets_of(runs: Sequence[Path], output: Path | None) -> list[Path | None]:
    """Return the file of each run's report; None stands for its default.

    Args:
        runs: what the user named.
        output: of one run, its file; of several, a folder, which is made, with a page named after each run.

    Raises:
        UsageError: several runs, and no folder for their pages.
    """
    if len(runs) == 1:
        return [output]
    if output is None or output.suffix.lower() in _FORMS or output.is_file() or is_standard_output(output):
        said = "none is named" if output is None else f"{output} is one file"
        raise UsageError(
            f"reports of {len(runs)} runs need a folder, and {said}", remedy="give one, such as --output reports"
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{output}: can't be made: {error.strerror or error}", remedy="choose another place with --output"
        ) from error
    targets: list[Path | None] = []
    for run in runs:
        name = real(run).name or "run"
        same = sum(real(other).name == real(run).name for other in runs[: len(targets)])
        targets.append(output / f"{name}{f'-{same + 1}' if same else ''}.html")
    return targets


def write_report(
    run: Path,
    output: Path | None = None,
    *,
    judge: Judge | None = None,
    dialects: Sequence[type[Dialect]] | None = None,
) -> Path:
    """Write the report of a run and return where it is.

    Args:
        run: a run folder or a records file.
        output: the file; its ending chooses the form, `-` is standard output. By default `report.html` beside
            what was read, of a URL in the working directory.
        judge: what judges the run; our rules and the configuration beside the run by default.
        dialects: the dialects to read with; all known ones by default.

    Raises:
        UnreadableRunError: there is no run to report on.
        UsageError: the ending is not known, the file is one of the run itself, or it can't be written.
    """
    if output is not None:
        refuse_inputs(output, [run])
    if output is not None and not is_standard_output(output) and output.suffix.lower() not in _FORMS:
        raise UsageError(
            f"{output}: a report is written as {', '.join(_FORMS)}, not as '{output.suffix}'",
            remedy="give --output a name that ends in one of them",
        )
    loaded = load_run(run, dialects=dialects)
    verdict = (judge or Judge.of())(loaded, run)
    beside = Path() if is_url(loaded.path) else loaded.path.parent
    target = output if output is not None else beside / "report.html"
    text = _FORMS.get(target.suffix.lower(), as_html)(gather(verdict))
    publish(target, lambda path: _write(path, text))
    return target


def _write(path: Path, text: str) -> None:
    """Write the page."""
    path.write_text(text, encoding="utf-8", newline="\n")
