"""What a comparison found: of each tensor, of each layer, of each kind of tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from orz_ckpt.findings import conclude
from orz_ckpt.tensors.cast import CASTABLE
from orz_ckpt.tensors.names import layer_of, module_of
from orz_cli.findings import Severity, Status, to_json

if TYPE_CHECKING:
    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.tensors.source import Source


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorDiff:
    """How one tensor differs."""

    name: str
    shape: tuple[int, ...]
    dtype_a: str
    dtype_b: str
    numel: int
    changed: int = 0
    """Numbers with other bits, in the narrower of the two types."""
    hidden: int = 0
    """Numbers of a wider B that are those of A once they are rounded, and not before; counted where none changed."""
    norm: float = 0.0
    """Euclidean norm of the finite numbers of A; nan for types that are not numbers to us.

    0 where all tensors of both checkpoints are equal: nothing is to be measured by it."""
    diff_norm: float = 0.0
    """Euclidean norm of B - A; nan where `nonfinite`, or where there are other bits of a type without numbers."""
    largest: float = 0.0
    """Largest magnitude of B - A; nan likewise."""
    nonfinite: int = 0
    """Changed numbers that are NaN or infinite in A or in B."""

    @property
    def narrowed(self) -> bool:
        """Whether B is of a narrower type than A."""
        return rounds_to(self.dtype_a, self.dtype_b)

    @property
    def changed_share(self) -> float:
        """Changed numbers among all."""
        return self.changed / self.numel if self.numel else 0.0

    @property
    def relative(self) -> float:
        """Norm of the change relative to that of A."""
        return relative(self.diff_norm, self.norm)


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """How the tensors of one layer, or of one kind, differ together."""

    name: str
    tensors: int
    changed_tensors: int
    changed_share: float
    relative: float
    """Norm of the change of all its numbers relative to the norm of all its numbers in A, unchanged tensors with them.

    Types that are not numbers to us are left out; nan where only those changed, or where `nonfinite`."""
    largest: float
    """Nan likewise."""
    nonfinite: int
    """Changed numbers that are NaN or infinite in A or in B."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Diff:
    """How two checkpoints differ."""

    a: Source
    b: Source
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    unlike: tuple[str, ...]
    """Of tensors of another shape, or of types that cannot be compared: what each side has."""
    tensors: tuple[TensorDiff, ...]

    @property
    def findings(self) -> tuple[CkptFinding, ...]:
        """None: that they differ is no fault, and what cannot be compared is an error of `diff`."""
        return ()

    @property
    def changed(self) -> tuple[TensorDiff, ...]:
        """Those with other bits."""
        return tuple(tensor for tensor in self.tensors if tensor.changed)

    @property
    def same(self) -> bool:
        """Whether both hold the same tensors with the same numbers, as far as the narrower type tells."""
        return not (self.only_a or self.only_b or self.unlike or self.changed)

    @property
    def types(self) -> str:
        """How the types differ where all numbers are the same; empty where they do not. Example: `F32 -> BF16`."""
        pairs = {f"{tensor.dtype_a} -> {tensor.dtype_b}" for tensor in self.tensors if tensor.dtype_a != tensor.dtype_b}
        return ", ".join(sorted(pairs)) if self.same else ""

    def by_layer(self) -> list[Group]:
        """Return a group for each layer, in order, then one for what is in none."""
        ordered = sorted(self.tensors, key=lambda tensor: layer_of(tensor.name))
        groups = [(layer, list(members)) for layer, members in groupby(ordered, lambda tensor: layer_of(tensor.name))]
        inside = [_group(f"layer {layer}", members) for layer, members in groups if layer >= 0]
        return inside + [_group("outside the layers", members) for layer, members in groups if layer < 0]

    def by_module(self) -> list[Group]:
        """Return a group for each kind of tensor, the most changed first."""
        ordered = sorted(self.tensors, key=lambda tensor: module_of(tensor.name))
        groups = [_group(name, list(members)) for name, members in groupby(ordered, lambda t: module_of(t.name))]
        return sorted(groups, key=most_changed_first)

    def status(self, fail_on: Severity = Severity.ERROR) -> Status:
        """Conclude from the findings; whether both are the same is in `same`."""
        return conclude(self.findings, fail_on)

    def to_json(self, fail_on: Severity = Severity.ERROR) -> dict[str, Any]:
        """Return the JSON object that all judging commands share, with this command's own keys behind."""
        return to_json(
            self.status(fail_on),
            self.findings,
            a=str(self.a.path),
            b=str(self.b.path),
            same=self.same,
            types=self.types,
            only_a=list(self.only_a),
            only_b=list(self.only_b),
            unlike=list(self.unlike),
            tensors=[_tensor_json(tensor) for tensor in self.tensors],
            layers=[_group_json(group) for group in self.by_layer()],
            modules=[_group_json(group) for group in self.by_module()],
        )


def rounds_to(wide: str, narrow: str) -> bool:
    """Return whether numbers of one type become those of another by rounding."""
    return {wide, narrow} <= set(CASTABLE) and CASTABLE.index(wide) < CASTABLE.index(narrow)


def relative(diff_norm: float, norm: float) -> float:
    """Return `diff_norm / norm`; infinity where only the norm is zero, nan where there is no `diff_norm`."""
    if norm:
        return diff_norm / norm
    return diff_norm * math.inf if diff_norm else 0.0


def most_changed_first(changed: TensorDiff | Group) -> tuple[float, float, float, str]:
    """Return what tensors and groups are sorted by: new NaN before all else, what has no numbers last."""
    size = -1.0 if math.isnan(changed.relative) else changed.relative
    return -changed.nonfinite, -size, -changed.changed_share, changed.name


def _group(name: str, tensors: list[TensorDiff]) -> Group:
    numel = sum(tensor.numel for tensor in tensors)
    numbers = [tensor for tensor in tensors if not math.isnan(tensor.norm)]
    nonfinite = sum(tensor.nonfinite for tensor in tensors)
    changed, measured = (any(tensor.changed for tensor in some) for some in (tensors, numbers))
    unknown = nonfinite > 0 or (changed and not measured)
    diff_norm, norm = math.hypot(*(t.diff_norm for t in numbers)), math.hypot(*(t.norm for t in numbers))
    return Group(
        name=name,
        tensors=len(tensors),
        changed_tensors=sum(tensor.changed > 0 for tensor in tensors),
        changed_share=sum(tensor.changed for tensor in tensors) / numel if numel else 0.0,
        relative=math.nan if unknown else relative(diff_norm, norm),
        largest=math.nan if unknown else max((tensor.largest for tensor in numbers), default=0.0),
        nonfinite=nonfinite,
    )


def _tensor_json(tensor: TensorDiff) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype_a": tensor.dtype_a,
        "dtype_b": tensor.dtype_b,
        "equal": not tensor.changed,
        "changed_share": tensor.changed_share,
        "relative_norm": _number(tensor.relative),
        "largest_change": _number(tensor.largest),
        "nonfinite": tensor.nonfinite,
    }


def _group_json(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "tensors": group.tensors,
        "changed_tensors": group.changed_tensors,
        "changed_share": group.changed_share,
        "relative_norm": _number(group.relative),
        "largest_change": _number(group.largest),
        "nonfinite": group.nonfinite,
    }


def _number(value: float) -> float | str:
    """JSON has neither infinity nor nan; they are written as text, as in records of a run."""
    return value if math.isfinite(value) else str(value)
