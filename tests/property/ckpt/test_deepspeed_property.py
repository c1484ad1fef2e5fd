"""Files that say anything at all, where a DeepSpeed checkpoint should be."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orz_ckpt.errors import FormatError
from orz_ckpt.formats.inert import Global, Inert
from orz_ckpt.readers.deepspeed import read, states, universal
from orz_ckpt.tensors.coverage import check_coverage
from orz_ckpt.tensors.source import Block
from orz_cli.findings import Severity

pytestmark = pytest.mark.property

HERE = Path(__file__)
"""A file that is long enough for the tensors here."""
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.just(Inert("a.B", (1, 2)))
    | st.just(Inert("a.Enum", (2,)))
    | st.just(Global("torch.float32"))
)
KEYS = st.text(max_size=3) | st.integers(0, 3) | st.just("a.weight")
SIZES = st.integers(0, 9) | st.just(2**40)


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    """A tensor of any shape and strides."""
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=3)))
    strides = tuple(draw(st.integers(0, 6)) for _ in shape)
    dtype = draw(st.sampled_from(["F32", "BF16", "I64", "BOOL"]))
    return Block(path=HERE, offset=draw(st.integers(0, 64)), dtype=dtype, shape=shape, strides=strides)


TREES: st.SearchStrategy[Any] = st.recursive(
    SCALARS | blocks() | st.tuples(SIZES, SIZES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def flat(numel: int) -> Block:
    return Block(path=HERE, offset=64, dtype="F32", shape=(numel,), strides=(1,))


def model(stage: int) -> dict[str, Any]:
    shapes = None if stage == 0 else [{"a.weight": (3,), "b": (2, 2)}]
    whole = {"a.weight": flat(0 if stage == 3 else 3), "b": flat(0) if stage == 3 else flat(4), "buffer": flat(1)}
    return {
        "module": whole,
        "buffer_names": ["buffer"],
        "optimizer": {"fp32_groups": [[flat(3), flat(4)]]} if stage == 0 else None,
        "param_shapes": shapes,
        "frozen_param_shapes": {"frozen": (3,)},
        "frozen_param_fragments": {"frozen": flat(2 if stage == 3 else 3)},
        "shared_params": {"head": "a.weight"},
        "global_steps": 3,
        "dp_world_size": 2,
        "mp_world_size": 1,
        "checkpoint_parallel_dimensions": {"pp_degree": 1, "tp_degree": 1},
        "ds_config": {"zero_optimization": {"stage": stage}},
        "ds_version": "0.19.8",
    }


def optimizer(stage: int, rank: int) -> dict[str, Any]:
    sizes = [4, 4] if stage == 3 else [4, 3]
    key = "fp32_flat_groups" if stage == 3 else "single_partition_of_fp32_groups"
    state = {
        "zero_stage": stage,
        "partition_count": [2],
        "param_alignment_paddings": [[0, 0]],
        "base_optimizer_state": {"state": {0: {"step": 3}}, "param_groups": []},
        key: [flat(sizes[rank])],
    }
    return {"optimizer_state_dict": state, "ds_version": "0.19.8"}


def files(stage: int) -> dict[str, Any]:
    """Return the content of each file of a small checkpoint."""
    if stage == 0:
        return {"mp_rank_00_model_states.pt": model(0)}
    names = ["zero_pp_rank_0_mp_rank_00", "zero_pp_rank_1_mp_rank_00"] if stage == 3 else ["mp_rank_00"]
    return {f"{name}_model_states.pt": model(stage) for name in names} | {
        f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt": optimizer(stage, rank) for rank in (0, 1)
    }


def spoil(tree: Any, path: list[int], value: Any) -> Any:
    """Replace what lies at the end of a path of positions, as far as it goes."""
    if not path or not isinstance(tree, (dict, list)) or not tree:
        return value
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    key = keys[path[0] % len(keys)]
    tree[key] = spoil(tree[key], path[1:], value)
    return tree


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spoilt")


@settings(max_examples=300)
@given(
    stage=st.integers(0, 3),
    which=st.integers(0, 3),
    path=st.lists(st.integers(0, 12), max_size=5),
    value=TREES,
    prefer=st.sampled_from(["master", "module"]),
)
def test_any_content_is_read_or_refused(
    stage: int, which: int, path: list[int], value: Any, prefer: Any, folder: Path
) -> None:
    """Whatever a file says in place of something, the answer is a source that adds up or a FormatError."""
    content = copy.deepcopy(files(stage))
    name = sorted(content)[which % len(content)]
    content[name] = spoil(content[name], path, value)
    tag = folder / str(stage)
    tag.mkdir(exist_ok=True)
    for file in content:
        (tag / file).touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(states.torch_file, "load", lambda path, **_: SimpleNamespace(value=content[path.name], stem=""))
        try:
            source = read(tag, prefer=prefer)
        except FormatError:
            return
    assert all(entry.message.isprintable() for entry in source.findings)
    if not any(entry.severity is Severity.ERROR for entry in source.findings):
        assert [] == check_coverage(source)


@settings(max_examples=100)
@given(value=TREES, param=TREES)
def test_any_universal_content_is_read_or_refused(value: Any, param: Any, folder: Path) -> None:
    """The same for what `zero/<parameter>/fp32.pt` says, and the model file beside it."""
    tag = folder / "universal"
    (tag / "zero" / "b").mkdir(parents=True, exist_ok=True)
    for file in (tag / "mp_rank_00_model_states.pt", tag / "zero" / "b" / "fp32.pt"):
        file.touch()
    content = {"fp32.pt": {"param": param}, "mp_rank_00_model_states.pt": {**model(2), "param_shapes": value}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(states.torch_file, "load", lambda path, **_: SimpleNamespace(value=content[path.name], stem=""))
        source = universal.read(tag)
    assert all(entry.message.isprintable() for entry in source.findings)
