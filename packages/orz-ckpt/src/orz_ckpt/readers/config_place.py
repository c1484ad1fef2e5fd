"""Where the `config.json` of a checkpoint lies, whatever the format of its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orz_ckpt.formats.hf import CONFIG_NAME
from orz_cli.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from orz_ckpt.tensors.source import Source

_NESTED: Final = "huggingface"
"""Where verl keeps configuration and tokenizer."""


def config_folder(source: Source, given: Path | None) -> Path | None:
    """Return the folder with the configuration of a checkpoint: `given`, else its own; None where there is none.

    Raises:
        UsageError: there is none in `given`.
    """
    if given is not None:
        folder = given.parent if given.name == CONFIG_NAME else given
        if not (folder / CONFIG_NAME).is_file():
            raise UsageError(f"--config: there is no {CONFIG_NAME} in {folder}", remedy="give a model folder")
        return folder
    path = source.path if source.path.is_dir() else source.path.parent
    stated = [source.model_folder] if source.model_folder is not None else []
    places = [*stated, path, path / _NESTED]
    if source.format not in {"hf", "safetensors"}:
        places += [path.parent, path.parent / _NESTED]  # a tag or step folder inside a folder of transformers' Trainer
    return next((place for place in places if (place / CONFIG_NAME).is_file()), None)
