"""What reading a log yields."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Column:
    """The values of one key, as a store holds them.

    Attributes:
        key: the name in the store, as the trainer wrote it.
        steps: [K] i64, strictly increasing.
        values: [K] f64, non-finite ones included.
        times: [K] f64, when each value was written, seconds since the Unix epoch; NaN where that is not known.
        file: where the values stand.
    """

    key: str
    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    times: NDArray[np.float64]
    file: Path
