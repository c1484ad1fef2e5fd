"""`verify --against`: nothing changed, only some of it, names that differ; and what 16-bit copies should be.

Covers F27 of the failure modes: a training that trained nothing.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from orz_ckpt.findings import Level, Report
from orz_ckpt.merge.run import Options, merge
from orz_ckpt.sources import open_source
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    Change = Callable[[dict[str, NDArray[Any]]], object]

pytestmark = pytest.mark.component

GOLDEN = Path(__file__).parents[2] / "golden/peft_0.21.2"

EMBEDDING = "model.embed_tokens.weight"
MATRIX = "model.layers.0.mlp.up_proj.weight"


def codes(report: Report) -> set[str]:
    return {entry.code for entry in report.findings if entry.severity is not Severity.INFO}


def the(report: Report, code: str) -> Any:
    (found,) = (entry for entry in report.findings if entry.code == code)
    return found


@pytest.fixture
def changed(model: Path, tmp_path: Path) -> Callable[[Change], Path]:
    """The function that copies the model with some of its weights changed."""

    def copy(change: Change) -> Path:
        tensors = {name: array for file in model.glob("*.safetensors") for name, array in load_file(file).items()}
        change(tensors)
        out = tmp_path / "changed"
        out.mkdir()
        save_file(tensors, out / "model.safetensors")
        for name in ("config.json", "tokenizer.json"):
            (out / name).write_bytes((model / name).read_bytes())
        return out

    return copy


def test_nothing_changed(model: Path, changed: Callable[[Change], Path], capsys: pytest.CaptureFixture[str]) -> None:
    """The same weights in other files are those of the base: an error, exit 1, with the count."""
    path = changed(lambda _: None)
    report = verify(path, against=model)
    found = the(report, "unchanged")

    assert (Status.FAILED, {"unchanged"}) == (report.status(), codes(report))
    assert f"0 of 27 tensors differ from {model}: the weights never changed" == found.message
    assert "learning rate" in found.remedy
    assert 1 == main(["ckpt", "verify", str(path), "--against", str(model)])
    assert "unchanged" in capsys.readouterr().out


def test_something_changed(model: Path, changed: Callable[[Change], Path]) -> None:
    """One number of one matrix is a change, and how much changed is said."""
    path = changed(lambda tensors: tensors[MATRIX].__setitem__((0, 0), 9))
    report = verify(path, against=model)

    assert (Status.OK, set()) == (report.status(), codes(report))
    assert "1 of 27 tensors and " in the(report, "compared").message


def test_only_embeddings_changed(model: Path, changed: Callable[[Change], Path]) -> None:
    """Where nothing but embedding and head changed, the rest was frozen: a warning."""

    def change(tensors: dict[str, NDArray[Any]]) -> None:
        tensors[EMBEDDING] += 1
        tensors["lm_head.weight"] += 1

    found = the(verify(changed(change), against=model), "only_embeddings_changed")

    assert (Severity.WARN, True) == (found.severity, f"'{EMBEDDING}'" in found.message)


def test_sixteen_bit_copy(model: Path, tmp_path: Path) -> None:
    """A 16-bit copy is what rounding the base gives, which is said; one number that is not is a change."""
    assert merge(open_source(model), tmp_path / "half", Options(dtype="BF16")).written
    report = verify(tmp_path / "half", against=model)
    assert (Status.OK, True) == (report.status(), "F32 -> BF16" in the(report, "rounded_base").message)
    file = tmp_path / "half" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    (tmp_path / "half" / "manifest.json").unlink()

    assert "1 of 27 tensors" in the(verify(tmp_path / "half", against=model), "compared").message


def test_names_and_shapes_that_differ(model: Path, changed: Callable[[Change], Path]) -> None:
    """Tensors that only one of both has, and others of another shape, are named; quick looks at nothing else."""

    def change(tensors: dict[str, NDArray[Any]]) -> None:
        tensors["score.weight"] = np.ones((1, 16), np.float32)
        del tensors["lm_head.weight"]
        tensors[EMBEDDING] = np.ones((40, 16), np.float32)

    path = changed(change)
    for level in (Level.QUICK, Level.FULL):
        report = verify(path, level=level, against=model)
        found = "; ".join(entry.message for entry in report.findings if entry.code == "names_differ")
        assert "1 tensor is only in the base: 'lm_head.weight'" in found
        assert "1 tensor is only in the checkpoint: 'score.weight'" in found
        assert "[33, 16] -> " in found
        assert ("unchanged" in codes(report)) is (level is Level.FULL)


def test_quick_reads_no_weights(model: Path, changed: Callable[[Change], Path]) -> None:
    """Names and shapes are the same, and that numbers were not compared is said: a pass means less than it seems."""
    report = verify(changed(lambda _: None), level=Level.QUICK, against=model)
    found = the(report, "numbers_not_compared")
    assert (set(), Severity.INFO) == (codes(report), found.severity)
    assert f"names and shapes were compared with {model}, and no numbers" in found.message
    assert "leave out --level quick" in found.remedy


def test_masters_of_a_sixteen_bit_base(model: Path, tmp_path: Path) -> None:
    """fp32 masters that equal a bf16 base exactly never changed; changes below its rounding are told as such."""
    for name, dtype in (("base", "BF16"), ("masters", "F32")):
        assert merge(open_source(model if name == "base" else tmp_path / "base"), tmp_path / name, Options(dtype=dtype))
    (tmp_path / "masters" / "manifest.json").unlink()
    report = verify(tmp_path / "masters", against=tmp_path / "base")
    assert (Status.FAILED, "unchanged") == (report.status(), the(report, "unchanged").code)
    tensors = load_file(tmp_path / "masters" / "model.safetensors")
    tensors[MATRIX] = np.nextafter(tensors[MATRIX], np.float32(9))
    save_file(tensors, tmp_path / "masters" / "model.safetensors")
    report = verify(tmp_path / "masters", against=tmp_path / "base")
    found = the(report, "change_rounds_away")
    share = tensors[MATRIX].size / sum(array.size for array in tensors.values())
    assert (Status.OK, Severity.WARN) == (report.status(), found.severity)
    assert f"(BF16 -> F32), and {share:.2%} of the numbers do before" in found.message
    assert "unchanged" not in codes(report)


def test_one_narrower_tensor_rounds_nothing(model: Path, changed: Callable[[Change], Path]) -> None:
    """A vector saved in fewer bits beside matrices that are the base's: nothing was trained, an error as ever."""

    def change(tensors: dict[str, NDArray[Any]]) -> None:
        tensors["model.norm.weight"] = tensors["model.norm.weight"].astype(np.float16)

    report = verify(changed(change), against=model)
    assert (Status.FAILED, True) == (report.status(), "unchanged" in codes(report))


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_a_sixteen_bit_copy_of_a_base_that_is_so_in_part(
    dtype: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A base whose frozen matrices are of 16 bits already: what `diff` calls another type of it is a copy, no error."""
    base = tmp_path / "base"
    base.mkdir()
    tensors = {name: array for file in model.glob("*.safetensors") for name, array in load_file(file).items()}
    tensors = {name: array.astype(np.float16) if name == MATRIX else array for name, array in tensors.items()}
    tensors["mask"] = np.tri(4, dtype=np.bool_)
    save_file(tensors, base / "model.safetensors")
    assert merge(open_source(base), tmp_path / "half", Options(dtype=dtype)).written
    report = verify(tmp_path / "half", against=base)
    assert f"F32 -> {dtype}" in the(report, "rounded_base").message
    assert not {"unchanged", "compared"} & {entry.code for entry in report.findings}
    assert 0 == main(["ckpt", "diff", str(base), str(tmp_path / "half")])
    assert f"B is A in another type: F{'16' if dtype == 'BF16' else '32'} -> {dtype}" in capsys.readouterr().out


def test_a_matrix_that_stays_wider_rounds_nothing(model: Path, changed: Callable[[Change], Path]) -> None:
    """One matrix saved in fewer bits beside others that are the base's is no copy in that type: an error as ever."""

    def change(tensors: dict[str, NDArray[Any]]) -> None:
        tensors[MATRIX] = tensors[MATRIX].astype(np.float16)

    report = verify(changed(change), against=model)
    assert (Status.FAILED, True) == (report.status(), "unchanged" in codes(report))


def test_policy_of_a_checkpoint(run: Path, model: Path) -> None:
    """Of a step folder, and of a run's newest good one, the policy is compared."""
    step = run / "checkpoints" / "step_000030"
    for path in (step, run):
        report = verify(path, against=model)
        assert f"0 of 27 tensors differ from {model}" in the(report, "unchanged").message
        assert str(step / "policy") == the(report, "unchanged").path


def test_base_that_is_not_whole(model: Path, changed: Callable[[Change], Path]) -> None:
    """With a base that is damaged nothing can be said: exit 3, never a pass."""
    path = changed(lambda _: None)
    next(model.glob("*.safetensors")).unlink()
    report = verify(path, against=model)

    assert (Status.INCONCLUSIVE, {"not_compared"}) == (report.status(), codes(report))


def test_base_of_another_model(model: Path, tmp_path: Path) -> None:
    """Two models without a common name cannot be compared: exit 3."""
    (tmp_path / "other").mkdir()
    save_file({"w": np.ones(3, np.float32)}, tmp_path / "other" / "model.safetensors")
    report = verify(model, against=tmp_path / "other")

    assert Status.INCONCLUSIVE is report.status()
    assert "no tensor in common" in the(report, "not_compared").message


def test_base_of_other_shapes(model: Path, tmp_path: Path) -> None:
    """A base of which every weight has another shape is another model, not one that training left as it was."""
    (tmp_path / "other").mkdir()
    save_file({"model.norm.weight": np.ones(3, np.float32)}, tmp_path / "other" / "model.safetensors")
    report = verify(model, against=tmp_path / "other")

    assert Status.INCONCLUSIVE is report.status()
    assert "of one name and shape" in the(report, "not_compared").message


def test_base_that_cannot_be_meant(model: Path, step: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A base that is not there is wrong usage; of a run's folder its newest step is not guessed."""
    assert 2 == main(["ckpt", "verify", str(model), "--against", str(tmp_path / "nothing")])
    assert 2 == main(["ckpt", "verify", str(model), "--against", str(step.parent.parent)])
    assert "give one of its models" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs users")
def test_base_that_may_not_be_read(
    model: Path, public: Callable[[Path], Path], limited: Callable[[], AbstractContextManager[None]]
) -> None:
    """A base that this user may not read leaves the question open: exit 3, no traceback."""
    path = public(model)
    locked = path.with_name("locked")
    locked.mkdir(mode=0o000)
    assert Status.OK is verify(path).status()
    with limited():
        report = verify(path, against=locked)

    assert (Status.INCONCLUSIVE, {"not_compared"}) == (report.status(), codes(report))
    assert "Permission denied" in the(report, "not_compared").message


def test_json(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The comparison is among the findings of the shared JSON object; its shape is as it was."""
    assert 1 == main(["ckpt", "verify", str(model), "--against", str(model), "--json"])
    report = json.loads(capsys.readouterr().out)

    assert ["unchanged"] == [entry["code"] for entry in report["findings"] if entry["severity"] == "error"]
    assert {"v", "status", "findings", "path", "kind", "level", "files", "bytes", "tensors", "seconds"} <= report.keys()


@pytest.mark.parametrize("level", [Level.QUICK, Level.FULL])
def test_what_an_adapter_changes_of_its_base(level: Level) -> None:
    """That it was compared is said: of the tensors of the base it changes those that differ after peft's own merge."""
    before, after = (load_file(GOLDEN / f"{name}.safetensors") for name in ("base", "merged"))
    changed = sum(not np.array_equal(before[name], after[name]) for name in before)
    report = verify(GOLDEN / "adapter", against=GOLDEN / "base.safetensors", level=level)

    said = f"it fits {GOLDEN / 'base.safetensors'}: it changes {changed} of {len(before)} tensors"
    assert (Status.OK, said) == (report.status(), the(report, "compared").message)


def test_an_adapter_that_does_not_fit(tmp_path: Path) -> None:
    """Then nothing is said of how much it changes."""
    base = {name: array[..., :-1].copy() for name, array in load_file(GOLDEN / "base.safetensors").items()}
    save_file(base, tmp_path / "base.safetensors")
    report = verify(GOLDEN / "adapter", against=tmp_path / "base.safetensors")

    assert (Status.FAILED, {"lora_unfit"}) == (report.status(), codes(report))
    assert "compared" not in {entry.code for entry in report.findings}
