"""Writing a model as a Hugging Face folder that loads elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import transformers
from torch import Tensor, nn

from orz_ckpt.manifest import FileEntry
from orz_train.backends.hf.switched_off import restored_config
from orz_train.backends.hf.tokenizer import HFTokenizer
from orz_train.backends.weights_writing import files_of, hashing, save_file

transformers.modeling_utils.safe_save_file = save_file  # type: ignore[attr-defined]  # it has no argument for it


def save_model(
    model: nn.Module, tokenizer: HFTokenizer, folder: Path, *, weights: dict[str, Tensor] | None = None
) -> dict[str, FileEntry]:
    """Write a Hugging Face folder: weights, config, generation config, tokenizer; whatever the rank of this process.

    The configuration is the one that the model was loaded with: what training switches off is on again for others.

    Args:
        model: whose weights, unless `weights` are given.
        tokenizer: saved beside them.
        folder: where.
        weights: by name, where the model itself holds only shards of them.

    Returns:
        Its files, on the disk and hashed, by path relative to the step folder around it.
    """
    tokenizer.save(folder)  # first: transformers makes the folder if need be, and while weights are written it may go
    # transformers may take out of a dictionary what it writes: whoever saves again after a failure needs all of it
    given = None if weights is None else dict(weights)
    with _written_by_any_rank(model), hashing() as hashed:
        model.save_pretrained(folder, state_dict=given)  # type: ignore[operator]  # a PreTrainedModel
    restored_config(model).to_json_file(folder / "config.json")
    return files_of(folder, hashed)


@contextmanager
def _written_by_any_rank(model: nn.Module) -> Iterator[None]:
    """Let whoever asks write: transformers writes nothing on other ranks than 0, without a word.

    A rank on another node writes to that node's own disk.
    """
    model.should_save_on_this_rank = lambda is_main_process: is_main_process  # type: ignore[assignment]
    try:
        yield
    finally:
        del model.should_save_on_this_rank
