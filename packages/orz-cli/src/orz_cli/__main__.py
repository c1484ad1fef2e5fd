"""Runs `orz` as `python -m orz_cli`, where the scripts folder is not on PATH."""

from __future__ import annotations

import sys

from orz_cli.process import run

sys.exit(run())
