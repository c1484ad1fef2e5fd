"""LoRA adapters: read as peft writes them, and added to their base as torch adds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orz_ckpt.errors import HostileError
from orz_ckpt.lora import prepared, unwrapped, with_adapter
from orz_ckpt.merge.copy import CHUNK_BYTES
from orz_ckpt.merge.run import Options, merge
from orz_ckpt.readers.peft.reader import read, recognises
from orz_ckpt.sources import detect, open_source
from orz_cli.errors import UsageError
from orz_cli.findings import Severity
from orz_cli.main import main

if TYPE_CHECKING:
    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.tensors.source import Source

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

pytestmark = pytest.mark.component

Tensors = dict[str, Any]
GOLDEN = Path(__file__).parents[2] / "golden" / "peft_0.21.2"
PREFIX = "base_model.model."
CONFIG: dict[str, Any] = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "base_model_name_or_path": "tiny"}


def random(*shape: int, dtype: Any = None, seed: int = 0) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype or torch.float32)


def base_tensors(dtype: Any) -> Tensors:
    return {
        "model.embed_tokens.weight": random(13, 8, dtype=dtype, seed=1),
        "model.layers.0.q_proj.weight": random(12, 8, dtype=dtype, seed=2),
        "model.layers.0.o_proj.weight": random(8, 12, dtype=dtype, seed=3),
        "model.layers.0.o_proj.bias": random(8, dtype=dtype, seed=4),
        "lm_head.weight": random(13, 8, dtype=dtype, seed=5),
    }


def factors(rank: int = 4, dtype: Any = None) -> Tensors:
    return {
        f"{PREFIX}model.layers.0.q_proj.lora_A.weight": random(rank, 8, dtype=dtype, seed=6),
        f"{PREFIX}model.layers.0.q_proj.lora_B.weight": random(12, rank, dtype=dtype, seed=7),
        f"{PREFIX}model.layers.0.o_proj.lora_A.weight": random(rank, 12, dtype=dtype, seed=8),
        f"{PREFIX}model.layers.0.o_proj.lora_B.weight": random(8, rank, dtype=dtype, seed=9),
    }


def write(folder: Path, tensors: Tensors, config: dict[str, Any] | None, *, pickled: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    if pickled:
        torch.save(tensors, folder / "adapter_model.bin")
    else:
        safetensors.save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def write_base(folder: Path, tensors: Tensors) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.save_file(tensors, folder / "model.safetensors")
    return folder


def merged(source: Source, out: Path, **options: Any) -> Tensors:
    done = merge(source, out, Options(**options))
    assert done.written, done.findings
    return safetensors.load_file(out / "model.safetensors")


def same(expected: Tensors, actual: Tensors) -> None:
    assert expected.keys() == actual.keys()
    for name, tensor in expected.items():
        assert tensor.dtype == actual[name].dtype, name
        torch.testing.assert_close(tensor, actual[name], rtol=1e-6, atol=1e-6, msg=name)


def only(source: Source) -> CkptFinding:
    (found,) = source.findings
    return found


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base", base_tensors(torch.bfloat16))


# --- the sum --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("rank_stabilised", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_update_is_added_in_float32_and_rounded_once(
    dtype: str, rank_stabilised: bool, pickled: bool, tmp_path: Path
) -> None:
    """W + alpha / r * B @ A (or alpha / root r) as torch has it in float32, in the type of the base."""
    kind = getattr(torch, dtype)
    weights, update = base_tensors(kind), factors(dtype=kind)
    config = {**CONFIG, "use_rslora": rank_stabilised}
    adapter = write(tmp_path / "adapter", update, config, pickled=pickled)
    source = open_source(write_base(tmp_path / "base", weights))
    assert ("peft", True) == (detect(adapter), recognises(adapter))
    scale = 6 / 2 if rank_stabilised else 6 / 4
    expected = dict(weights)
    for module in ("model.layers.0.q_proj", "model.layers.0.o_proj"):
        left, right = (update[f"{PREFIX}{module}.lora_{factor}.weight"].double() for factor in "BA")
        summed = weights[f"{module}.weight"].double() + scale * (left @ right)
        expected[f"{module}.weight"] = summed.to(kind)
    actual = merged(with_adapter(source, open_source(adapter)), tmp_path / "out")
    assert expected.keys() == actual.keys()
    for name, tensor in expected.items():
        assert tensor.dtype == actual[name].dtype
        torch.testing.assert_close(tensor, actual[name], rtol=2 * torch.finfo(kind).eps, atol=1e-5)
        # The float32 sum can lie on the other side of a tie than the exact one, but rarely does.
        assert dtype == "float32" or (tensor == actual[name]).float().mean() > 0.98, name


def test_the_type_asked_for_is_that_of_the_sum(base: Path, tmp_path: Path) -> None:
    """With `--dtype float32` the sum of a bfloat16 base is not rounded to bfloat16 on the way."""
    adapter = write(tmp_path / "adapter", factors(), CONFIG)
    actual = merged(with_adapter(open_source(base), open_source(adapter)), tmp_path / "out", dtype="F32")
    update = factors()
    left, right = (update[f"{PREFIX}model.layers.0.q_proj.lora_{factor}.weight"] for factor in "BA")
    expected = base_tensors(torch.bfloat16)["model.layers.0.q_proj.weight"].float() + (left @ right) * 1.5
    torch.testing.assert_close(expected, actual["model.layers.0.q_proj.weight"], rtol=1e-6, atol=1e-6)
    assert (actual["model.layers.0.q_proj.weight"].bfloat16().float() != expected).any()


def test_sum_that_the_type_of_the_base_is_too_narrow_for(tmp_path: Path) -> None:
    """Factors of which the sum leaves float16 are no fault of the training: it is written in bfloat16."""
    update = {name: tensor * 1000 for name, tensor in factors().items()}
    adapter = write(tmp_path / "adapter", update, CONFIG)
    source = with_adapter(open_source(write_base(tmp_path / "base", base_tensors(torch.float16))), open_source(adapter))
    done = merge(source, tmp_path / "out")

    assert not done.written
    assert {"number_overflows"} == {entry.code for entry in done.findings if entry.severity is Severity.ERROR}
    assert merge(source, tmp_path / "out", Options(dtype="BF16")).written


def test_the_bytes_do_not_depend_on_how_the_work_is_cut(tmp_path: Path) -> None:
    """One thread with little memory and four with much write the same bytes, over several blocks of rows."""
    rows, columns = 3000, 800
    assert rows * columns * 4 > CHUNK_BYTES
    weights = {"up.weight": random(rows, columns, seed=1)}
    update = {
        f"{PREFIX}up.lora_A.weight": random(4, columns, seed=2),
        f"{PREFIX}up.lora_B.weight": random(rows, 4, seed=3),
    }
    adapter = open_source(write(tmp_path / "adapter", update, CONFIG))
    source = with_adapter(open_source(write_base(tmp_path / "base", weights)), adapter)
    one = merged(source, tmp_path / "one", jobs=1, max_memory_bytes=1)["up.weight"]
    four = merged(source, tmp_path / "four", jobs=4)["up.weight"]
    assert torch.equal(one, four)
    left, right = update[f"{PREFIX}up.lora_B.weight"], update[f"{PREFIX}up.lora_A.weight"]
    torch.testing.assert_close(weights["up.weight"] + 1.5 * (left @ right), one, rtol=1e-5, atol=1e-5)


def test_patterns_embeddings_whole_modules_and_turned_matrices(tmp_path: Path) -> None:
    """Ranks and alphas of single modules, an adapted embedding, a whole head and a bias, each as peft stores it."""
    weights = base_tensors(torch.float32)
    update = {
        **factors(),
        f"{PREFIX}model.layers.0.q_proj.lora_A.weight": random(2, 8, seed=10),
        f"{PREFIX}model.layers.0.q_proj.lora_B.weight": random(12, 2, seed=11),
        f"{PREFIX}model.embed_tokens.lora_embedding_A": random(4, 13, seed=12),
        f"{PREFIX}model.embed_tokens.lora_embedding_B": random(8, 4, seed=13),
        f"{PREFIX}lm_head.weight": random(13, 8, seed=14),
        f"{PREFIX}model.layers.0.o_proj.base_layer.bias": random(8, seed=15),
    }
    config = {**CONFIG, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"^model.layers.0.o_proj": 1}}
    adapter = write(tmp_path / "adapter", update, config)
    actual = merged(
        with_adapter(open_source(write_base(tmp_path / "base", weights)), open_source(adapter)), tmp_path / "out"
    )
    short = {name.removeprefix(PREFIX): tensor for name, tensor in update.items()}
    q, o = "model.layers.0.q_proj", "model.layers.0.o_proj"
    same(
        {
            "model.embed_tokens.weight": weights["model.embed_tokens.weight"]
            + 6 / 4 * (short["model.embed_tokens.lora_embedding_B"] @ short["model.embed_tokens.lora_embedding_A"]).T,
            f"{q}.weight": weights[f"{q}.weight"] + 6 / 2 * short[f"{q}.lora_B.weight"] @ short[f"{q}.lora_A.weight"],
            f"{o}.weight": weights[f"{o}.weight"] + 1 / 4 * short[f"{o}.lora_B.weight"] @ short[f"{o}.lora_A.weight"],
            f"{o}.bias": short[f"{o}.base_layer.bias"],
            "lm_head.weight": short["lm_head.weight"],
        },
        actual,
    )


def test_matrices_that_are_stored_the_other_way_round(tmp_path: Path) -> None:
    """With `fan_in_fan_out` (GPT-2) the transpose is added."""
    weights = {"c_attn.weight": random(8, 12, seed=1)}
    update = {
        f"{PREFIX}c_attn.lora_A.weight": random(4, 8, seed=2),
        f"{PREFIX}c_attn.lora_B.weight": random(12, 4, seed=3),
    }
    adapter = write(tmp_path / "adapter", update, {**CONFIG, "fan_in_fan_out": True})
    actual = merged(
        with_adapter(open_source(write_base(tmp_path / "base", weights)), open_source(adapter)), tmp_path / "out"
    )
    left, right = update[f"{PREFIX}c_attn.lora_B.weight"], update[f"{PREFIX}c_attn.lora_A.weight"]
    same({"c_attn.weight": weights["c_attn.weight"] + 1.5 * (left @ right).T}, actual)


def test_the_golden_adapter_of_real_peft(tmp_path: Path) -> None:
    """What peft saved comes out as peft merged it: rslora, single ranks and alphas, an embedding, a whole head."""
    source = with_adapter(open_source(GOLDEN / "base.safetensors"), open_source(GOLDEN / "adapter"))
    assert () == source.findings
    same(safetensors.load_file(GOLDEN / "merged.safetensors"), merged(source, tmp_path / "out"))


# --- wrapped models ---------------------------------------------------------------------------------------


def wrapped(weights: Tensors) -> Tensors:
    """Name tensors as a wrapped model does."""
    adapted = ("q_proj", "o_proj")
    inside = {
        f"{PREFIX}{name.replace(f'{module}.', f'{module}.base_layer.')}": tensor
        for name, tensor in weights.items()
        for module in [next((module for module in adapted if module in name), "none")]
    }
    return inside | {name.replace(".weight", ".default.weight"): tensor for name, tensor in factors().items()}


@pytest.mark.parametrize("stated", ["--lora-alpha", "lora_adapter/"])
def test_factors_beside_the_weights_are_added(stated: str, tmp_path: Path) -> None:
    """A wrapped model that was saved whole (verl's FSDP ranks) becomes the model, with the alpha given or found."""
    weights = base_tensors(torch.float32)
    path = tmp_path / "actor"
    path.mkdir()
    torch.save(wrapped(weights), path / "model_world_size_1_rank_0.pt")
    source = open_source(path)
    assert "fsdp" == source.format
    if stated == "--lora-alpha":
        plain = prepared(source, alpha=6.0)
    else:
        write(path / "lora_adapter", factors(), CONFIG)
        plain = unwrapped(source)
    expected, update = dict(weights), factors()
    for module in ("model.layers.0.q_proj", "model.layers.0.o_proj"):
        left, right = (update[f"{PREFIX}{module}.lora_{factor}.weight"] for factor in "BA")
        expected[f"{module}.weight"] = weights[f"{module}.weight"] + 1.5 * (left @ right)
    same(expected, merged(plain, tmp_path / "out"))


def test_factors_that_nobody_asked_to_add_are_a_warning(tmp_path: Path) -> None:
    """Without an alpha a wrapped model is written as it is, and that is said; it is never guessed."""
    torch.save(wrapped(base_tensors(torch.float32)), tmp_path / "model_world_size_1_rank_0.pt")
    source = prepared(open_source(tmp_path))
    assert ("lora_inside", Severity.WARN) == (only(source).code, only(source).severity)
    assert all(tensor.plus is None for tensor in source.tensors.values())
    with pytest.raises(UsageError, match="not the alpha"):
        unwrapped(open_source(tmp_path))


# --- what is wrong with adapters --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "config", "code", "said"),
    [
        ({}, {"lora_alpha": 0}, "lora_alpha_lost", "lora_alpha is 0"),
        ({"q_proj.lora_A.weight": (0, 8)}, {}, "lora_empty", "1 of 4 tensors"),
        ({"q_proj.lora_B.weight": None}, {}, "lora_unfit", "has no factor B"),
        ({}, {"use_dora": True}, "layout_unsupported", "use_dora"),
        ({"q_proj.lora_magnitude_vector": (12,)}, {}, "layout_unsupported", "DoRA"),
        ({}, {"rank_pattern": {".*q_proj": 8}}, "layout_unsupported", "an expression"),
        ({}, {"peft_type": "IA3"}, "config_invalid", "expected LORA"),
        ({}, {"r": 0}, "config_invalid", "r: expected a rank"),
        ({}, {"lora_alpha": "6"}, "config_invalid", "lora_alpha: expected a number"),
    ],
)
def test_what_is_wrong_with_an_adapter_is_said(
    change: dict[str, Any], config: dict[str, Any], code: str, said: str, tmp_path: Path
) -> None:
    """Empty, halved, foreign and half-known adapters are each one finding."""
    tensors = factors()
    for end, shape in change.items():
        name = f"{PREFIX}model.layers.0.{end}"
        tensors.pop(name, None)
        if shape is not None:
            tensors[name] = torch.ones(shape)
    source = read(write(tmp_path, tensors, {**CONFIG, **config}))
    assert code == only(source).code
    assert said in only(source).message


@pytest.mark.parametrize(("zeros", "code"), [(2, "lora_zero"), (1, "all_zero")])
def test_an_adapter_that_was_never_trained(zeros: int, code: str, tmp_path: Path) -> None:
    """All factors B at zero, negative or not, is an error; some of them a warning."""
    tensors = factors()
    for name in [name for name in tensors if "lora_B" in name][:zeros]:
        tensors[name] = -torch.zeros_like(tensors[name])
    assert code == only(read(write(tmp_path, tensors, CONFIG))).code


def test_an_adapter_without_its_parts(tmp_path: Path) -> None:
    """A folder with only one of the two files says which one is missing."""
    assert "config_invalid" == only(read(write(tmp_path / "a", factors(), None))).code
    write(tmp_path / "b", {}, CONFIG)
    (tmp_path / "b" / "adapter_model.safetensors").unlink()
    assert "no_weights" == only(read(tmp_path / "b")).code


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model.layers.0.q_proj.weight": (12, 9)}, "the update is [12, 8], the weight [12, 9]"),
        ({"model.layers.0.q_proj.weight": None}, "not in the base model"),
        ({"model.layers.0.q_proj.weight": "int"}, "I32 cannot be added to"),
    ],
)
def test_an_adapter_of_another_model_is_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    """An update that does not fit its weight is an error, and nothing is written."""
    weights = base_tensors(torch.float32)
    for name, shape in change.items():
        old = weights.pop(name)
        if shape == "int":
            weights[name] = old.int()
        elif shape is not None:
            weights[name] = torch.ones(shape)
    adapter = write(tmp_path / "adapter", factors(), CONFIG)
    source = with_adapter(open_source(write_base(tmp_path / "base", weights)), open_source(adapter))
    assert ("lora_unfit", True) == (only(source).code, said in only(source).message)
    assert not merge(source, tmp_path / "out").written


def test_factors_of_another_rank_than_stated_are_refused(base: Path, tmp_path: Path) -> None:
    """The scale is divided by the rank that is stated, so the factors must have it."""
    adapter = write(tmp_path / "adapter", factors(rank=4), {**CONFIG, "r": 8})
    source = with_adapter(open_source(base), open_source(adapter))
    assert {"lora_unfit"} == {entry.code for entry in source.findings}
    assert "rank 4 and 4" in source.findings[0].message


# --- the command ------------------------------------------------------------------------------------------


def test_merge_with_lora(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`orz ckpt merge BASE OUT --lora ADAPTER` writes the sum; a lost alpha can be given."""
    adapter = write(tmp_path / "adapter", factors(), {**CONFIG, "lora_alpha": 0})
    command = ["ckpt", "merge", str(base), str(tmp_path / "out"), "--lora", str(adapter)]
    assert 1 == main(command)
    assert "--lora-alpha N" in capsys.readouterr().out
    assert 0 == main([*command, "--lora-alpha", "6"])
    actual = safetensors.load_file(tmp_path / "out" / "model.safetensors")
    expected = merged(
        with_adapter(open_source(base), open_source(write(tmp_path / "sound", factors(), CONFIG))), tmp_path / "again"
    )
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("{adapter}", "{out}"), "--lora {adapter}"),
        (("{base}", "{out}", "--lora", "{base}"), "no adapter"),
        (("{adapter}", "{out}", "--lora", "{adapter}"), "not its base model"),
        (("{base}", "{out}", "--lora-alpha", "6"), "holds no LoRA factors"),
    ],
)
def test_wrong_usage_is_told(
    arguments: tuple[str, ...], said: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An adapter alone, something else as adapter, and an alpha for nothing are exit 2, with the right command."""
    names = {"adapter": str(write(tmp_path / "adapter", factors(), CONFIG)), "base": str(base)}
    names["out"] = str(tmp_path / "out")
    assert 2 == main(["ckpt", "merge", *(argument.format(**names) for argument in arguments)])
    assert said.format(**names) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("alpha", ["nan", "inf", "1e400", "1e300", "-1", "six"])
def test_an_alpha_that_would_spoil_the_weights_is_wrong_usage(
    alpha: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """NaN, what is infinite or would be in float32, less than none and no number: exit 2, and nothing is written."""
    adapter = write(tmp_path / "adapter", factors(), {**CONFIG, "lora_alpha": 0})
    command = ["ckpt", "merge", str(base), str(tmp_path / "out"), "--lora", str(adapter)]
    assert 2 == main([*command, f"--lora-alpha={alpha}"])
    out, err = capsys.readouterr()
    assert ("", True) == (out, err.startswith("error: --lora-alpha: expected a number from 0 to 1,000,000, got "))
    assert not (tmp_path / "out").exists()


def test_an_adapter_that_would_run_code_is_refused(tmp_path: Path) -> None:
    """`adapter_model.bin` is a pickle like any other."""

    class Canary:
        def __reduce__(self) -> Any:
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    write(tmp_path, {"a": Canary()}, CONFIG, pickled=True)
    with pytest.raises(HostileError, match=r"builtins\.exec"):
        read(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_case_worked_by_hand(tmp_path: Path) -> None:
    """By hand: [[1, 2]] + 2 / 1 * [[3]] @ [[10, 100]] = [[61, 602]]."""
    weights = {"up.weight": torch.tensor([[1.0, 2.0]])}
    update = {
        f"{PREFIX}up.lora_A.weight": torch.tensor([[10.0, 100.0]]),
        f"{PREFIX}up.lora_B.weight": torch.tensor([[3.0]]),
    }
    adapter = write(tmp_path / "adapter", update, {**CONFIG, "r": 1, "lora_alpha": 2})
    actual = merged(
        with_adapter(open_source(write_base(tmp_path / "one", weights)), open_source(adapter)), tmp_path / "out"
    )
    assert [[61.0, 602.0]] == actual["up.weight"].tolist()
