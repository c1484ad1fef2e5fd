"""What transformers raises about a model or tokenizer that it can't load, as errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError

from orz_cli.installing import install_line
from orz_train.backends.hf.log import quiet
from orz_train.errors import BackendMissingError, DataError


@contextmanager
def explained(model: str, what: str) -> Iterator[None]:
    """Turn what transformers raises about a missing or broken folder into a DataError.

    Raises:
        BackendMissingError: the model's code can't be imported, whatever the folder holds.
        DataError: the folder or name can't be loaded.
    """
    looks_local = model.startswith((".", "/", "~")) or Path(model).is_dir()
    if looks_local and not (Path(model) / "config.json").is_file():
        found = "a folder without config.json" if Path(model).is_dir() else "nothing there"
        raise DataError(
            f"{what} {model}: expected a Hugging Face folder, got {found}",
            remedy="set policy.model (and critic.model) to a folder with config.json, weights and tokenizer",
        )
    try:
        with quiet():
            yield
    except ImportError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # transformers' own error names its class, and only the first one why
            cause = cause.__cause__
        raise BackendMissingError(
            f"{what} {model}: transformers {transformers.__version__} can't import what it needs:"
            f" {type(cause).__name__}: {_first_line(cause)}",
            remedy="install the package that is named, or see `orz doctor` for those that don't fit each other;"
            f" orz's own: {install_line(cuda=torch.version.cuda is not None)}",
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, AssertionError, TypeError, SafetensorError) as error:
        raise DataError(
            f"{what} {model}: transformers {transformers.__version__} can't load it: {_first_line(error)}",
            remedy="check the path; a model of the hub has to be in the local cache: hf download NAME",
        ) from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
