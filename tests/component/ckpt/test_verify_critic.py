"""Critics as Open-Reasoner-Zero saves them: names and shapes are those of the model they were made of, and the head."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from orz_ckpt.convert import Layout, convert_checkpoint
from orz_ckpt.inspection import inspect
from orz_ckpt.merge.run import Options, merge
from orz_ckpt.sources import open_source
from orz_ckpt.verify import Report, verify
from orz_cli.findings import Severity, Status
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")

pytestmark = [
    pytest.mark.component,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

HIDDEN = 16
SIZES: dict[str, Any] = {
    "vocab_size": 34,
    "hidden_size": HIDDEN,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
HEAD = "value_head.weight"
Tensors = dict[str, Any]


def save_critic(folder: Path, family: str) -> Path:
    """Write what a class that is built as ORZ's `get_llm_for_sequence_regression` builds its own saves."""
    torch.manual_seed(0)
    backbone = getattr(transformers, f"{family}Model")
    grouped = {} if family == "GPTNeoX" else {"num_key_value_heads": 2}

    class CriticModel(backbone.__base__):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            setattr(self, self.base_model_prefix, backbone(config))
            self.value_head = torch.nn.Linear(config.hidden_size, 1, bias=False)
            self.post_init()

    CriticModel(getattr(transformers, f"{family}Config")(**SIZES, **grouped)).save_pretrained(folder)
    return folder


@pytest.fixture
def critic(tmp_path: Path) -> Path:
    return save_critic(tmp_path / "critic", "Qwen2")


def change(folder: Path, edit: Callable[[Tensors], object]) -> None:
    file = folder / "model.safetensors"
    tensors = safetensors.load_file(file)
    edit(tensors)
    safetensors.save_file(tensors, file)


def set_config(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_bytes()), **values}), encoding="utf-8")


def told(report: Report) -> set[tuple[str, str | None]]:
    """Return code and tensor of every finding that is no note."""
    return {(entry.code, entry.tensor) for entry in report.findings if entry.severity is not Severity.INFO}


def notes(report: Report) -> set[str]:
    return {entry.code for entry in report.findings if entry.severity is Severity.INFO}


@pytest.mark.parametrize("family", ["Llama", "Mistral", "Qwen2", "Qwen3", "GPTNeoX"])
def test_a_critic_of_each_family_is_checked_and_sound(family: str, tmp_path: Path) -> None:
    """Real classes with the layout of ORZ's critics pass, and not because nothing was compared."""
    folder = save_critic(tmp_path / "critic", family)
    assert ["CriticModel"] == json.loads((folder / "config.json").read_bytes())["architectures"]
    report = verify(folder)
    assert (Status.OK, set(), {"no_manifest"}) == (report.status(), told(report), notes(report))


def test_the_head_of_the_released_32b_critic(critic: Path) -> None:
    """It is stored as [8, hidden / 8], which is right as well; another number of rows is not."""
    change(critic, lambda tensors: tensors.update({HEAD: tensors[HEAD].reshape(8, HIDDEN // 8)}))
    assert (set(), {"no_manifest"}) == (told(verify(critic)), notes(verify(critic)))
    change(critic, lambda tensors: tensors.update({HEAD: tensors[HEAD].reshape(4, HIDDEN // 4)}))
    report = verify(critic)
    assert (Status.FAILED, {("shape_differs", HEAD)}) == (report.status(), told(report))
    assert "config.json says [1, 16], the file [4, 4]" in str(report.findings)


@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight", HEAD])
def test_a_lost_tensor_is_found(name: str, critic: Path) -> None:
    """What the backbone or the head lacks is an error at its name: a loader would make it up."""
    change(critic, lambda tensors: tensors.pop(name))
    report = verify(critic)
    assert (Status.FAILED, {("tensor_missing", name)}) == (report.status(), told(report))


def test_half_a_vocabulary_is_found(critic: Path) -> None:
    embedding = "model.embed_tokens.weight"
    change(critic, lambda tensors: tensors.update({embedding: tensors[embedding][:17].clone()}))
    assert {("shape_differs", embedding)} == told(verify(critic))


def test_buffers_that_were_saved_with_it_are_no_strangers(critic: Path) -> None:
    """ORZ's class normalises by `mean` and `std`; a language model's head is still one too many."""
    change(critic, lambda tensors: tensors.update(mean=torch.zeros(1), std=torch.ones(1)))
    assert set() == told(verify(critic))
    change(critic, lambda tensors: tensors.update({"lm_head.weight": torch.randn(34, HIDDEN)}))
    assert {("tensor_unexpected", "lm_head.weight")} == told(verify(critic))


def test_a_head_that_the_configuration_names(critic: Path) -> None:
    """OpenRLHF's critics name their head in `value_head_prefix`."""
    set_config(critic, value_head_prefix="score")
    assert {("tensor_missing", "score.weight"), ("tensor_unexpected", HEAD)} == told(verify(critic))
    change(critic, lambda tensors: tensors.update({"score.weight": tensors.pop(HEAD)}))
    assert set() == told(verify(critic))


def test_a_critic_of_an_unknown_model_is_not_called_right(critic: Path) -> None:
    """Where the backbone's names cannot be derived, that is said."""
    set_config(critic, model_type="unheard_of")
    assert {"shapes_not_checked", "no_manifest"} == notes(verify(critic))
    assert "CriticModel of models of type 'unheard_of'" in str(verify(critic).findings)


@pytest.mark.parametrize("head", ["value_head", "v_head"])
def test_a_merged_critic_says_how_its_head_is_called(head: str, critic: Path, tmp_path: Path) -> None:
    """A critic with the configuration of the policy: what is written agrees with its own config.json."""
    change(critic, lambda tensors: tensors.update({f"{head}.weight": tensors.pop(HEAD)}))
    policy = tmp_path / "policy"
    policy.mkdir()
    (policy / "config.json").write_bytes((critic / "config.json").read_bytes())
    set_config(policy, architectures=["Qwen2ForCausalLM"])
    (critic / "config.json").unlink()
    merge(open_source(critic), tmp_path / "out", Options(config=policy))
    config = json.loads((tmp_path / "out" / "config.json").read_bytes())
    assert (["CriticModel"], head) == (config["architectures"], config["value_head_prefix"])
    report = verify(tmp_path / "out")
    assert (Status.OK, set(), set()) == (report.status(), told(report), notes(report))


def test_inspect_says_that_a_folder_is_a_critic(critic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder alone has no name that says so; its configuration or its value head does. A policy is not called one."""
    assert ["critic"] == [model.role for model in inspect(critic).models]
    assert 0 == main(["ckpt", "inspect", str(critic)])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["role", "critic"] in rows
    set_config(critic, architectures=["Qwen2ForCausalLM"])
    assert ["critic"] == [model.role for model in inspect(critic).models]
    change(critic, lambda tensors: tensors.update({"lm_head.weight": tensors.pop(HEAD)}))
    assert [""] == [model.role for model in inspect(critic).models]
    set_config(critic, architectures=["CriticModel"], value_head_prefix="lm_head")
    assert ["critic"] == [model.role for model in inspect(critic).models]


@pytest.mark.parametrize(
    ("head", "labels", "role"),
    [("ForSequenceClassification", 1, ""), ("ForTokenClassification", 1, "critic"), ("ForTokenClassification", 9, "")],
)
def test_a_reward_model_is_no_critic(head: str, labels: int, role: str, tmp_path: Path) -> None:
    """It has a critic's head, of the same name and shape, and gives one number a text: its class tells them apart.

    Neither is what tells nine kinds of words apart a critic. `convert --to hf` leaves a reward model what it is.
    """
    folder, out = tmp_path / "model", tmp_path / "out"
    config = transformers.Qwen2Config(**SIZES, num_key_value_heads=2, num_labels=labels, pad_token_id=0)
    getattr(transformers, f"Qwen2{head}")(config).save_pretrained(folder)
    assert ([role], (labels, HIDDEN)) == (
        [model.role for model in inspect(folder).models],
        inspect(folder).models[0].source.tensors["score.weight"].shape,
    )
    merged = merge(open_source(folder), out)
    assert (role == "critic") == ("value_head" in {entry.code for entry in merged.findings})
    if labels == 1:
        done = convert_checkpoint(open_source(folder), tmp_path / "converted", Layout.HF)
        assert (role == "critic") == ("value_head" in {entry.code for entry in done.findings})
        written = json.loads((tmp_path / "converted" / "config.json").read_bytes())
        assert [f"Qwen2{head}"] == written["architectures"]


def test_a_reward_model_of_openrlhf_is_no_critic(critic: Path) -> None:
    """Its class has the layout of the critic's, and another name."""
    set_config(critic, architectures=["RewardModel"])
    assert [""] == [model.role for model in inspect(critic).models]


@pytest.mark.parametrize(
    ("name", "shape", "role"),
    [
        ("score.weight", (1, HIDDEN), "critic"),
        ("module.score.weight", (1, HIDDEN), "critic"),
        ("pretrained_model.v_head.summary.weight", (1, HIDDEN), "critic"),
        ("value_head.weight", (8, HIDDEN // 8), "critic"),
        ("my_score.weight", (1, HIDDEN), ""),
        ("my_value_head.weight", (1, HIDDEN), ""),
        ("score.weight", (HIDDEN,), ""),
        ("score.weight", (2, HIDDEN), ""),
    ],
)
def test_without_a_class_the_head_tells(name: str, shape: tuple[int, ...], role: str, critic: Path) -> None:
    """Whole parts of its name are compared, and it has one row; only ORZ's own head may have any shape."""
    (critic / "config.json").unlink()
    change(critic, lambda tensors: (tensors.pop(HEAD), tensors.update({name: torch.ones(shape)})))
    assert [role] == [model.role for model in inspect(critic).models]
