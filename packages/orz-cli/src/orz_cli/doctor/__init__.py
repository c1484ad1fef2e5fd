"""`orz doctor`: what this machine has, what is missing or at odds, and the line that mends it."""

from orz_cli.doctor.cli import doctor

__all__ = ["doctor"]
