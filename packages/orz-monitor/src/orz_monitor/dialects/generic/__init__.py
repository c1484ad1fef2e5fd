"""The fallback: any log in which steps with named numbers recur."""

from orz_monitor.dialects.generic.dialect import Generic

__all__ = ["Generic"]
