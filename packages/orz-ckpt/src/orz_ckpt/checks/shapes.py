"""Are the tensors those that `config.json` promises, by name and shape?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.formats.architectures import Config, Shape, UnknownArchitectureError, expected_tensors
from orz_ckpt.quoting import brief
from orz_ckpt.strict_json import FieldError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from orz_ckpt.formats.safetensors import Header

_SAVE_AGAIN = "save the model again; a loader would make up what is missing"
_MAX_NAMED = 10
_BUFFERS = (".rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias")
"""Constants that older versions of transformers wrote beside the weights; loaders ignore them."""


def check_shapes(
    folder: Path, config_path: Path, config: Config, headers: Mapping[Path, Header]
) -> Iterator[CkptFinding]:
    """Compare the headers of all weights of a model with what its configuration promises."""
    try:
        expected = expected_tensors(config)
    except UnknownArchitectureError as error:
        yield finding("shapes_not_checked", f"shapes not checked: {error}", path=config_path)
        return
    except FieldError as error:
        yield finding("config_invalid", str(error), remedy="restore config.json", path=config_path)
        return
    files = {tensor.name: file for file, header in headers.items() for tensor in header.tensors}
    shapes = {tensor.name: tensor.shape for file, header in headers.items() for tensor in header.tensors}

    missing = sorted(expected.required.keys() - shapes.keys())
    for name in missing[:_MAX_NAMED]:
        message = f"{brief(name)} {list(expected.required[name])} is missing, which {expected.architecture} has"
        yield finding("tensor_missing", message, remedy=_SAVE_AGAIN, path=folder, tensor=name)
    if len(missing) > _MAX_NAMED:
        message = f"and {len(missing) - _MAX_NAMED} more tensors of {expected.architecture} are missing"
        yield finding("tensor_missing", message, remedy=_SAVE_AGAIN, path=folder)

    known = {**expected.optional, **expected.required}
    fitting = {name for name, shape in expected.reshaped.items() if shapes.get(name) == shape}
    yield from _wrong({name: shape for name, shape in known.items() if name not in fitting}, shapes, files)
    unknown = sorted(name for name in shapes.keys() - known.keys() if not name.endswith(_BUFFERS))
    if unknown:
        message = f"{len(unknown)} tensors that {expected.architecture} does not have, such as {brief(unknown[0])}"
        yield finding("tensor_unexpected", message, path=files[unknown[0]], tensor=unknown[0])


def _wrong(known: Mapping[str, Shape], shapes: Mapping[str, Shape], files: Mapping[str, Path]) -> Iterator[CkptFinding]:
    wrong = sorted(name for name in known.keys() & shapes.keys() if known[name] != shapes[name])
    for name in wrong[:_MAX_NAMED]:
        message = f"{brief(name)}: config.json says {list(known[name])}, the file {list(shapes[name])}"
        remedy = "restore the config.json or the weights that belong together"
        yield finding("shape_differs", message, remedy=remedy, path=files[name], tensor=name)
    if len(wrong) > _MAX_NAMED:
        message = f"and {len(wrong) - _MAX_NAMED} more tensors have another shape"
        yield finding("shape_differs", message, path=files[wrong[0]])
