"""The formats that a run can be exported to."""

from __future__ import annotations

from enum import StrEnum


class Form(StrEnum):
    """A format of `orz monitor export`."""

    PARQUET = "parquet"
    CSV = "csv"
    JSONL = "jsonl"
    TENSORBOARD = "tensorboard"
