"""Who is on the GPU: colocated, one model at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from orz_train.cluster.watch import NO_LIMIT, Deadline


class Resident(Protocol):
    """A model, or the engines, that can leave its devices' memory and come back."""

    def onload(self, *, limit: Deadline = NO_LIMIT) -> None:
        """Come back."""
        ...

    def offload(self, *, limit: Deadline = NO_LIMIT) -> None:
        """Make room."""
        ...


class ResidentEngines(Resident, Protocol):
    """The engines, which come back in two parts."""

    def onload_weights(self, *, limit: Deadline = NO_LIMIT) -> None:
        """Come back without the key-value cache, which takes the most room."""
        ...

    def onload_cache(self, *, limit: Deadline = NO_LIMIT) -> None:
        """Come back with the rest."""
        ...


class AllResident:
    """Every model stays where it is: each has its own GPUs, or all run on CPUs."""

    @contextmanager
    def __call__(self, model: object, *, limit: Deadline = NO_LIMIT) -> Iterator[None]:  # noqa: ARG002  # as the other's
        """Do nothing."""
        yield

    @contextmanager
    def transfer(self, *, limit: Deadline = NO_LIMIT) -> Iterator[None]:  # noqa: ARG002  # as the other's
        """Do nothing."""
        yield


class ColocatedResidency:
    """Wakes one model and puts the others away; a model stays until another one is wanted.

    Everything is away at first: each was put away when it was loaded, to make room for the next.

    Args:
        models: that are trained or score, the policy first.
        engines: of vLLM.
    """

    def __init__(self, models: Sequence[Resident], engines: ResidentEngines) -> None:
        self.policy = models[0]
        self.engines = engines
        self.awake: list[Resident] = []

    @contextmanager
    def __call__(self, model: object, *, limit: Deadline = NO_LIMIT) -> Iterator[None]:
        """Keep `model` alone on the devices inside the context.

        Raises:
            WorkerTimeoutError: the moves took longer than the limit.
        """
        self._put_away_all_but(model, limit)
        if all(one is not model for one in self.awake):
            model.onload(limit=limit)  # type: ignore[attr-defined]  # only residents are asked for
            self.awake.append(model)  # type: ignore[arg-type]
        yield

    @contextmanager
    def transfer(self, *, limit: Deadline = NO_LIMIT) -> Iterator[None]:
        """Keep the policy and the engines' weights on the devices; afterwards the engines alone, ready to sample.

        After a failure inside, nothing moves: it ends the run, and who failed may not answer any more.

        Raises:
            WorkerTimeoutError: the moves took longer than the limit.
        """
        self._put_away_all_but(self.policy, limit)
        if not self.awake:
            self.policy.onload(limit=limit)
            self.awake.append(self.policy)
        self.engines.onload_weights(limit=limit)
        self.awake.append(self.engines)
        yield
        self._put_away_all_but(self.engines, limit)
        self.engines.onload_cache(limit=limit)

    def _put_away_all_but(self, model: object, limit: Deadline) -> None:
        for other in [one for one in self.awake if one is not model]:
            other.offload(limit=limit)
            self.awake.remove(other)
