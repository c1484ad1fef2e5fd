"""`orz ckpt diff`: equal bits, changes measured by hand, types that differ, names that differ, and the drawing."""

from __future__ import annotations

import json
import math
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from orz_ckpt.diff import blocks
from orz_ckpt.diff.picture import to_svg
from orz_ckpt.diff.plot import heat_map
from orz_ckpt.diff.png import to_png
from orz_ckpt.diff.run import diff
from orz_ckpt.diff.text import verdict
from orz_ckpt.errors import NotComparableError
from orz_ckpt.merge.run import Options, merge
from orz_ckpt.sources import open_source
from orz_ckpt.tensors.names import layer_of, module_of
from orz_cli.exits import ExitCode
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Orz = Callable[..., "Run"]

    from numpy.typing import NDArray

    from orz_ckpt.diff.summary import Diff

pytestmark = pytest.mark.component

SVG = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class Run:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def orz(capsys: pytest.CaptureFixture[str]) -> Orz:
    """The command with arguments, in this process."""

    def call(*arguments: str | Path) -> Run:
        code = main(["ckpt", "diff", *map(str, arguments)])
        captured = capsys.readouterr()
        return Run(int(code), captured.out, captured.err)

    return call


def compare(folder: Path, a: dict[str, NDArray[Any]], b: dict[str, NDArray[Any]]) -> Diff:
    for name, tensors in (("a", a), ("b", b)):
        (folder / name).mkdir(exist_ok=True)
        save_file(tensors, folder / name / "model.safetensors")
    return diff(open_source(folder / "a"), open_source(folder / "b"))


def test_the_same(orz: Orz, model: Path) -> None:
    """A checkpoint and itself: every tensor equal, exit 0 with --exit-code, too."""
    run = orz(model, model, "--exit-code")

    assert (0, "") == (run.returncode, run.stderr)
    assert "all tensors have equal bits" in run.stdout


def test_numbers_by_hand(tmp_path: Path) -> None:
    """[3, 4, 0, 0] against [3, 4, 0.5, -1]: half of it changed, norm sqrt(1.25) of 5, largest change 1."""
    a = {"layers.0.w": np.array([3, 4, 0, 0], np.float32), "layers.0.b": np.ones(2, np.float32)}
    b = {"layers.0.w": np.array([3, 4, 0.5, -1], np.float32), "layers.0.b": np.ones(2, np.float32)}
    found = compare(tmp_path, a, b)
    changed = {tensor.name: tensor for tensor in found.changed}

    assert ["layers.0.w"] == list(changed)
    tensor = changed["layers.0.w"]
    assert (2, 0.5, 5.0, math.sqrt(1.25), 1.0) == (
        tensor.changed,
        tensor.changed_share,
        tensor.norm,
        tensor.diff_norm,
        tensor.largest,
    )
    assert math.sqrt(1.25) / 5 == tensor.relative
    layer = found.by_layer()[0]
    assert ("layer 0", 2, 1, 2 / 6) == (layer.name, layer.tensors, layer.changed_tensors, layer.changed_share)
    assert ["w", "b"] == [group.name for group in found.by_module()]
    assert "1 of 2 tensors changed" == verdict(found)


def test_a_change_in_the_last_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The norms are of the whole tensor, though the first blocks are equal."""
    monkeypatch.setattr(blocks, "_BLOCK", 3)
    numbers = np.arange(10, dtype=np.float32)
    other = numbers.copy()
    other[9] = 0
    found = compare(tmp_path, {"w": numbers}, {"w": other})

    assert (1, math.sqrt(285), 9.0, 9.0) == (
        found.tensors[0].changed,
        found.tensors[0].norm,
        found.tensors[0].diff_norm,
        found.tensors[0].largest,
    )


def test_a_16_bit_copy(model: Path, tmp_path: Path) -> None:
    """A checkpoint rounded to bfloat16 is called that; a single other bit in it is found."""
    merge(open_source(model), tmp_path / "half", Options(dtype="BF16"))
    found = diff(open_source(model), open_source(tmp_path / "half"))

    assert (True, "F32 -> BF16") == (found.same, found.types)
    assert "B is A in another type: F32 -> BF16" == verdict(found)
    file = tmp_path / "half" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-2] ^= 1
    file.write_bytes(data)
    changed = diff(open_source(model), open_source(tmp_path / "half")).changed
    assert [1] == [tensor.changed for tensor in changed]


def test_names_shapes_and_types(orz: Orz, tmp_path: Path) -> None:
    """What only one has, other shapes, and types that cannot be compared are listed; the rest is compared."""
    one, two = np.zeros(4, np.float32), np.zeros((2, 2), np.float32)
    a = {"same": one, "gone": one, "shape": one, "type": one}
    b = {"same": one, "new": one, "shape": two, "type": np.zeros(4, np.int32)}
    found = compare(tmp_path, a, b)

    assert (("gone",), ("new",), ["same"]) == (found.only_a, found.only_b, [tensor.name for tensor in found.tensors])
    assert ("'shape': F32 [4] -> F32 [2, 2]", "'type': F32 [4] -> I32 [4]") == tuple(sorted(found.unlike))
    assert not found.same
    run = orz(tmp_path / "a", tmp_path / "b", "--exit-code")
    assert 1 == run.returncode
    assert "only in A: gone" in run.stdout
    assert 0 == orz(tmp_path / "a", tmp_path / "b").returncode


def test_nan_and_zero(orz: Orz, tmp_path: Path) -> None:
    """A new NaN is counted and makes the norms NaN, as in torch; a change from nothing but zeros is infinite."""
    a = {"nan": np.array([3, 4], np.float32), "zero": np.zeros(2, np.float32), "kept": np.array([np.nan], np.float32)}
    b = {"nan": np.array([3, np.nan], np.float32), "zero": np.ones(2, np.float32), "kept": a["kept"]}
    found = {tensor.name: tensor for tensor in compare(tmp_path, a, b).tensors}

    assert (1, 1, 5.0) == (found["nan"].changed, found["nan"].nonfinite, found["nan"].norm)
    assert math.inf == found["zero"].relative
    assert (0, 0, 0.0) == (found["kept"].changed, found["kept"].nonfinite, found["kept"].relative)
    document = json.loads(orz(tmp_path / "a", tmp_path / "b", "--json").stdout)
    assert {"nan": ("nan", "nan"), "zero": ("inf", 1.0), "kept": (0.0, 0.0)} == {
        tensor["name"]: (tensor["relative_norm"], tensor["largest_change"]) for tensor in document["tensors"]
    }


def test_a_broken_tensor_is_told_in_every_summary(orz: Orz, tmp_path: Path) -> None:
    """All NaN: JSON and tables of layers and modules count it, first of all, and show no change of size 0."""
    a = {f"layers.{layer}.{part}": np.ones(4, np.float32) for layer in range(2) for part in "uv"}
    b = {**a, "layers.1.v": np.full(4, np.nan, np.float32), "layers.0.u": np.full(4, 2, np.float32)}
    found = compare(tmp_path, a, b)

    assert [("v", 4), ("u", 0)] == [(group.name, group.nonfinite) for group in found.by_module()]
    assert [("layer 0", 0), ("layer 1", 4)] == [(group.name, group.nonfinite) for group in found.by_layer()]
    document = json.loads(orz(tmp_path / "a", tmp_path / "b", "--json").stdout)
    assert [("nan", "nan", 4)] == [
        (group["relative_norm"], group["largest_change"], group["nonfinite"])
        for group in (*document["modules"], *document["layers"])
        if group["name"] == "v"
    ]
    lines = orz(tmp_path / "a", tmp_path / "b").stdout.splitlines()
    (layer,) = (line.split() for line in lines if line.split()[:2] == ["layer", "1"])
    assert ["50.00%", "(4", "NaN", "or", "Inf)", "nan", "nan"] == layer[5:]
    # ||B - A|| of layer 0 is 2, and ||A|| is that of eight ones.
    assert 2 / math.sqrt(8) == pytest.approx(found.by_layer()[0].relative)


def test_norms_of_groups_are_of_all_their_tensors(tmp_path: Path) -> None:
    """What did not change is a part of A, too: ||B - A|| / ||A|| of a group as numpy has it of all its tensors."""
    random = np.random.default_rng(3)
    names = [f"layers.{layer}.{part}" for layer in range(2) for part in "uv"] + ["embed", "lm_head"]
    a = {name: random.standard_normal((4, 5), dtype="<f4") for name in names}
    b = {**a, "lm_head": a["lm_head"] * 0, "layers.1.u": a["layers.1.u"] + 1}
    found = compare(tmp_path, a, b)

    def expected(*members: str) -> float:
        before, after = (np.concatenate([side[name].astype("f8") for name in members]) for side in (a, b))
        return float(np.linalg.norm(after - before) / np.linalg.norm(before))

    layers = {group.name: group.relative for group in found.by_layer()}
    assert expected("layers.1.u", "layers.1.v") == pytest.approx(layers["layer 1"])
    assert expected("embed", "lm_head") == pytest.approx(layers["outside the layers"])
    assert 0 == layers["layer 0"]
    modules = {group.name: group.relative for group in found.by_module()}
    assert expected("layers.0.u", "layers.1.u") == pytest.approx(modules["u"])
    assert pytest.approx(1) == modules["lm_head"]


def test_whole_numbers(tmp_path: Path) -> None:
    """Integers and bools are compared as numbers; 64-bit ones only by their bits."""
    a = {"i": np.array([1, 2], np.int32), "b": np.array([True, False]), "l": np.array([2**62, 1])}
    b = {"i": np.array([1, 5], np.int32), "b": np.array([True, True]), "l": np.array([2**62, 2])}
    found = {tensor.name: tensor for tensor in compare(tmp_path, a, b).tensors}

    assert (1, 3.0) == (found["i"].changed, found["i"].largest)
    assert (1, 1.0) == (found["b"].changed, found["b"].largest)
    assert 1 == found["l"].changed
    assert math.isnan(found["l"].largest)
    modules = {group.name: group for group in compare(tmp_path, a, b).by_module()}
    assert math.isnan(modules["l"].relative)
    assert math.isnan(modules["l"].largest)
    assert 0 == modules["l"].nonfinite


def test_not_comparable(orz: Orz, model: Path, tmp_path: Path) -> None:
    """Models without a common name, and a checkpoint that is not whole, are exit 3: neither equal nor different."""
    (tmp_path / "other").mkdir()
    save_file({"x": np.ones(1, np.float32)}, tmp_path / "other" / "model.safetensors")
    with pytest.raises(NotComparableError, match="no tensor in common") as caught:
        diff(open_source(model), open_source(tmp_path / "other"))
    assert ExitCode.INCONCLUSIVE is caught.value.exit_code
    (model / "model-00002-of-00002.safetensors").unlink()
    run = orz(model, model)
    assert (3, "") == (run.returncode, run.stdout)
    assert "file_missing" in run.stderr


def test_two_models_without_a_tensor_of_one_shape(orz: Orz, tmp_path: Path) -> None:
    """Names that both have are nothing to compare where every shape differs: exit 3, and no `0 of 0 changed`."""
    for name, size in (("a", 3), ("b", 4)):
        (tmp_path / name).mkdir()
        save_file({"w": np.ones(size, np.float32)}, tmp_path / name / "model.safetensors")
    run = orz(tmp_path / "a", tmp_path / "b")

    assert (3, "") == (run.returncode, run.stdout)
    assert "no tensor of one name and shape in common: 'w': F32 [3] -> F32 [4]" in run.stderr


def test_plot(orz: Orz, tmp_path: Path) -> None:
    """The drawing is sound XML with a cell for each tensor, its numbers as title, names escaped."""
    names = [f"model.layers.{layer}.mlp.up<{part}>.weight" for layer in range(3) for part in "ab"]
    a = {name: np.ones(4, np.float32) for name in [*names, "norm.weight"]}
    b = {name: array + index for index, (name, array) in enumerate(a.items())}
    found = compare(tmp_path, a, b)
    root = ET.fromstring(to_svg(heat_map(found)))  # noqa: S314  our own
    titles = [element.text for element in root.iter(f"{SVG}title")]

    assert len(a) == len(titles)
    assert all(any(text and text.startswith(f"{name}: ") for text in titles) for name in a)
    assert "0.00% of the numbers changed" in str(titles[0])
    run = orz(tmp_path / "a", tmp_path / "b", "--plot", tmp_path / "change.svg")
    assert 0 == run.returncode
    assert to_svg(heat_map(found)) == (tmp_path / "change.svg").read_text(encoding="utf-8")
    assert 0 == orz(tmp_path / "a", tmp_path / "b", "--plot", tmp_path / "change.png").returncode
    assert to_png(heat_map(found)) == (tmp_path / "change.png").read_bytes()


def test_plot_explains_its_colours(tmp_path: Path) -> None:
    """Every colour of a cell is in the legend; none stands there for a size that does not occur."""
    ones = np.ones(4, np.float32)
    a = dict.fromkeys(("grown", "nan", "same"), ones)
    nan = {**a, "nan": ones * np.nan}

    def colours(found: Diff) -> tuple[set[str | None], list[str | None], str]:
        root = ET.fromstring(to_svg(heat_map(found)))  # noqa: S314  our own
        _, *drawn = root.iter(f"{SVG}rect")
        cells = {rect.get("fill") for rect in drawn if rect.find(f"{SVG}title") is not None}
        legend = [rect.get("fill") for rect in drawn if rect.find(f"{SVG}title") is None]
        return cells, legend, " ".join(label.text or "" for label in root.iter(f"{SVG}text"))

    cells, legend, words = colours(compare(tmp_path, a, nan))
    assert {"#ffffff", "#d62728"} == cells == set(legend)
    assert "nan, inf" in words
    assert "0.0e+00" not in words
    cells, legend, words = colours(compare(tmp_path, a, {**nan, "grown": ones * 2}))
    assert cells < set(legend)
    assert 9 == len(legend)
    assert "1.0e+00" in words
    cells, legend, words = colours(compare(tmp_path, a, {**a, "grown": ones * 2}))
    assert "#d62728" not in {*cells, *legend}
    assert "nan, inf" not in words


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("change.pdf", ["only SVG and PNG are drawn", "change.svg"]),
        ("change", ["only SVG and PNG are drawn", "change.svg"]),
        ("none/change.svg", ["there is no folder", "mkdir -p"]),
    ],
)
def test_pictures_that_cannot_be_drawn(orz: Orz, tmp_path: Path, name: str, said: list[str]) -> None:
    """Another kind of picture, or a folder that is not there, is wrong usage, said before anything is read."""
    run = orz(tmp_path / "no model", tmp_path / "no model", "--plot", tmp_path / name)

    assert (2, "") == (run.returncode, run.stdout)
    assert all(words in run.stderr for words in said), run.stderr


def test_png_without_pillow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where Pillow is not installed, PNG is refused before anything is read, and SVG is named."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "orz_ckpt.diff.png", raising=False)

    missing = str(tmp_path / "no model")
    assert 2 == main(["ckpt", "diff", missing, missing, "--plot", str(tmp_path / "change.png")])
    said = capsys.readouterr().err
    assert "change.svg, which needs no library" in said
    assert "pip install 'orz-ckpt[png]'" in said


def test_formats(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--format json` is what `--json` writes; the formats of judging commands are none of its own."""
    assert 0 == main(["ckpt", "diff", str(model), str(model), "--json"])
    short = capsys.readouterr().out
    assert 0 == main(["ckpt", "diff", str(model), str(model), "--format", "json"])
    assert short == capsys.readouterr().out
    assert (1, "ok", True) == tuple(json.loads(short)[key] for key in ("v", "status", "same"))
    assert 2 == main(["ckpt", "diff", str(model), str(model), "--format", "junit"])
    assert "expected text or json" in capsys.readouterr().err

    (model / "model-00002-of-00002.safetensors").unlink()
    assert 3 == main(["ckpt", "diff", str(model), str(model), "--format", "json"])
    assert ("inconclusive", ["not_judged"]) == _verdict(capsys.readouterr().out)


def _verdict(document: str) -> tuple[str, list[str]]:
    shape = json.loads(document)
    return shape["status"], [entry["code"] for entry in shape["findings"]]


@pytest.mark.parametrize(
    ("name", "layer", "module"),
    [
        ("model.layers.12.self_attn.q_proj.weight", 12, "self_attn.q_proj.weight"),
        ("transformer.h.0.attn.c_attn.bias", 0, "attn.c_attn.bias"),
        ("model.layers.3.mlp.experts.17.up_proj.weight", 3, "mlp.experts.*.up_proj.weight"),
        ("model.embed_tokens.weight", -1, "model.embed_tokens.weight"),
        ("lm_head.weight", -1, "lm_head.weight"),
    ],
)
def test_names_say_layer_and_module(name: str, layer: int, module: str) -> None:
    """The usual names of layers are known; a tensor outside them stands for itself."""
    assert (layer, module) == (layer_of(name), module_of(name))
