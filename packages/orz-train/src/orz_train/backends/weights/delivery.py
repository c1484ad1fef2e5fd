"""What of a model has arrived in one update."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orz_train.backends.weights.bucket import ParamMeta
from orz_train.errors import WeightTransferError

_SHOWN = 3
_REMEDY = "sender and engine disagree about the model: do policy and engine load the same policy.model?"


class Delivery:
    """Ticks off the parameters of a model, so that none is missed, misnamed or sent twice.

    Args:
        shapes: of all parameters, by name; a head tied to the embedding isn't among them.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.shapes = shapes
        self.arrived: set[str] = set()

    def accept(self, params: Iterable[ParamMeta]) -> None:
        """Tick parameters off, all or none.

        Raises:
            WeightTransferError: one is unknown, came already, or has another shape.
        """
        names = set()
        for param in params:
            if param.name not in self.shapes:
                raise WeightTransferError(f"{param.name}: the engine's model has no such parameter", remedy=_REMEDY)
            if param.name in self.arrived or param.name in names:
                raise WeightTransferError(f"{param.name}: arrived twice in one update", remedy=_REMEDY)
            if param.shape != self.shapes[param.name]:
                raise WeightTransferError(
                    f"{param.name}: expected shape {list(self.shapes[param.name])}, got {list(param.shape)}",
                    remedy=_REMEDY,
                )
            names.add(param.name)
        self.arrived |= names

    def require_complete(self) -> None:
        """Make sure that all have arrived.

        Raises:
            WeightTransferError: some haven't.
        """
        missing = [name for name in self.shapes if name not in self.arrived]
        if missing:
            more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
            raise WeightTransferError(
                f"an update ended without {len(missing)} of {len(self.shapes)} parameters:"
                f" {', '.join(missing[:_SHOWN])}{more}",
                remedy=_REMEDY,
            )
