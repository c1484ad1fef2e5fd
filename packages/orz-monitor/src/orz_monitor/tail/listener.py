"""Whether anybody still reads what is written."""

from __future__ import annotations

import select
from typing import IO


def is_heard(stream: IO[str]) -> bool:
    """Tell whether a stream has a reader: a pipe whose other end was closed has none, as in `... | head`.

    Whoever waits for something to write would else never learn of it. What is no pipe is always heard.
    """
    if not hasattr(select, "poll"):  # Windows
        return True
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # a stream in memory, or a closed one
        return True
    poll = select.poll()
    poll.register(descriptor, 0)
    return not any(event & select.POLLERR for _, event in poll.poll(0))
