"""`orz ckpt convert`: critics of ORZ, trl and orz-train load as what they became, and give the same values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from orz_ckpt.convert import Layout, convert_checkpoint
from orz_ckpt.inspection import inspect
from orz_ckpt.merge.run import Options
from orz_ckpt.sources import open_source
from orz_ckpt.verify import verify
from orz_cli.findings import Status
from orz_cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

    from orz_ckpt.merge.run import Merged

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")

pytestmark = [
    pytest.mark.component,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

HIDDEN = 16
IDS = list(range(1, 10))
SIZES: dict[str, Any] = {
    "vocab_size": 33,
    "hidden_size": HIDDEN,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
Tensors = dict[str, Any]


@pytest.fixture(scope="module")
def backbone() -> Any:
    torch.manual_seed(0)
    return transformers.Qwen2Model(transformers.Qwen2Config(**SIZES)).eval()


@pytest.fixture(scope="module")
def head() -> Any:
    return torch.randn(HIDDEN, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def values(backbone: Any, head: Any) -> Any:
    """What ORZ's critic gives for each token but the last: `value_head(last_hidden_state).squeeze(-1)[:, :-1]`."""
    with torch.no_grad():
        hidden = backbone(torch.tensor([IDS])).last_hidden_state
        return torch.nn.functional.linear(hidden, head[None]).squeeze(-1)[:, :-1]


def write(folder: Path, tensors: Tensors, config: dict[str, Any] | None) -> Path:
    folder.mkdir(parents=True)
    safetensors.save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def critic_of_orz(folder: Path, backbone: Any, head: Any, shape: tuple[int, ...] = (1, HIDDEN), **more: Any) -> Path:
    """Write what ORZ's `save_model` writes for a critic."""
    tensors = {f"model.{name}": tensor for name, tensor in backbone.state_dict().items()}
    config = {**backbone.config.to_dict(), "architectures": ["CriticModel"], "normalize_reward": True, **more}
    return write(folder, {**tensors, "value_head.weight": head.reshape(shape)}, config)


def converted(source: Path, out: Path, layout: Layout, **options: Any) -> Merged:
    return convert_checkpoint(open_source(source), out, layout, Options(**options))


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def loaded_values(folder: Path) -> Any:
    """Return the values of a converted folder, as transformers loads it; nothing may be missing or left over."""
    model, info = transformers.AutoModelForTokenClassification.from_pretrained(folder, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    assert ("Qwen2ForTokenClassification", 1, 0.0) == (type(model).__name__, model.config.num_labels, model.dropout.p)
    with torch.no_grad():
        return model.train()(torch.tensor([IDS])).logits.squeeze(-1)[:, :-1]


@pytest.mark.parametrize("shape", [(1, HIDDEN), (8, HIDDEN // 8), (HIDDEN, 1), (HIDDEN,)])
def test_a_critic_of_orz_becomes_a_token_classifier(
    shape: tuple[int, ...], backbone: Any, head: Any, values: Any, tmp_path: Path
) -> None:
    """Of either shape, transformers loads it and gives the values of ORZ's own forward pass."""
    out = tmp_path / "out"
    done = converted(critic_of_orz(tmp_path / "orz", backbone, head, shape), out, Layout.HF)
    assert (Status.OK, shape != (1, HIDDEN)) == (
        done.status(),
        "head_reshaped" in {entry.code for entry in done.findings},
    )
    torch.testing.assert_close(values, loaded_values(out), rtol=0, atol=1e-6)
    assert "normalize_reward" not in config_of(out)
    assert Status.OK == verify(out).status()
    assert "shapes_not_checked" not in {entry.code for entry in verify(out).findings}


def test_there_and_back_again_is_the_same(backbone: Any, head: Any, tmp_path: Path) -> None:
    """A critic of ours becomes ORZ's and ours again without a changed bit."""
    orz = critic_of_orz(tmp_path / "orz", backbone, head)
    converted(orz, tmp_path / "ours", Layout.HF)
    converted(tmp_path / "ours", tmp_path / "back", Layout.ORZ_CRITIC)
    first, last = (safetensors.load_file(path / "model.safetensors") for path in (orz, tmp_path / "back"))
    assert first.keys() == last.keys()
    assert all(torch.equal(first[name], last[name]) for name in first)
    config = config_of(tmp_path / "back")
    assert (["CriticModel"], True) == (config["architectures"], config["normalize_reward"])
    assert not {"id2label", "label2id", "token_classification_bias", "classifier_dropout"} & config.keys()
    assert "shapes_not_checked" not in {entry.code for entry in verify(tmp_path / "back").findings}


def test_orz_loads_what_was_made_for_it(backbone: Any, head: Any, values: Any, tmp_path: Path) -> None:
    """A class built as ORZ's `get_llm_for_sequence_regression` builds its own loads the folder, and agrees."""
    ours = write(
        tmp_path / "ours",
        {**{f"model.{name}": tensor for name, tensor in backbone.state_dict().items()}, "score.weight": head[None]},
        {**backbone.config.to_dict(), "architectures": ["Qwen2ForTokenClassification"], "id2label": {"0": "LABEL_0"}},
    )
    converted(ours, tmp_path / "out", Layout.ORZ_CRITIC)

    class CriticModel(transformers.Qwen2PreTrainedModel):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.model = transformers.Qwen2Model(config)
            self.value_head = torch.nn.Linear(config.hidden_size, 1, bias=False)
            self.post_init()

    model, info = CriticModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    with torch.no_grad():
        hidden = model.eval().model(torch.tensor([IDS])).last_hidden_state
        torch.testing.assert_close(values, model.value_head(hidden).squeeze(-1)[:, :-1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("wrapper", ["", "pretrained_model."])
def test_a_critic_with_the_value_head_of_trl(
    wrapper: str, backbone: Any, head: Any, values: Any, tmp_path: Path
) -> None:
    """Such critics (verl has them) keep their bias, and lose the language model's head and the wrapper's name."""
    tensors = {f"{wrapper}model.{name}": tensor for name, tensor in backbone.state_dict().items()}
    tensors |= {f"{wrapper}lm_head.weight": torch.ones(33, HIDDEN)}
    tensors |= {"v_head.summary.weight": head[None], "v_head.summary.bias": torch.tensor([0.25])}
    config = {**backbone.config.to_dict(), "architectures": ["Qwen2ForCausalLM"]}
    done = converted(write(tmp_path / "trl", tensors, config), tmp_path / "out", Layout.HF)
    assert "head_dropped" in {entry.code for entry in done.findings}
    torch.testing.assert_close(values + 0.25, loaded_values(tmp_path / "out"), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "config"), [("critic", {}), ("regression_head", {"value_head_prefix": "regression_head"})]
)
def test_a_critic_with_another_head(
    name: str, config: dict[str, Any], backbone: Any, head: Any, values: Any, tmp_path: Path
) -> None:
    """Whatever `inspect` calls a critic is converted as one, also by the name that OpenRLHF's configuration gives."""
    tensors = {f"model.{key}": tensor for key, tensor in backbone.state_dict().items()}
    config = {**backbone.config.to_dict(), "architectures": ["CriticModel"], **config}
    folder = write(tmp_path / "critic", {**tensors, f"{name}.weight": head[None]}, config)
    assert ["critic"] == [model.role for model in inspect(folder).models]
    assert Status.OK is converted(folder, tmp_path / "out", Layout.HF).status()
    torch.testing.assert_close(values, loaded_values(tmp_path / "out"), rtol=0, atol=1e-6)
    assert "value_head_prefix" not in config_of(tmp_path / "out")
    assert Status.OK is converted(folder, tmp_path / "orz", Layout.ORZ_CRITIC).status()
    assert Status.OK is verify(tmp_path / "orz").status()


def test_ranks_of_verl_become_a_token_classifier(backbone: Any, head: Any, values: Any, tmp_path: Path) -> None:
    """A critic in FSDP ranks, with the configuration in `huggingface/`, is merged and converted at once."""
    folder = tmp_path / "global_step_3" / "critic"
    (folder / "huggingface").mkdir(parents=True)
    config = {**backbone.config.to_dict(), "architectures": ["Qwen2ForCausalLM"]}
    (folder / "huggingface" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors = {f"model.{name}": tensor for name, tensor in backbone.state_dict().items()}
    tensors |= {"score.weight": head[None], "score.bias": torch.zeros(1)}
    torch.save(tensors, folder / "model_world_size_1_rank_0.pt")
    done = converted(folder, tmp_path / "out", Layout.HF)
    assert Status.OK == done.status()
    torch.testing.assert_close(values, loaded_values(tmp_path / "out"), rtol=0, atol=1e-6)
    back = converted(folder, tmp_path / "orz", Layout.ORZ_CRITIC)  # a bias of zeros is none
    assert Status.OK == back.status()
    assert "value_head.bias" not in safetensors.load_file(tmp_path / "orz" / "model.safetensors")


def test_a_policy_is_written_as_it_is(backbone: Any, tmp_path: Path) -> None:
    """`--to hf` of a model without value head is a merge: names, numbers and configuration stay."""
    tensors = {f"model.{name}": tensor for name, tensor in backbone.state_dict().items()}
    tensors |= {"lm_head.weight": torch.ones(33, HIDDEN)}
    config = {**backbone.config.to_dict(), "architectures": ["Qwen2ForCausalLM"]}
    policy = write(tmp_path / "policy", tensors, config)
    assert Status.OK == converted(policy, tmp_path / "out", Layout.HF).status()
    same = safetensors.load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(tensor, same[name]) for name, tensor in tensors.items())
    assert ["Qwen2ForCausalLM"] == config_of(tmp_path / "out")["architectures"]


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        ({"mean": 0.5}, "layout_unsupported", "normalises the values"),
        ({"model_type": "unheard_of"}, "layout_unsupported", "'unheard_of'"),
        ({"hidden_size": 8}, "shape_differs", "[1, 8]"),
    ],
)
def test_what_would_change_the_values_is_refused(
    settings: dict[str, Any], code: str, said: str, backbone: Any, head: Any, tmp_path: Path
) -> None:
    """A normalised critic, an unknown family and a head of another width are not converted."""
    source = critic_of_orz(tmp_path / "orz", backbone, head, **settings)
    done = converted(source, tmp_path / "out", Layout.HF)
    (found,) = [entry for entry in done.findings if entry.code == code]
    assert said in found.message
    assert not (tmp_path / "out").exists()


def test_a_bias_is_never_dropped(backbone: Any, head: Any, tmp_path: Path) -> None:
    """ORZ's head has no bias: a critic whose bias is not 0 would give other values, and is refused."""
    tensors = {f"model.{name}": tensor for name, tensor in backbone.state_dict().items()}
    tensors |= {"score.weight": head[None], "score.bias": torch.tensor([0.5])}
    ours = write(tmp_path / "ours", tensors, {**backbone.config.to_dict(), "architectures": ["Qwen2ForCausalLM"]})
    assert Status.INCONCLUSIVE == converted(ours, tmp_path / "out", Layout.ORZ_CRITIC).status()
    assert not (tmp_path / "out").exists()


def test_the_command(backbone: Any, head: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`orz ckpt convert SRC OUT --to ...`: 0 with JSON of what was written, 2 where the layout makes no sense."""
    source, out = critic_of_orz(tmp_path / "orz", backbone, head, (8, 2)), tmp_path / "out"
    assert 0 == main(["ckpt", "convert", str(source), str(out), "--to", "hf", "--dtype", "bfloat16", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert ("ok", str(out), ["BF16"]) == (said["status"], said["out"], said["dtypes"])
    assert "bfloat16" in {config_of(out).get(key) for key in ("dtype", "torch_dtype")}
    policy = write(tmp_path / "policy", {"lm_head.weight": torch.ones(3, 3)}, {"value_head_prefix": "\x1b[2J"})
    assert 2 == main(["ckpt", "convert", str(policy), str(tmp_path / "no"), "--to", "orz-critic"])
    said = capsys.readouterr().err
    assert (True, False) == ("is no critic" in said, "\x1b" in said)


def test_without_configuration_names_still_change(backbone: Any, head: Any, tmp_path: Path) -> None:
    """A critic without config.json is renamed, with a warning; `--config` of its base gives the rest."""
    source = critic_of_orz(tmp_path / "orz", backbone, head)
    base = tmp_path / "base"
    base.mkdir()
    (source / "config.json").rename(base / "config.json")
    done = converted(source, tmp_path / "bare", Layout.HF)
    assert (True, True) == (done.written, "config_missing" in {entry.code for entry in done.findings})
    assert "score.weight" in safetensors.load_file(tmp_path / "bare" / "model.safetensors")
    converted(source, tmp_path / "full", Layout.HF, config=base)
    assert ["Qwen2ForTokenClassification"] == config_of(tmp_path / "full")["architectures"]


def test_a_tied_pair_under_the_heads_name_keeps_the_embedding(tmp_path: Path, backbone: Any, head: Any) -> None:
    """A file of torch that names the head first: its numbers are the embedding's, which a critic needs."""
    embedding = backbone.embed_tokens.weight.detach()
    tensors = {"lm_head.weight": embedding, "model.embed_tokens.weight": embedding}
    tensors |= {f"model.{name}": tensor for name, tensor in backbone.state_dict().items() if "embed" not in name}
    source = tmp_path / "critic"
    source.mkdir()
    torch.save({**tensors, "value_head.weight": head[None]}, source / "pytorch_model.bin")
    (source / "config.json").write_text(json.dumps(backbone.config.to_dict()), encoding="utf-8")
    converted(source, tmp_path / "out", Layout.HF)
    written = open_source(tmp_path / "out").tensors
    assert "lm_head.weight" not in written
    assert tuple(embedding.shape) == written["model.embed_tokens.weight"].shape
    assert Status.OK is verify(tmp_path / "out").status()


@pytest.mark.parametrize("layout", list(Layout))
def test_two_value_heads_are_refused(tmp_path: Path, backbone: Any, head: Any, layout: Layout) -> None:
    """Nothing says which was trained: neither is written, and both are named."""
    tensors = {f"model.{name}": tensor for name, tensor in backbone.state_dict().items()}
    both = {**tensors, "value_head.weight": head[None], "score.weight": head[None] * 2}
    source = write(tmp_path / "critic", both, backbone.config.to_dict())
    merged = converted(source, tmp_path / "out", layout)
    assert ["layout_unsupported"] == [entry.code for entry in merged.findings if entry.severity == "error"]
    assert "'score.weight' beside 'value_head.weight'" in merged.findings[0].message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", list(Layout))
def test_an_adapter_is_no_model(layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused as by a merge, exit 2 with the command that adds it to its base; nothing is written."""
    source = tmp_path / "adapter"
    source.mkdir()
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {f"{module}.lora_A.weight": torch.ones(2, 8), f"{module}.lora_B.weight": torch.ones(8, 2)}
    safetensors.save_file(tensors, source / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
    (source / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    assert 2 == main(["ckpt", "convert", str(source), str(tmp_path / "out"), "--to", layout.value])
    said = capsys.readouterr().err
    assert (True, True) == ("is an adapter, not a model" in said, f"merge BASE OUT --lora {source}" in said)
    assert not (tmp_path / "out").exists()


def test_factors_beside_the_weights_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Written under their own names with a warning, as by a merge; where they hide a value head, they are named."""
    module = "base_model.model.score"
    tensors = {
        f"{module}.base_layer.weight": torch.ones(1, 8),
        f"{module}.lora_A.default.weight": torch.ones(2, 8),
        f"{module}.lora_B.default.weight": torch.ones(1, 2),
    }
    source = write(tmp_path / "wrapped", tensors, None)
    assert 0 == main(["ckpt", "convert", str(source), str(tmp_path / "out"), "--to", "hf", "--json"])
    told = [entry for entry in json.loads(capsys.readouterr().out)["findings"] if entry["code"] == "lora_inside"]
    command = f"(orz ckpt merge {source} MERGED --lora-alpha N)"
    assert [("warn", True)] == [(entry["severity"], command in entry["remedy"]) for entry in told]
    assert tensors.keys() == safetensors.load_file(tmp_path / "out" / "model.safetensors").keys()
    assert 2 == main(["ckpt", "convert", str(source), str(tmp_path / "no"), "--to", "orz-critic"])
    assert command in capsys.readouterr().err

    assert 0 == main(["ckpt", "merge", str(source), str(tmp_path / "merged"), "--lora-alpha", "2"])
    assert 0 == main(["ckpt", "convert", str(tmp_path / "merged"), str(tmp_path / "critic"), "--to", "orz-critic"])
    head = safetensors.load_file(tmp_path / "critic" / "model.safetensors")["value_head.weight"]
    assert [[1.0 + 2 / 2 * 2] * 8] == head.tolist()
