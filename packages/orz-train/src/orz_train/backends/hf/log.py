"""What transformers writes into the log, which belongs to the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as hf_logging


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and advice out of the log; its errors still come."""
    verbosity = hf_logging.get_verbosity()
    bars = hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # transformers has no types here
    hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers has no types here
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # transformers has no types here
