"""Hugging Face models and tokenizers: loading, one packed forward pass, saving. The only `import transformers`."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer
from transformers.utils import logging as hf_logging
from transformers.utils.hub import cached_file

from orz_ckpt.manifest import FileEntry
from orz_cli.installing import install_line
from orz_train.algo.logprobs import action_logprobs, predictor_index
from orz_train.algo.segments import action_index, scatter_actions
from orz_train.backends.precision import multiply_bfloat16_in_float32
from orz_train.backends.weights_writing import files_of, hashing, save_file
from orz_train.config import shipped
from orz_train.errors import BackendMissingError, DataError
from orz_train.types import PackedRow

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
"""One of these makes a folder a tokenizer's."""
_OFF: Mapping[str, float | bool] = {
    **dict.fromkeys(("attention_dropout", "attn_pdrop", "hidden_dropout", "resid_pdrop", "embd_pdrop"), 0.0),
    "use_cache": False,
}
"""Settings of a model's configuration while it is trained."""
_SWITCHED_OFF = "orz_switched_off"
"""Attribute of a model: those settings as its folder has them."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
transformers.modeling_utils.safe_save_file = save_file  # type: ignore[attr-defined]  # it has no argument for it


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
    with _explained(model, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code, local_files_only=True)
        generation_eos = _generation_eos(model)
    return HFTokenizer(tokenizer, generation_eos=generation_eos, source=model)


def load_causal_lm(model: str, *, dtype: str, trust_remote_code: bool = False) -> nn.Module:
    """Load a language model for packed rows: SDPA, no dropout, eval mode.

    Raises:
        BackendMissingError: the code for it can't be imported.
        DataError: the folder or name can't be loaded.
    """
    with _explained(model, "model"):
        loaded = AutoModelForCausalLM.from_pretrained(
            model,
            dtype=_torch_dtype(dtype),
            attn_implementation="sdpa",
            trust_remote_code=trust_remote_code,
            local_files_only=True,
        )
    return _prepared(loaded)


def load_critic(model: str, *, dtype: str, trust_remote_code: bool = False) -> nn.Module:
    """Load a backbone with a value head: a token classifier with one label, no dropout, no bias.

    From a language model the head is new and 0, so values start at 0; from a saved critic it is the saved one.

    Raises:
        BackendMissingError: the code for it can't be imported.
        DataError: the folder or name can't be loaded.
    """
    loaded, _ = _token_classifier(model, "critic", dtype=dtype, trust_remote_code=trust_remote_code)
    had_head = any("ForTokenClassification" in name for name in loaded.config.architectures or ())
    head = value_head(loaded)
    if not had_head:
        nn.init.zeros_(head.weight)
    if head.bias is not None:  # a family that hard-codes one, such as GPT-NeoX: it stays 0 and untrained
        nn.init.zeros_(head.bias)
        head.bias.requires_grad_(False)
    return _prepared(loaded)


@dataclass(frozen=True, kw_only=True, slots=True)
class Skeleton:
    """A language model without its weights."""

    shapes: Mapping[str, tuple[int, ...]]
    """Of its parameters, by name; a head tied to the embedding isn't one."""
    vocab_size: int
    """Rows of the embedding; may be more than the tokenizer's ids."""


def load_skeleton(model: str, *, trust_remote_code: bool = False) -> Skeleton:
    """Read a language model's names and shapes from its configuration alone.

    Raises:
        BackendMissingError: the code for it can't be imported.
        DataError: the folder or name can't be loaded.
    """
    with _explained(model, "model"):
        config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code, local_files_only=True)
        with torch.device("meta"):
            built = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)  # type: ignore[no-untyped-call]  # no types
    return Skeleton(
        shapes={name: tuple(parameter.shape) for name, parameter in built.named_parameters()},
        vocab_size=built.get_input_embeddings().num_embeddings,
    )


def local_folder(model: str) -> Path:
    """Return the folder of a model: its own, the one that comes with orz-train, or the hub's in the local cache.

    Raises:
        DataError: the name isn't in the local cache.
    """
    path = shipped.resolve(model)
    if path.is_dir() or model.startswith((".", "/", "~")):
        return path
    with _explained(model, "model"):
        return Path(str(cached_file(model, "config.json", local_files_only=True))).parent


def load_reward_model(model: str, *, dtype: str, trust_remote_code: bool = False) -> nn.Module:
    """Load a classifier with one label, of sequences or tokens, to score the last token of each packed sequence.

    Raises:
        BackendMissingError: the code for it can't be imported.
        DataError: the folder or name can't be loaded, or has no such head.
    """
    loaded, missing = _token_classifier(model, "reward model", dtype=dtype, trust_remote_code=trust_remote_code)
    if missing:
        raise DataError(
            f"reward model {model}: expected a classifier with one label, got a model without"
            f" {', '.join(sorted(missing))}",
            remedy="give a folder whose config.json says ...ForSequenceClassification and num_labels 1",
        )
    return _prepared(loaded)


def value_head(model: nn.Module) -> nn.Linear:
    """Return the head of a token classifier, whatever its family calls it."""
    head = getattr(model, "score", None) or getattr(model, "classifier", None)
    assert isinstance(head, nn.Linear)  # noqa: S101  # every token classifier of transformers has one
    return head


def policy_outputs(model: nn.Module, row: PackedRow, *, temperature: float, num_ids: int) -> tuple[Tensor, Tensor]:
    """Run one packed row; return logprobs_K and entropy_K of its actions, f32 on the CPU.

    Logits are made only where an action follows. Sequences see only themselves: positions that restart, no
    attention mask and no cache make transformers build the block-diagonal mask.
    """
    index_K = action_index(row.action_mask_T)
    device = _device(model)
    logits_KV = model(
        input_ids=row.token_ids_T[None].to(device),
        position_ids=row.position_ids_T[None].to(device),
        logits_to_keep=predictor_index(index_K).to(device),
        use_cache=False,
    ).logits[0]
    logprobs_K, entropy_K = action_logprobs(
        logits_KV, row.token_ids_T[index_K].to(device), temperature=temperature, num_ids=num_ids
    )
    return logprobs_K.cpu(), entropy_K.cpu()


def policy_logprobs(model: nn.Module, row: PackedRow, *, temperature: float, num_ids: int) -> Tensor:
    """Return [T] f32 log-probabilities, 0 where no action is, without gradient."""
    with torch.no_grad():  # not inference_mode: weights that ZeRO-3 gathers inside it are lost to autograd
        logprobs_K, _ = policy_outputs(model, row, temperature=temperature, num_ids=num_ids)
        return scatter_actions(logprobs_K, row.action_mask_T)


def critic_values(model: nn.Module, row: PackedRow) -> tuple[Tensor, Tensor]:
    """Run one packed row; return values_K (V before each action) and V after each sequence's last token [S].

    Both f32 on the CPU.
    """
    device = _device(model)
    scores_T = (
        model(
            input_ids=row.token_ids_T[None].to(device),
            position_ids=row.position_ids_T[None].to(device),
            use_cache=False,
        )
        .logits[0, :, 0]
        .float()
        .cpu()
    )
    ends_S = torch.tensor(row.seq_lens_S).cumsum(0) - 1
    return scores_T[predictor_index(action_index(row.action_mask_T))], scores_T[ends_S]


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
    _restored_config(model).to_json_file(folder / "config.json")
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


def _restored_config(model: Any) -> Any:
    """Return a copy of the configuration with what `_prepared` has switched off; the model itself stays as it is."""
    config = copy.deepcopy(model.config)
    for name, value in getattr(model, _SWITCHED_OFF, {}).items():
        setattr(config, name, value)
    return config


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and advice out of the log; its errors still come."""
    verbosity = hf_logging.get_verbosity()
    bars = hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _torch_dtype(dtype: str) -> torch.dtype:
    """Return torch's name of a precision, and see to it that this process multiplies in it as well as it can."""
    if dtype == "bfloat16":
        multiply_bfloat16_in_float32()
    return DTYPES[dtype]


def _token_classifier(model: str, what: str, *, dtype: str, trust_remote_code: bool) -> tuple[Any, set[str]]:
    """Load a backbone with a head of one label; also return the names of the weights that the folder lacks."""
    with _explained(model, what):
        config = AutoConfig.from_pretrained(
            model, num_labels=1, trust_remote_code=trust_remote_code, local_files_only=True
        )
        config.classifier_dropout = 0.0  # of the head, as is the bias: a value is one product with a hidden state
        config.token_classification_bias = False
        loaded, info = AutoModelForTokenClassification.from_pretrained(
            model,
            config=config,
            dtype=_torch_dtype(dtype),
            attn_implementation="sdpa",
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
        )
    return loaded, set(info["missing_keys"])


def _device(model: Any) -> torch.device:
    """Return where a model wants its inputs."""
    device: torch.device = model.device
    return device


@contextmanager
def _explained(model: str, what: str) -> Iterator[None]:
    """Turn what transformers raises about a missing or broken folder into a DataError.

    Raises:
        BackendMissingError: the model's code can't be imported, whatever the folder holds.
        DataError: the folder or name can't be loaded.
    """
    looks_local = model.startswith((".", "/", "~")) or Path(model).is_dir()
    if looks_local and not (Path(model) / "config.json").is_file():
        found = "a folder without config.json" if Path(model).is_dir() else "nothing there"
        raise DataError(
            f"{what} {model}: expected a Hugging Face folder, got {found}",
            remedy="set policy.model (and critic.model) to a folder with config.json, weights and tokenizer",
        )
    try:
        with quiet():
            yield
    except ImportError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # transformers' own error names its class, and only the first one why
            cause = cause.__cause__
        raise BackendMissingError(
            f"{what} {model}: transformers {transformers.__version__} can't import what it needs:"
            f" {type(cause).__name__}: {_first_line(cause)}",
            remedy="install the package that is named, or see `orz doctor` for those that don't fit each other;"
            f" orz's own: {install_line(cuda=torch.version.cuda is not None)}",
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, AssertionError, TypeError, SafetensorError) as error:
        raise DataError(
            f"{what} {model}: transformers {transformers.__version__} can't load it: {_first_line(error)}",
            remedy="check the path; a model of the hub has to be in the local cache: hf download NAME",
        ) from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _generation_eos(model: str) -> list[int]:
    """Read the end-of-sequence ids of generation_config.json, which may be a number, a list or missing."""
    path = Path(model) / "generation_config.json"
    if not path.is_file():
        return []
    eos = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    return [] if eos is None else [int(x) for x in (eos if isinstance(eos, list) else [eos])]


def _prepared(model: Any) -> nn.Module:
    """Switch every source of randomness off: two passes over the same tokens agree."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    setattr(model, _SWITCHED_OFF, {name: getattr(model.config, name) for name in _OFF if hasattr(model.config, name)})
    for name in getattr(model, _SWITCHED_OFF):
        setattr(model.config, name, _OFF[name])
    for module in model.modules():
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0
    prepared: nn.Module = model.eval()
    return prepared
