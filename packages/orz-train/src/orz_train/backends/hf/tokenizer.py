"""A model's tokenizer, behind the `Tokenizer` port."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from orz_train.backends.hf.explained import explained
from orz_train.errors import DataError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
"""One of these makes a folder a tokenizer's."""


class HFTokenizer:
    """A Hugging Face tokenizer behind the `Tokenizer` port.

    Raises:
        DataError: it has no end-of-sequence token, so no response could end.
    """

    def __init__(self, tokenizer: Any, *, generation_eos: Sequence[int] = (), source: str = "") -> None:
        self._tokenizer = tokenizer
        own = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
        self.eos_token_ids: tuple[int, ...] = tuple(dict.fromkeys([*own, *generation_eos]))
        if not self.eos_token_ids:
            raise DataError(
                f"{source}: the tokenizer has no end-of-sequence token, so a response could never end by itself",
                remedy='set "eos_token" in tokenizer_config.json, or "eos_token_id" in generation_config.json',
            )
        self.bos_token_id: int | None = tokenizer.bos_token_id
        self.vocab_size: int = len(tokenizer)

    def encode(self, text: str) -> list[int]:
        """Encode without adding special tokens."""
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Decode, special tokens included, spaces as they were."""
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Render messages with the chat template.

        Raises:
            DataError: the tokenizer has no chat template.
        """
        if not self._tokenizer.chat_template:
            raise DataError(
                "data.template is `chat`, but the tokenizer has no chat template",
                remedy="use data.template=r1-zero, plain, or a text with {problem}",
            )
        return str(self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files."""
        self._tokenizer.save_pretrained(folder)


def load_tokenizer(model: str, *, trust_remote_code: bool = False) -> HFTokenizer:
    """Load a model's tokenizer, with the end-of-sequence ids of its generation config.

    Raises:
        BackendMissingError: the code for it can't be imported.
        DataError: the folder or name can't be loaded, or the tokenizer has no end-of-sequence token.
    """
    if Path(model).is_dir() and not any((Path(model) / name).is_file() for name in TOKENIZER_FILES):
        raise DataError(
            f"tokenizer {model}: expected one of {', '.join(TOKENIZER_FILES)}, the folder has none of them",
            remedy="copy the tokenizer's files there from the model it belongs to",
        )
    with explained(model, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code, local_files_only=True)
        generation_eos = _generation_eos(model)
    return HFTokenizer(tokenizer, generation_eos=generation_eos, source=model)


def _generation_eos(model: str) -> list[int]:
    """Read the end-of-sequence ids of generation_config.json, which may be a number, a list or missing."""
    path = Path(model) / "generation_config.json"
    if not path.is_file():
        return []
    eos = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    return [] if eos is None else [int(x) for x in (eos if isinstance(eos, list) else [eos])]
