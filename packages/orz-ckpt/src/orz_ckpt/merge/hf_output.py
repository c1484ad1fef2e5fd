"""What stands beside the weights in a Hugging Face folder: index, configuration, tokenizer."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from orz_ckpt.checks.files import list_files
from orz_ckpt.checks.shapes import check_shapes
from orz_ckpt.disk.durable import sync_file, write_synced
from orz_ckpt.errors import FormatError
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.formats.architectures import says_critic
from orz_ckpt.formats.hf import CONFIG_NAME, INDEX_NAME, SAFETENSORS, TOKENIZER_NAMES, TORCH, read_config
from orz_ckpt.formats.safetensors import Header, Tensor
from orz_ckpt.merge.config import adapted, value_heads
from orz_ckpt.quoting import brief, shell_path
from orz_ckpt.readers.config_place import config_folder
from orz_cli.errors import UsageError
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orz_ckpt.merge.plan import Plan
    from orz_ckpt.tensors.source import Source

_COPIED: Final = frozenset(
    {
        *TOKENIZER_NAMES,
        "generation_config.json",
        "merges.txt",
        "vocab.txt",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.json",
        "preprocessor_config.json",
        "processor_config.json",
        "video_preprocessor_config.json",
        "spiece.model",
        "sentencepiece.bpe.model",
    }
)
_COPIED_SUFFIXES: Final = (".jinja", ".tiktoken")


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """The files that go beside the weights."""

    folder: Path | None
    """Where they come from; None where there is no configuration."""
    config: Mapping[str, object] | None
    """What `config.json` will say, but for what depends on the weights' bytes."""
    copied: tuple[Path, ...]
    findings: tuple[CkptFinding, ...]


def find_beside(source: Source, plan: Plan, given: Path | None, settings: Mapping[str, object] | None = None) -> Beside:
    """Find configuration and tokenizer: those of `given`, else those of the checkpoint.

    Args:
        source: the checkpoint.
        plan: what is written of it.
        given: a folder, or None.
        settings: laid over the configuration; None removes a key.

    Raises:
        UsageError: `given` holds no sound configuration.
        OSError: the configuration cannot be read.
    """
    folder = config_folder(source, given)
    if folder is None:
        message = "there is no config.json with the checkpoint: the weights are written without configuration"
        missing = finding("config_missing", message, remedy=_remedy(source), path=source.path)
        return Beside(folder=None, config=None, copied=(), findings=(missing,))
    path = folder / CONFIG_NAME
    try:
        config = {**adapted(read_config(path), plan), **(settings or {})}
    except FormatError as error:
        if given is not None:
            raise UsageError(f"--config: {error.message}", remedy="give a folder with a sound config.json") from error
        broken = finding("config_missing", f"{error.message}: it is left out", remedy="give --config DIR", path=path)
        return Beside(folder=None, config=None, copied=(), findings=(broken,))
    config = {key: value for key, value in config.items() if value is not None or key not in (settings or {})}
    listing = list_files(folder, deep=False)
    code = [name for name in listing.sizes if name.endswith(".py")] if "auto_map" in config else []
    copied = [name for name in listing.sizes if name in _COPIED or name.endswith(_COPIED_SUFFIXES)]
    findings = [*(entry for entry in _promised(source, plan, path, config)), *_value_head(source, plan, config)]
    if not any(name in TOKENIZER_NAMES for name in copied):
        findings.append(finding("no_tokenizer", f"there is no tokenizer in {folder}", path=folder))
    if code:
        message = f"{len(code)} Python files are copied ({', '.join(map(brief, code[:3]))}), for config.json names them"
        findings.append(finding("custom_code", message, path=folder))
    return Beside(
        folder=folder,
        config=config,
        copied=tuple(folder / name for name in (*copied, *code)),
        findings=tuple(findings),
    )


def write_beside(out: Path, beside: Beside, plan: Plan, config: Mapping[str, object] | None) -> None:
    """Write index, configuration and tokenizer into `out`, each on the disk when this returns.

    Raises:
        OSError: one cannot be read or written.
    """
    for path in beside.copied:
        try:
            shutil.copyfile(path, out / path.name)
        except OSError as error:  # of a read that fails it does not say which file
            raise OSError(error.errno, error.strerror, error.filename or str(path)) from error
        sync_file(out / path.name)
    if config is not None:
        write_synced(out / CONFIG_NAME, _text(config))
    if len(plan.files) > 1:
        weight_map = {tensor.name: file.name for file in plan.files for tensor in file.tensors}
        index = {"metadata": {"total_size": plan.data_bytes}, "weight_map": dict(sorted(weight_map.items()))}
        write_synced(out / INDEX_NAME, _text(index))


def _promised(source: Source, plan: Plan, path: Path, config: Mapping[str, object]) -> list[CkptFinding]:
    """Compare the planned tensors with the configuration: weights that it contradicts no loader takes."""
    tensors = [
        Tensor(name=tensor.name, dtype=tensor.dtype, shape=tensor.shape, offset=tensor.offset, nbytes=tensor.nbytes)
        for tensor in plan.tensors
    ]
    header = Header(tensors=tuple(tensors), data_offset=0, file_bytes=plan.size)
    found = check_shapes(path.parent, path, dict(config), {path: header})
    return [replace(entry, remedy=_remedy(source)) if entry.severity is Severity.ERROR else entry for entry in found]


def _remedy(source: Source) -> str:
    """Return what to do where configuration and tensors do not go together, or there is none."""
    path = source.path
    if path.is_file() and any(layout.shard.fullmatch(path.name) for layout in (SAFETENSORS, TORCH)):
        folder = shell_path(path.parent)
        return f"it is one of several shards: give the folder that all of them lie in: orz ckpt merge {folder} OUT"
    return "give the configuration of the model that was trained: --config DIR"


def _value_head(source: Source, plan: Plan, config: Mapping[str, object]) -> list[CkptFinding]:
    heads = value_heads(plan)
    if not heads or says_critic(config) is False:
        return []
    message = f"{brief(heads[0])} is a value head: this is a critic"
    return [finding("value_head", message, path=source.path, tensor=heads[0])]


def _text(document: Mapping[str, object]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=True) + "\n"
