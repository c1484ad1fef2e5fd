"""Does a Hugging Face folder hold one whole model: config, weights, index, tokenizer?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orz_ckpt.checks.files import READ_AGAIN
from orz_ckpt.checks.index import check_index
from orz_ckpt.checks.shapes import check_shapes
from orz_ckpt.errors import FormatError
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.formats.hf import CONFIG_NAME, HfFolder, open_folder, read_config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from orz_ckpt.formats.safetensors import Header

_SAVE_AGAIN = "save the model again with `save_pretrained`"


def check_model(path: Path, headers: Mapping[Path, Header]) -> Iterator[CkptFinding]:
    """Check the folder `path`.

    Args:
        path: the folder.
        headers: of the sound safetensors files in it; the unsound ones have been reported.
    """
    try:
        folder = open_folder(path)
    except OSError as error:
        yield finding("unreadable", f"cannot be listed: {error.strerror or error}", remedy=READ_AGAIN, path=path)
        return
    yield from check_index(folder, headers)
    yield from _check_weights(folder)
    yield from _check_config(folder, headers)
    if folder.code:
        names = ", ".join(file.name for file in folder.code[:3])
        message = f"{len(folder.code)} Python files ({names}); a loader that trusts remote code runs them"
        yield finding("custom_code", message, path=path)


def _check_weights(folder: HfFolder) -> Iterator[CkptFinding]:
    if folder.weights or folder.indexes:
        return
    if folder.pickles:
        names = ", ".join(file.name for file in folder.pickles[:3])
        message = f"the weights are pickles ({names}), which are not opened: loading one can run code"
        remedy = "convert them to safetensors, then verify again"
        yield finding("weights_not_read", message, remedy=remedy, path=folder.path)
    else:
        yield finding("no_weights", "there is no safetensors file", remedy=_SAVE_AGAIN, path=folder.path)


def _check_config(folder: HfFolder, headers: Mapping[Path, Header]) -> Iterator[CkptFinding]:
    if folder.config is None:
        message = "a loader needs it, and without it no shape can be checked"
        yield finding("config_missing", message, remedy=_SAVE_AGAIN, path=folder.path / CONFIG_NAME)
        return
    try:
        config = read_config(folder.config)
    except FormatError as error:
        message = error.message.removeprefix(f"{folder.config}: ")
        yield finding("config_invalid", message, remedy=_SAVE_AGAIN, path=folder.config)
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        yield finding("unreadable", message, remedy=READ_AGAIN, path=folder.config)
    else:
        if not folder.tokenizer and "ForCausalLM" in str(config.get("architectures")):
            yield finding("no_tokenizer", "there is no tokenizer here; a server needs one", path=folder.path)
        if folder.weights and all(file in headers for file in folder.weights):
            yield from check_shapes(folder, folder.config, config, headers)
