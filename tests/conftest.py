"""What holds for all tests: no colours from the outside, no deadlines on shared machines, Ctrl-C that is heard."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

for variable in ("FORCE_COLOR", "NO_COLOR", "CLICOLOR_FORCE", "COLUMNS"):
    os.environ.pop(variable, None)  # outputs are compared as text

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # so a shell starts what it puts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("orz", deadline=None, print_blob=True, derandomize="CI" in os.environ)
settings.load_profile("orz")
