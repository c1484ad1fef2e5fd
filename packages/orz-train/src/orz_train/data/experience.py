"""What a step learned of each rollout, ready to be dealt into mini-batches and packed again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from orz_train.data.packing import Packing, pack, unpack
from orz_train.types import Estimates, PackedRow, Rollout, Targets, TrainRow


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """One rollout with what an update reads about it, each [L] f32."""

    rollout: Rollout
    logprobs_L: Tensor
    ref_logprobs_L: Tensor | None
    values_L: Tensor | None
    advantages_L: Tensor
    returns_L: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Experience:
    """All samples of a step, in rollout order, and how to pack them."""

    samples: tuple[Sample, ...]
    packing: Packing

    def pack(self, samples: Sequence[Sample]) -> list[TrainRow]:
        """Pack a mini-batch of samples into rows."""
        rows = pack([sample.rollout for sample in samples], self.packing)
        return [_train_row(row, [samples[index] for index in row.indices_S]) for row in rows]


def assemble(
    rollouts: Sequence[Rollout],
    rows: Sequence[PackedRow],
    estimates: Sequence[Estimates],
    targets: Sequence[Targets],
    packing: Packing,
) -> Experience:
    """Cut rows back into one sample for each rollout."""

    def cut(tensors: Sequence[Tensor | None]) -> list[Tensor] | list[None]:
        present = [x_T for x_T in tensors if x_T is not None]
        return unpack(rows, present) if present else [None] * len(rollouts)

    columns = zip(
        rollouts,
        unpack(rows, [estimate.logprobs_T for estimate in estimates]),
        cut([estimate.ref_logprobs_T for estimate in estimates]),
        cut([estimate.values_T for estimate in estimates]),
        unpack(rows, [target.advantages_T for target in targets]),
        unpack(rows, [target.returns_T for target in targets]),
        strict=True,
    )
    samples = tuple(
        Sample(
            rollout=rollout,
            logprobs_L=logprobs_L,
            ref_logprobs_L=ref_logprobs_L,
            values_L=values_L,
            advantages_L=advantages_L,
            returns_L=returns_L,
        )
        for rollout, logprobs_L, ref_logprobs_L, values_L, advantages_L, returns_L in columns
    )
    return Experience(samples=samples, packing=packing)


def _train_row(row: PackedRow, samples: Sequence[Sample]) -> TrainRow:
    """Lay what is known of the samples end to end, as the row lays their tokens."""
    return TrainRow(
        row=row,
        estimates=Estimates(
            logprobs_T=torch.cat([sample.logprobs_L for sample in samples]),
            ref_logprobs_T=_cat([sample.ref_logprobs_L for sample in samples]),
            values_T=_cat([sample.values_L for sample in samples]),
        ),
        targets=Targets(
            advantages_T=torch.cat([sample.advantages_L for sample in samples]),
            returns_T=torch.cat([sample.returns_L for sample in samples]),
        ),
    )


def _cat(pieces: Sequence[Tensor | None]) -> Tensor | None:
    """Concatenate, or return None where there is nothing: all samples of a step have an estimate, or none has."""
    present = [piece for piece in pieces if piece is not None]
    return torch.cat(present) if present else None
