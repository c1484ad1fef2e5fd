"""Who is on the GPU: colocated, one model at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol


class Resident(Protocol):
    """A model, or the engines, that can leave its devices' memory and come back."""

    def onload(self) -> None:
        """Come back."""
        ...

    def offload(self) -> None:
        """Make room."""
        ...


class ResidentEngines(Resident, Protocol):
    """The engines, which come back in two parts."""

    def onload_weights(self) -> None:
        """Come back without the key-value cache, which takes the most room."""
        ...

    def onload_cache(self) -> None:
        """Come back with the rest."""
        ...


class AllResident:
    """Every model stays where it is: each has its own GPUs, or all run on CPUs."""

    @contextmanager
    def __call__(self, model: object) -> Iterator[None]:  # noqa: ARG002  # the port's signature
        """Do nothing."""
        yield

    @contextmanager
    def transfer(self) -> Iterator[None]:
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
    def __call__(self, model: object) -> Iterator[None]:
        """Keep `model` alone on the devices inside the context."""
        self._put_away_all_but(model)
        if all(one is not model for one in self.awake):
            model.onload()  # type: ignore[attr-defined]  # only residents are asked for
            self.awake.append(model)  # type: ignore[arg-type]
        yield

    @contextmanager
    def transfer(self) -> Iterator[None]:
        """Keep the policy and the engines' weights on the devices; afterwards the engines alone, ready to sample."""
        self._put_away_all_but(self.policy)
        if not self.awake:
            self.policy.onload()
            self.awake.append(self.policy)
        self.engines.onload_weights()
        self.awake.append(self.engines)
        yield
        self._put_away_all_but(self.engines)
        self.engines.onload_cache()

    def _put_away_all_but(self, model: object) -> None:
        for other in [one for one in self.awake if one is not model]:
            other.offload()
            self.awake.remove(other)
