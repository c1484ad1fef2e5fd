"""Models as Hugging Face folders: what is saved loads elsewhere, what can't be loaded says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import (
    AutoModelForCausalLM,
    AutoModelForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    PreTrainedTokenizerFast,
)

from orz_train.backends import hf
from orz_train.backends.local.models import LocalCritic, LocalPolicy
from orz_train.config.schema import Config
from orz_train.config.shipped import resolve
from orz_train.data.packing import Packing, pack
from orz_train.errors import BackendMissingError, DataError
from orz_train.testing import write_tiny_model
from orz_train.types import Rollout

pytestmark = pytest.mark.component


def test_saved_policy_loads_with_transformers(
    tmp_path: Path,
    rollouts: list[Rollout],
    config_for: Callable[..., Config],
    policy_for: Callable[[Config], LocalPolicy],
) -> None:
    """AutoModelForCausalLM gives the policy's log-probs, bit for bit."""
    policy = policy_for(config_for())
    policy.save(tmp_path / "policy")
    (row,) = pack(rollouts[:1], Packing(max_tokens=64))
    logits_TV = AutoModelForCausalLM.from_pretrained(tmp_path / "policy")(row.token_ids_T[None]).logits[0]
    logp_TV = torch.log_softmax(logits_TV[:, : policy.num_ids].float(), -1)
    expected = logp_TV[:-1].gather(-1, row.token_ids_T[1:, None]).squeeze(-1) * row.action_mask_T[1:]
    torch.testing.assert_close(expected, policy.logprobs([row])[0][1:], atol=1e-6, rtol=0)


@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "made from its configuration"])
def test_a_copy_can_be_saved_again(tiny_model: Path, tokenizer: hf.HFTokenizer, tmp_path: Path, loaded: bool) -> None:
    """As after a disk that refused: of a model that it has not loaded, transformers empties what it is given."""
    model = hf.load_causal_lm(str(tiny_model), dtype="float32")
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if not loaded:
        model = AutoModelForCausalLM.from_config(model.config)
    weights = dict(expected)
    for folder in (tmp_path / "first", tmp_path / "second"):
        files = hf.save_model(model, tokenizer, folder / "policy", weights=weights)
        assert "policy/model.safetensors" in files
        written = load_file(folder / "policy" / "model.safetensors")
        assert expected.keys() - written.keys() <= {"lm_head.weight"}  # tied
        torch.testing.assert_close(written, {name: expected[name] for name in written}, rtol=0, atol=0)


def test_saved_critic_loads_as_a_token_classifier(
    tmp_path: Path,
    rollouts: list[Rollout],
    config_for: Callable[..., Config],
    critic_for: Callable[[Config], LocalCritic],
) -> None:
    """One label, no dropout, no bias; the value of token t is the score at token t - 1."""
    critic = critic_for(config_for())
    critic.save(tmp_path / "critic")
    loaded = AutoModelForTokenClassification.from_pretrained(tmp_path / "critic")
    assert (1, 0.0, None) == (loaded.config.num_labels, loaded.dropout.p, loaded.score.bias)
    (row,) = pack(rollouts[:1], Packing(max_tokens=64))
    scores_T = loaded.train()(row.token_ids_T[None]).logits[0, :, 0]
    ((values_T, ends_S),) = critic.values([row])
    torch.testing.assert_close(scores_T[:-1] * row.action_mask_T[1:], values_T[1:], atol=1e-6, rtol=0)
    torch.testing.assert_close(scores_T[-1:], ends_S, atol=1e-6, rtol=0)


def test_a_new_critic_values_everything_at_zero(tiny_model: Path, rollouts: list[Rollout]) -> None:
    """From a language model the head is new and 0; its backbone is the model's."""
    model = hf.load_critic(str(tiny_model), dtype="float32")
    (row,) = pack(rollouts[:1], Packing(max_tokens=64))
    with torch.no_grad():
        values_K, ends_S = hf.critic_values(model, row)
    assert 0 == float(values_K.abs().max()) == float(ends_S.abs().max())
    policy = hf.load_causal_lm(str(tiny_model), dtype="float32")
    backbone, saved = dict(model.named_parameters()), dict(policy.named_parameters())
    shared = backbone.keys() & saved.keys()
    assert backbone.keys() - shared == {"score.weight"}
    assert all(torch.equal(backbone[name], saved[name]) for name in shared)


@pytest.mark.parametrize(
    "breakage", ["missing", "no config", "no weights", "torn config", "torn weights", "other shapes"]
)
def test_a_model_that_cannot_be_loaded_is_named(tmp_path: Path, tiny_model: Path, breakage: str) -> None:
    """A folder that isn't there, or lacks a part, is a DataError that names it: no traceback for a user's mistake."""
    folder = tmp_path / "model"
    if breakage != "missing":
        shutil.copytree(tiny_model, folder)
    if breakage == "no config":
        (folder / "config.json").unlink()
    if breakage == "no weights":
        (folder / "model.safetensors").unlink()
    if breakage == "torn config":
        (folder / "config.json").write_text("{", encoding="utf-8")
    if breakage == "torn weights":
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])
    if breakage == "other shapes":
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 64}), encoding="utf-8")
    with pytest.raises(DataError, match=str(folder)) as caught:
        hf.load_causal_lm(str(folder), dtype="float32")
    assert caught.value.remedy


def test_a_tokenizer_without_an_end_is_refused(tiny_model: Path) -> None:
    """No response could end by itself; the message says where to set the token."""
    endless = PreTrainedTokenizerFast(tokenizer_file=str(tiny_model / "tokenizer.json"))
    with pytest.raises(DataError, match="no end-of-sequence token") as caught:
        hf.HFTokenizer(endless, source="models/endless")
    assert "models/endless" in caught.value.message
    assert "generation_config.json" in caught.value.remedy
    assert (7,) == hf.HFTokenizer(endless, generation_eos=[7]).eos_token_ids


def test_end_ids_come_from_the_generation_config_too(tmp_path: Path, tiny_model: Path) -> None:
    """Its list of end ids is added to the tokenizer's own, each once."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [42, 9, 42]}), encoding="utf-8")
    assert (42, 9) == hf.load_tokenizer(str(folder)).eos_token_ids


def test_a_family_with_a_hard_coded_bias_keeps_it_at_zero(tmp_path: Path) -> None:
    """GPT-NeoX's token classifier has a bias: it stays 0 and untrained, so a saved critic has the same values."""
    config = GPTNeoXConfig(
        vocab_size=56, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64
    )
    GPTNeoXForCausalLM(config).save_pretrained(tmp_path / "base")
    critic = hf.load_critic(str(tmp_path / "base"), dtype="float32")
    head = hf.value_head(critic)
    assert (0.0, 0.0, False) == (
        float(head.weight.detach().abs().max()),
        float(head.bias.abs().max()),
        head.bias.requires_grad,
    )
    torch.nn.init.normal_(head.weight)
    critic.save_pretrained(tmp_path / "critic")
    again = hf.value_head(hf.load_critic(str(tmp_path / "critic"), dtype="float32"))
    assert torch.equal(head.weight, again.weight)
    assert 0.0 == float(again.bias.abs().max())


@pytest.mark.parametrize(("model_type", "dropout"), [("qwen2", "attention_dropout"), ("gpt2", "attn_pdrop")])
@pytest.mark.parametrize("load", [hf.load_causal_lm, hf.load_critic])
def test_what_training_switches_off_is_in_the_saved_configuration(
    tmp_path: Path, load: Callable[..., torch.nn.Module], model_type: str, dropout: str
) -> None:
    """Cache and dropout are the base's for whoever loads the folder, while this model goes on without; twice over."""
    source = write_tiny_model(tmp_path / "source")
    if model_type == "gpt2":
        settings = GPT2Config(vocab_size=264, n_embd=16, n_layer=1, n_head=2, eos_token_id=1, bos_token_id=None)
        GPT2LMHeadModel(settings).save_pretrained(source)
    base = json.loads((source / "config.json").read_text()) | {"use_cache": True, dropout: 0.25}
    (source / "config.json").write_text(json.dumps(base))
    tokenizer = hf.load_tokenizer(str(source))
    for round_trip in range(2):
        model = load(str(source), dtype="float32")
        source = tmp_path / f"saved-{round_trip}"
        hf.save_model(model, tokenizer, source)
        saved = json.loads((source / "config.json").read_text())
        assert (True, 0.25) == (saved["use_cache"], saved[dropout])
        assert (False, 0.0) == (model.config.use_cache, getattr(model.config, dropout))
        assert {0.0} >= {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
        if load is hf.load_causal_lm:
            assert base == {name: saved.get(name) for name in base}


def test_a_saved_policy_has_the_configuration_of_its_base(tmp_path: Path) -> None:
    """Every setting of the model that comes with orz-train, and of its generation config."""
    base = resolve("shipped:sums-base")
    hf.save_model(hf.load_causal_lm(str(base), dtype="float32"), hf.load_tokenizer(str(base)), tmp_path)
    for name in ("config.json", "generation_config.json"):
        assert json.loads((base / name).read_text()) == json.loads((tmp_path / name).read_text())


@contextmanager
def rank_of_two(rank: int) -> Iterator[None]:
    """Make this process one rank of two, in a group that exchanges nothing."""
    distributed.init_process_group("fake", rank=rank, world_size=2, store=FakeStore())
    try:
        yield
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_folder_is_written_by_any_rank(rank: int, tmp_path: Path) -> None:
    """The rank of another node writes what the first writes; transformers alone would write nothing there."""
    source = write_tiny_model(tmp_path / "source")
    tokenizer, model = hf.load_tokenizer(str(source)), AutoModelForCausalLM.from_pretrained(source)
    weights = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    with rank_of_two(rank):
        hf.save_model(model, tokenizer, tmp_path / "saved", weights=weights)
        model.save_pretrained(tmp_path / "alone")
    files = {path.name for path in (tmp_path / "saved").iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= files
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    assert weights.keys() == saved.keys()
    assert all(torch.equal(weights[name], saved[name]) for name in weights)
    assert (rank == 0) == (tmp_path / "alone" / "model.safetensors").exists()


def test_code_that_cannot_be_imported_is_no_broken_folder(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What transformers hides behind its own error is named, with what to do; the folder isn't blamed."""

    def from_pretrained(*_: object, **__: object) -> None:
        hidden = RuntimeError("operator torchvision::nms does not exist\nmore")
        raise ModuleNotFoundError("Could not import module 'Qwen2ForCausalLM'.") from hidden

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", from_pretrained)
    with pytest.raises(
        BackendMissingError,
        match=r"^model .* can't import what it needs: RuntimeError: operator torchvision::nms does not exist\n"
        r"  -> .*`orz doctor`.*pip install ",
    ):
        hf.load_causal_lm(str(tiny_model), dtype="float32")
