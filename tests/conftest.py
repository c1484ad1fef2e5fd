"""What holds for all tests: no colours from the outside, and no deadlines on shared machines."""

from __future__ import annotations

import os

from hypothesis import settings

for variable in ("FORCE_COLOR", "NO_COLOR", "CLICOLOR_FORCE", "COLUMNS"):
    os.environ.pop(variable, None)  # outputs are compared as text

settings.register_profile("orz", deadline=None, print_blob=True, derandomize="CI" in os.environ)
settings.load_profile("orz")
