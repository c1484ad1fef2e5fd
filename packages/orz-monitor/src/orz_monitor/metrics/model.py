"""What is known about one metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a reader of a metric should know.

    Attributes:
        name: canonical name, as in the registry or in `orz_monitor.metrics.peers`.
        definition: what it is, in a sentence or two.
        estimator: how it is reckoned, where several ways exist.
        ranges: kind of run to what is usual there.
        pitfalls: what it is easily mistaken for.
        asked: what people call it when they ask.
    """

    name: str
    definition: str
    estimator: str = ""
    ranges: Mapping[str, str] = field(default_factory=dict)
    pitfalls: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
