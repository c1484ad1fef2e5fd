"""A run while it goes on, on a terminal: `orz monitor tail`."""

from __future__ import annotations
