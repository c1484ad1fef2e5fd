"""A run in a browser and for Prometheus while it goes on: `orz monitor serve`."""

from __future__ import annotations
