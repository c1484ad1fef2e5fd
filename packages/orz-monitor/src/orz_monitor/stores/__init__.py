"""Readers of what other tools keep of a run, without their libraries.

TensorBoard event files, offline runs of Weights & Biases, MLflow, trackio, and metrics as JSON lines or CSV.
Each yields columns: the values of a key over the steps.
"""

from __future__ import annotations

from orz_monitor.stores.base import Problem, Store
from orz_monitor.stores.recognise import open_store

__all__ = ["Problem", "Store", "open_store"]
