"""What holds for all tests: no colours from the outside, no deadlines on shared machines, Ctrl-C that is heard.

Of the two processes of `nox -s tests`, one takes all that starts clusters, runs and networks, the other the rest.
"""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

for variable in ("FORCE_COLOR", "NO_COLOR", "CLICOLOR_FORCE", "COLUMNS"):
    os.environ.pop(variable, None)  # outputs are compared as text

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # so a shell starts what it puts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("orz", deadline=None, print_blob=True, derandomize="CI" in os.environ)
settings.load_profile("orz")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests into groups, each of which stays in one process: a file, or everything that starts many processes."""
    for item in items:
        file = item.nodeid.partition("::")[0]
        is_heavy = "/e2e/" in file or "/cluster/" in file or item.get_closest_marker("cluster") is not None
        item.add_marker(pytest.mark.xdist_group("heavy" if is_heavy else file))
