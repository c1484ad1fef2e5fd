"""What the files in a run folder of ours are called."""

from __future__ import annotations

from typing import Final

RECORDS_FILE: Final = "metrics.jsonl"
CONSOLE_FILE: Final = "console.log"
