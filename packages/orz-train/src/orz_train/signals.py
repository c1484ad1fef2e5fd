"""The signals that end a run as Ctrl-C does."""

from __future__ import annotations

import signal

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Of a terminal, a scheduler, and a terminal that is closed; the last one isn't there on every system."""
