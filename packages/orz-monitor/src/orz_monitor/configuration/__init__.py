"""What a user has set: thresholds, rules left out, findings ignored, rules of their own."""

from __future__ import annotations

from orz_monitor.configuration.apply import adapted
from orz_monitor.configuration.file import NAME, find, load
from orz_monitor.configuration.model import NOTHING_SET, Configuration, Ignore, Override

__all__ = ["NAME", "NOTHING_SET", "Configuration", "Ignore", "Override", "adapted", "find", "load"]
