"""An adapter that peft saved: `adapter_config.json` beside `adapter_model.safetensors` or `adapter_model.bin`.

peft 0.21.2, `utils/save_and_load.py`: names are those of the wrapped model (`base_model.model.<module>.lora_A.weight`)
without the adapter's own name; full tensors stand beside the pairs for modules that were trained as a whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orz_ckpt.checks.headers import check_header
from orz_ckpt.disk.holes import is_hollow
from orz_ckpt.errors import FormatError
from orz_ckpt.findings import conclude, finding, of_error
from orz_ckpt.formats.torch_file import load
from orz_ckpt.quoting import brief
from orz_ckpt.readers.peft.config import CONFIG_NAME, AdapterConfig, read_adapter_config
from orz_ckpt.readers.peft.lora_names import LEFT, Pair, pairs_in
from orz_ckpt.report.words import listed
from orz_ckpt.tensors.floats import FLOATS, largest_magnitude
from orz_ckpt.tensors.gather import Files, Gatherer
from orz_ckpt.tensors.source import Block, Source, SourceTensor, c_strides, whole
from orz_cli.findings import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding

WEIGHTS_NAMES: Final = ("adapter_model.safetensors", "adapter_model.bin")
_MAX_NAMED: Final = 5
_CHUNK_ELEMENTS: Final = 64 * 1024


def recognises(path: Path) -> bool:
    """Return whether `path` is a folder with an adapter."""
    return path.is_dir() and any((path / name).is_file() for name in (CONFIG_NAME, *WEIGHTS_NAMES))


def read(path: Path, *, inert: frozenset[str] = frozenset()) -> Source:
    """List the tensors of an adapter, under the names that it has them.

    Raises:
        HostileError: its file of weights would run code if torch loaded it.
        OSError: a file cannot be read.
    """
    findings: list[CkptFinding] = []
    config: AdapterConfig | None = None
    try:
        config = read_adapter_config(path)
    except FileNotFoundError:
        message = f"there is no {CONFIG_NAME}: the scale of the adapter is stated nowhere else"
        remedy = "copy the whole folder again, or give `orz ckpt merge` the alpha of the training: --lora-alpha N"
        findings.append(finding("config_invalid", message, remedy=remedy, path=path))
    except FormatError as error:
        findings.append(finding("config_invalid", error.message, remedy=error.remedy, path=path / CONFIG_NAME))
    weights = next((path / name for name in WEIGHTS_NAMES if (path / name).is_file()), None)
    tensors: dict[str, SourceTensor] = {}
    if weights is None:
        message = f"there is neither {' nor '.join(WEIGHTS_NAMES)}"
        findings.append(finding("no_weights", message, remedy="save the adapter again", path=path))
    else:
        found, blocks = _blocks(weights, inert)
        findings += found
        tensors = {name: whole(name, block) for name, block in blocks.items()}
        if conclude(found) is Status.OK:  # else nobody knows what it holds
            findings += check_adapter(path, config, tensors)
    return Source(
        path=path,
        format="peft",
        tensors=tensors,
        writer="peft",
        files=tuple(file for file in (path / CONFIG_NAME, weights) if file is not None and file.is_file()),
        facts=_facts(config) if config else {},
        findings=tuple(findings),
    )


def check_adapter(
    path: Path, config: AdapterConfig | None, tensors: Mapping[str, SourceTensor]
) -> Iterator[CkptFinding]:
    """Say whether an adapter changes anything, and whether this package can say what.

    Raises:
        OSError: a factor cannot be read.
    """
    pairs = pairs_in(tensors)
    again = "save the adapter again; with ZeRO-3 gather its weights first"
    if not pairs:
        yield finding("lora_empty", "it holds no pair of LoRA factors", remedy=again, path=path)
    for pair in pairs.values():
        missing = [what for what, tensor in (("A", pair.right), ("B", pair.left)) if tensor is None]
        if missing:
            message = f"{brief(pair.module)} has no factor {missing[0]}"
            yield finding("lora_unfit", message, remedy=again, path=path)
    empty = [name for name, tensor in tensors.items() if not tensor.numel]
    if empty:
        message = f"{len(empty)} of {len(tensors)} tensors have no elements: {listed(empty, _MAX_NAMED)}"
        yield finding("lora_empty", message, remedy=again, path=path)
    elif pairs:
        yield from _zeros(path, pairs)
    if config and config.alpha_lost:
        message = "lora_alpha is 0: merged with it, the model would be its base"
        told = "give `orz ckpt merge` the value of the training: --lora-alpha N"
        remedy = f"verl's merger writes 0 where it does not know; {told}"
        if config.alpha is None:
            message = "lora_alpha is not stated: the scale of the adapter is not known"
            remedy = told
        yield finding("lora_alpha_lost", message, remedy=remedy, path=path / CONFIG_NAME)
    magnitudes = [name for name in tensors if "lora_magnitude_vector" in name]
    unsupported = [*(config.unsupported if config else ()), *(["DoRA's magnitudes"] if magnitudes else [])]
    if unsupported:
        message = f"it is more than pairs of factors: {', '.join(dict.fromkeys(unsupported))}"
        remedy = "merge it with peft itself: `merge_and_unload`"
        yield finding("layout_unsupported", message, remedy=remedy, path=path)


def _zeros(path: Path, pairs: Mapping[str, Pair]) -> Iterator[CkptFinding]:
    """Say which second factors are all zeros, as they are before the first step of a training."""
    factors = [pair.left for pair in pairs.values() if pair.left is not None and pair.left.dtype in FLOATS]
    if any(is_hollow(file) for file in {piece.block.path for tensor in factors for piece in tensor.pieces}):
        return  # zeros without end, of which `verify` says that they were never written
    with Files() as files:
        gatherer = Gatherer(files)
        zeros = [tensor.name for tensor in factors if _all_zero(tensor, gatherer)]
    if zeros and len(zeros) == len(factors):
        message = f"all {len(zeros)} factors {LEFT} are zero: the adapter changes nothing"
        remedy = "it was saved before its first step, or was never trained: check the learning rate and what is frozen"
        yield finding("lora_zero", message, remedy=remedy, path=path)
    elif zeros:
        message = f"{len(zeros)} of {len(factors)} factors {LEFT} are all zeros: {listed(zeros, _MAX_NAMED)}"
        yield finding("all_zero", message, path=path, tensor=zeros[0])


def _all_zero(tensor: SourceTensor, gatherer: Gatherer) -> bool:
    """Return whether a tensor holds zeros only; it is read up to the first other number."""
    kind = FLOATS[tensor.dtype]
    for begin in range(0, tensor.numel, _CHUNK_ELEMENTS):
        end = min(begin + _CHUNK_ELEMENTS, tensor.numel)
        data = memoryview(bytearray((end - begin) * tensor.nbytes // tensor.numel))
        gatherer.read(tensor, begin, end, data)
        if largest_magnitude(data, kind):
            return False
    return True


def _blocks(file: Path, inert: frozenset[str]) -> tuple[list[CkptFinding], dict[str, Block]]:
    if file.suffix == ".safetensors":
        header, findings = check_header(file)
        blocks = {
            tensor.name: Block(
                path=file,
                offset=tensor.offset,
                dtype=tensor.dtype,
                shape=tensor.shape,
                strides=c_strides(tensor.shape),
            )
            for tensor in (header.tensors if header else ())
        }
        return list(findings), blocks
    try:
        value = load(file, inert=inert).value
    except FormatError as error:
        return [of_error(error, file)], {}
    items = value.items() if isinstance(value, dict) else ()
    return [], {name: block for name, block in items if isinstance(name, str) and isinstance(block, Block)}


def _facts(config: AdapterConfig) -> dict[str, str]:
    facts = {"rank": str(config.rank), "alpha": "not stated" if config.alpha is None else f"{config.alpha:g}"}
    if config.rank_stabilised:
        facts["scale"] = "alpha / root of rank"
    return {**facts, **({"base": config.base} if config.base else {})}
