"""What a merge is asked for, and what it came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from orz_ckpt.findings import CkptFinding, conclude
from orz_ckpt.tensors.cast import CASTABLE, TORCH_NAMES
from orz_cli.errors import UsageError
from orz_cli.findings import Severity, Status, to_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orz_ckpt.tensors.source import Source

DEFAULT_SHARD_BYTES: Final = 5_000_000_000
DEFAULT_MEMORY_BYTES: Final = 64 * 1024 * 1024
DEFAULT_JOBS: Final = 6
"""Threads, more than there may be processors: while some wait for the disk, the others cast and hash."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What a merge writes, and with how much.

    Raises:
        UsageError: `dtype` is none that tensors are cast to.
    """

    dtype: str = "keep"
    """`keep`, or a name of `cast.CASTABLE`: `BF16`."""
    max_shard_bytes: int = DEFAULT_SHARD_BYTES
    config: Path | None = None
    """A folder with `config.json` and tokenizer; those of the checkpoint where None."""
    jobs: int = DEFAULT_JOBS
    max_memory_bytes: int = DEFAULT_MEMORY_BYTES
    """Of all buffers together."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """Laid over `config.json`; None removes a key."""
    command: tuple[str, ...] = ("merge",)
    """Of `orz ckpt`, with the options that are not among these: whoever finds it cut off is told to give it again."""

    def __post_init__(self) -> None:
        if self.dtype not in {"keep", *CASTABLE}:
            names = [name for name, torch_name in TORCH_NAMES.items() if torch_name == self.dtype]
            raise UsageError(
                f"dtype={self.dtype!r}: expected keep, {', '.join(CASTABLE[:-1])} or {CASTABLE[-1]}",
                remedy=f"dtype={names[0]!r}" if names else "dtype='keep'",
            )

    @property
    def words(self) -> tuple[str, ...]:
        """The options of the command that say what these do, from whatever folder it is given; no defaults."""
        name, *words = self.command
        if self.dtype != "keep":
            words += ["--dtype", TORCH_NAMES[self.dtype]]
        if self.config is not None:
            words += ["--config", str(self.config.absolute())]
        if name == "merge":  # a conversion has no others
            for option, value, default in (
                ("--max-shard-size", self.max_shard_bytes, DEFAULT_SHARD_BYTES),
                ("--jobs", self.jobs, DEFAULT_JOBS),
                ("--max-memory", self.max_memory_bytes, DEFAULT_MEMORY_BYTES),
            ):
                words += [option, str(value)] if value != default else []
        return tuple(words)


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """What a merge came to."""

    out: Path
    written: bool
    """Whether `out` holds the model now."""
    findings: tuple[CkptFinding, ...]
    source: Source
    files: int = 0
    """safetensors files in `out`."""
    bytes: int = 0
    """Of them."""
    tensors: int = 0
    parameters: int = 0
    dtypes: tuple[str, ...] = ()
    kept: int = 0
    """Files that an earlier run of this merge had finished."""
    was_there: bool = False
    """The same merge was complete before; nothing was written."""
    seconds: float = field(default=0.0, compare=False)

    def status(self, fail_on: Severity = Severity.ERROR) -> Status:
        """Conclude from the findings."""
        return conclude(self.findings, fail_on)

    def to_json(self, fail_on: Severity = Severity.ERROR) -> dict[str, Any]:
        """Return the JSON object that all judging commands share, with this command's own keys behind."""
        return to_json(
            self.status(fail_on),
            self.findings,
            path=str(self.source.path),
            format=self.source.format,
            step=self.source.step,
            out=str(self.out),
            written=self.written,
            files=self.files,
            bytes=self.bytes,
            tensors=self.tensors,
            parameters=self.parameters,
            dtypes=list(self.dtypes),
            kept=self.kept,
            was_there=self.was_there,
            seconds=round(self.seconds, 3),
        )
