"""Do the small files beside the weights parse, and does the tokenizer fit the vocabulary of the model?

Format of `tokenizer.json`: tokenizers 0.22 (`added_tokens[].id`; `model.vocab`, token -> id, of a Unigram model a
list). It can have tens of megabytes, so only these two parts are parsed. They are read as Latin-1: a byte stays a
byte, and texts do not matter.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from orz_ckpt.errors import FormatError
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.formats.hf import read_config
from orz_ckpt.strict_json import is_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from orz_ckpt.formats.hf import HfFolder

_FAST: Final = "tokenizer.json"
_MAX_BYTES: Final = 64 * 1024 * 1024
_SMALL_BYTES: Final = 4 * 1024 * 1024
_VOCABULARY: Final = re.compile(r'(?<!\\)"vocab"\s*:\s*(?=[{\[])')
_ADDED: Final = re.compile(r'(?<!\\)"added_tokens"\s*:\s*(?=\[)')
_SAVE_AGAIN: Final = "copy the file from the model that the training began with"


def check_tokenizer(folder: HfFolder, config: Mapping[str, object]) -> Iterator[CkptFinding]:
    """Check the JSON files beside the weights.

    Raises:
        OSError: one of them cannot be read.
    """
    sound = True
    for path in folder.settings:
        if path.name == _FAST and path.stat().st_size > _SMALL_BYTES:
            with path.open("rb") as stream:
                stream.seek(-min(64, path.stat().st_size), 2)
                reason = "" if stream.read().rstrip().endswith(b"}") else "it is cut off"
        else:
            reason = _broken(path)
        if reason:
            sound = False
            yield finding("settings_invalid", reason, remedy=_SAVE_AGAIN, path=path)
    size = _vocabulary_size(config)
    fast = next((file for file in folder.settings if file.name == _FAST), None)
    if size is None or fast is None or not sound:
        return
    largest = largest_token(fast)
    if largest is not None and largest >= size:
        message = (
            f"it has tokens up to {largest:,}, and config.json a vocabulary of {size:,}: the last one is {size - 1:,}"
        )
        remedy = "a prompt with such a token fails or reads beyond the embedding: take the tokenizer of this model"
        yield finding("vocabulary_small", message, remedy=remedy, path=fast)


def largest_token(path: Path) -> int | None:
    """Return the largest id in a `tokenizer.json`, None where it states none that can be found.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        text = stream.read(_MAX_BYTES).decode("latin-1")
    ids = [*_ids(_value(_VOCABULARY, text)), *_ids(_value(_ADDED, text))]
    return max(ids, default=None)


def _ids(value: object) -> Iterator[int]:
    """Yield the ids of a vocabulary (pairs of token and id, or a list of tokens) or of added tokens."""
    if isinstance(value, _Pairs):
        yield from (number for _, number in value if is_size(number))
    elif isinstance(value, list) and value and all(isinstance(item, _Pairs) for item in value):
        yield from (number for item in value for key, number in item if key == "id" and is_size(number))
    elif isinstance(value, list) and value:
        yield len(value) - 1


class _Pairs(list[tuple[str, Any]]):
    """The members of a JSON object; a dictionary would take twice the memory."""


def _value(pattern: re.Pattern[str], text: str) -> object:
    match = pattern.search(text)
    if match is None:
        return None
    try:
        return json.JSONDecoder(object_pairs_hook=_Pairs).raw_decode(text, match.end())[0]
    except (ValueError, RecursionError):
        return None


def _broken(path: Path) -> str:
    """Return what is wrong with a JSON file; empty where nothing is."""
    if path.stat().st_size == 0:
        return "it is empty"
    try:
        read_config(path)
    except FormatError as error:
        return error.message.removeprefix(f"{path}: ")
    return ""


def _vocabulary_size(config: Mapping[str, object]) -> int | None:
    for part in (config, config.get("text_config")):
        size = part.get("vocab_size") if isinstance(part, dict) else None
        if is_size(size):
            return size
    return None
