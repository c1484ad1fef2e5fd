"""Does a Hugging Face folder hold one whole model: config, weights, index, tokenizer?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orz_ckpt.checks.elements import check_elements
from orz_ckpt.checks.files import READ_AGAIN
from orz_ckpt.checks.index import check_index
from orz_ckpt.checks.shapes import check_shapes
from orz_ckpt.checks.tokenizer import check_tokenizer
from orz_ckpt.checks.types import check_types
from orz_ckpt.errors import FormatError
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.formats.hf import CONFIG_NAME, HfFolder, read_config
from orz_ckpt.inventory import WEIGHTS_SUFFIXES
from orz_ckpt.quoting import locate_command
from orz_ckpt.report.words import listed
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from orz_ckpt.formats.safetensors import Header

_SAVE_AGAIN = "save the model again with `save_pretrained`"
_BESIDE_WEIGHTS: Final = ("training_args", "optimizer", "scheduler", "scaler", "rng_state", "exp_avg")
"""Beginnings of the names of what trainers save beside the weights."""
_DATA_LOADER: Final = "data.pt"
"""The state of verl's data loader, beside the weights, too."""


def is_beside(name: str) -> bool:
    """Return whether a file or folder of that name is none of the weights, but what a trainer saves beside them."""
    return name == _DATA_LOADER or name.startswith(_BESIDE_WEIGHTS)


def may_hold_weights(name: str) -> bool:
    """Return whether a file of that name, with no folder in it, may hold weights: nothing else is known of it."""
    return name.endswith(WEIGHTS_SUFFIXES) and not is_beside(name)


def check_model(folder: HfFolder, headers: Mapping[Path, Header]) -> Iterator[CkptFinding]:
    """Check that the files of `folder` belong together.

    Args:
        folder: its files; those that escape it by a link are not among them, so they are not opened.
        headers: of the sound files of weights in it; the unsound ones have been reported.
    """
    findings, loaded = check_index(folder, headers)
    yield from findings
    yield from check_weights(folder, headers)
    unsure = any(entry.severity is Severity.ERROR and entry.code != "shard_orphan" for entry in findings)
    whole = not unsure and all(file in headers for file in loaded)
    filled = [file for file in loaded if whole and headers[file].tensors]
    yield from _check_config(folder, {file: headers[file] for file in filled})
    if folder.code:
        names = ", ".join(file.name for file in folder.code[:3])
        message = f"{len(folder.code)} Python files ({names}); a loader that trusts remote code runs them"
        yield finding("custom_code", message, path=folder.path)


def check_weights(folder: HfFolder, headers: Mapping[Path, Header]) -> Iterator[CkptFinding]:
    """Check that there are weights, and that they have elements; see `check_model` for what the arguments are."""
    for file in folder.weights:
        if file in headers:
            yield from check_elements(file, headers[file].tensors)
    if folder.weights and all(file in headers and not headers[file].tensors for file in folder.weights):
        message = f"no tensor is in {listed((file.name for file in folder.weights), 3)}"
        yield finding("no_weights", message, remedy=_elsewhere(folder.path), path=folder.path)
    if folder.weights or folder.indexes:
        return
    others = [file for file in folder.pickles if file in headers and headers[file].tensors and not is_beside(file.name)]
    if others:
        names = ", ".join(file.name for file in others[:3])
        message = f"whether the weights in {names} are a whole model cannot be told: no loader takes files so named"
        yield finding("shapes_not_checked", message, path=folder.path)
    else:
        message = "there is no safetensors file and no pytorch_model.bin"
        yield finding("no_weights", message, remedy=_elsewhere(folder.path), path=folder.path)


def _elsewhere(path: Path) -> str:
    locate = locate_command(path)
    return f"another node may have written them: {locate}; else {_SAVE_AGAIN}"


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
        yield from check_tokenizer(folder, config)
        if headers:
            yield from check_shapes(folder.path, folder.config, config, headers)
            yield from check_types(folder.config, config, headers.values())
