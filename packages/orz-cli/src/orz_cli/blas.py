"""numpy without the threads of its library for linear algebra."""

from __future__ import annotations

import os


def one_thread() -> None:
    """Let numpy, which is imported later, start no threads of its own; a number that the user has set stays.

    While it loads they spin, for a fifth of the processor time of a short command. What multiplies matrices here does
    so in threads of ours, and so a product is rounded alike however many processors there are.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
