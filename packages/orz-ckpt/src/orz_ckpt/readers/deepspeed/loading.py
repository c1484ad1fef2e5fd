"""The files of one save, read: those that are broken are findings, those of another save are left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from orz_ckpt.errors import FormatError, HostileError
from orz_ckpt.findings import finding
from orz_ckpt.formats.alike import Alike
from orz_ckpt.readers.deepspeed.names import Kind
from orz_ckpt.readers.deepspeed.states import ModelState, OptimizerState, read_model, read_optimizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.readers.deepspeed.names import Shard

_State = TypeVar("_State")


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """What the files of a tag say."""

    model: ModelState | None
    """Of `mp_rank_00_model_states.pt`: all but ZeRO-3 have it."""
    model_shards: dict[int, ModelState]
    """Of each rank: ZeRO-3 has them."""
    states: dict[int, OptimizerState]
    """Of each rank's optimizer."""
    torn: dict[Kind, set[int]]
    """Ranks whose file is there, and broken."""
    findings: tuple[CkptFinding, ...]

    @property
    def models(self) -> list[ModelState]:
        """The model files, rank 0 first."""
        whole = [] if self.model is None else [self.model]
        return whole + [self.model_shards[rank] for rank in sorted(self.model_shards)]


def load(shards: Sequence[Shard], *, inert: frozenset[str] = frozenset()) -> Loaded:
    """Read the files of a tag.

    Raises:
        HostileError: one of them is hostile.
        OSError: one of them cannot be read.
    """
    shards, findings = _one_precision(shards)
    torn: dict[Kind, set[int]] = {}
    alike = Alike()

    def each(kind: Kind, read: Callable[[Shard], _State]) -> dict[int, _State]:
        found: dict[int, _State] = {}
        for shard in shards:
            if shard.kind is not kind:
                continue
            try:
                found[shard.rank] = read(shard)
            except HostileError:
                raise
            except FormatError as error:
                findings.append(finding("shard_torn", error.message, remedy=error.remedy, path=shard.path))
                torn.setdefault(kind, set()).add(shard.rank)
        return found

    return Loaded(
        model=each(Kind.MODEL, lambda shard: read_model(shard.path, inert=inert)).get(0),
        model_shards=each(Kind.MODEL_SHARD, lambda shard: read_model(shard.path, inert=inert, alike=alike)),
        states=each(Kind.OPTIMIZER, lambda shard: read_optimizer(shard.path, shard.rank, inert=inert, alike=alike)),
        torn=torn,
        findings=tuple(findings),
    )


def _one_precision(shards: Sequence[Shard]) -> tuple[list[Shard], list[CkptFinding]]:
    """Leave out the optimizers of the older of two saves that differ in precision, and so in names."""
    newest: dict[str, float] = {}
    for shard in shards:
        if shard.kind is Kind.OPTIMIZER:
            newest[shard.precision] = max(newest.get(shard.precision, 0.0), shard.path.stat().st_mtime)
    if len(newest) <= 1:
        return list(shards), []
    kept = max(newest, key=lambda precision: newest[precision])
    other = [shard for shard in shards if shard.kind is Kind.OPTIMIZER and shard.precision != kept]
    said = " and ".join(sorted(precision or "fp32" for precision in newest))
    text = f"optimizers of {said} training lie side by side; the newer files are {kept or 'fp32'}"
    remedy = "move the files of the other save out of this folder"
    return [shard for shard in shards if shard not in other], [
        finding("shard_stale", text, remedy=remedy, path=shard.path) for shard in other
    ]
