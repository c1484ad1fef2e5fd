"""Do the small files beside the weights parse, and does the tokenizer fit the vocabulary of the model?

Format of `tokenizer.json`: tokenizers 0.22 (`added_tokens[].id`; `model.vocab`, token -> id, of a Unigram model a
list). It can have tens of megabytes, so only these two parts are looked at, and no object is made of them. They
are read as Latin-1: a byte stays a byte, and texts do not matter.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.plain import open_plain
from orz_ckpt.errors import FormatError
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.formats.hf import read_config
from orz_ckpt.strict_json import is_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from orz_ckpt.formats.hf import HfFolder

_FAST: Final = "tokenizer.json"
_MAX_BYTES: Final = 48 * 1024 * 1024
"""What lies behind is not looked at; the largest known has 34 MB."""
_SMALL_BYTES: Final = 4 * 1024 * 1024
_VOCABULARY: Final = re.compile(r'(?<!\\)"vocab"\s*:\s*[{\[]')
_ADDED: Final = re.compile(r'(?<!\\)"added_tokens"\s*:\s*\[')
_TEXT: Final = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_PAIR: Final = re.compile(rf"\s*{_TEXT}\s*:\s*(?P<id>\d{{1,18}})\s*,?")
_ENTRY: Final = re.compile(rf"\s*\[\s*{_TEXT}\s*,[^\]\"]{{0,64}}\]\s*,?")
_ID: Final = re.compile(r'(?<!\\)"id"\s*:\s*(\d{1,18})')
_SAVE_AGAIN: Final = "copy the file from the model that the training began with"


def check_tokenizer(folder: HfFolder, config: Mapping[str, object]) -> Iterator[CkptFinding]:
    """Check the JSON files beside the weights.

    Raises:
        OSError: one of them cannot be read.
    """
    sound = True
    for path in folder.settings:
        if path.stat().st_size > _SMALL_BYTES:
            with open_plain(path) as stream:
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
    with open_plain(path) as stream:
        text = stream.read(_MAX_BYTES).decode("latin-1")
    return max(chain(_in_vocabulary(text), _added(text)), default=None)


def _in_vocabulary(text: str) -> Iterator[int]:
    """Yield the ids of a vocabulary, or of a list of tokens the last one; it ends where something else follows."""
    found = _VOCABULARY.search(text)
    if found is None:
        return
    place, count = found.end(), 0
    pattern = _PAIR if text[place - 1] == "{" else _ENTRY
    while (item := pattern.match(text, place)) is not None:
        place, count = item.end(), count + 1
        if pattern is _PAIR:
            yield int(item["id"])
    if pattern is _ENTRY and count:
        yield count - 1


def _added(text: str) -> Iterator[int]:
    """Yield the ids of added tokens; the parts behind them that have ids, too, have texts for them."""
    found = _ADDED.search(text)
    if found is not None:
        yield from (int(item[1]) for item in _ID.finditer(text, found.end(), found.end() + _SMALL_BYTES))


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
