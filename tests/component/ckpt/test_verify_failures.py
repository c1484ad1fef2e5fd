"""Failures of checkpoints as they happen, each made for real: what `verify` says, and which code a script gets.

Numbers are those of the list of failure modes: F3 and F4 folders that do not last, F6 no permission, F7 a full disk,
F8 truncated, F9 holes, F12 a save that was killed, F14 stale shards, F15 spread weights, F16 and the story of the JSON
files (F1, F2), F17 lost frozen weights, F18 tied weights, F19 types, F20 shapes, F21 zeros, F28 NaN, F29 tokenizers,
F30 adapters, F31 lost states, F33 files that change, F34 hostile ones. Those of shards are in `test_verify_deepspeed`
and `test_verify_sharded` (F1, F7, F8, F10 to F14, F16, F28, F34, F36, F37), F27 is in `test_verify_against`, F10 of our
own checkpoints and F35 (two writers of one step) in `test_verify_checkpoint` and `test_storage`. F5 (disks that are
not shared) and F32 (a stale view) are in `test_storage_checks`, F6 and F7 before a save in `cluster/test_preflight`,
full, read-only and broken disks under the other commands in `test_disks`, F22 (memory) in `test_memory`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from orz_ckpt.checks import content, place
from orz_ckpt.disk.mounts import find_mount
from orz_ckpt.findings import Level, Report
from orz_ckpt.inventory import step_folder
from orz_ckpt.storage import stage
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    WriteModel = Callable[..., Path]
    Limited = Callable[[], AbstractContextManager[None]]

pytestmark = pytest.mark.component

SHARD = "model-00001-of-00002.safetensors"
GATE = "model.layers.0.mlp.gate_proj.weight"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


def codes(report: Report) -> set[str]:
    return {entry.code for entry in report.findings if entry.severity is not Severity.INFO}


def notes(report: Report) -> set[str]:
    return {entry.code for entry in report.findings if entry.severity is Severity.INFO}


def the(report: Report, code: str) -> Any:
    (found,) = (entry for entry in report.findings if entry.code == code)
    return found


def edit(path: Path, **values: object) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**document, **values}), encoding="utf-8")


@pytest.fixture
def single(make_model: WriteModel, tmp_path: Path) -> Callable[..., Path]:
    """The function that writes a model in one file, some of its weights changed."""

    def write(change: Callable[[dict[str, NDArray[Any]]], object] = lambda _: None, **config: object) -> Path:
        sizes = {"vocab_size": 33, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
        path = make_model(tmp_path / "single", {"architectures": ["Qwen2ForCausalLM"], **sizes, **heads, **config})
        tensors = load_file(path / "model.safetensors")
        change(tensors)
        save_file(tensors, path / "model.safetensors")
        return path

    return write


# --- nothing here -------------------------------------------------------------------------------------


def test_only_json_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The driver's records and no weights: it is said where they may be, and how to look for them (F1, F2)."""
    (tmp_path / "iter50_generation_results.json").write_text("{}", encoding="utf-8")
    (tmp_path / "dumped_replay_buffer.jsonl").write_text("", encoding="utf-8")

    assert 3 == main(["ckpt", "verify", str(tmp_path)])
    said = " ".join(capsys.readouterr().out.split())
    assert "it holds no weights, only records: dumped_replay_buffer.jsonl, iter50_generation_results.json" in said
    assert "to another node, or below another working directory" in said
    assert f"orz ckpt locate {tmp_path}" in said


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "it is empty"),
        (lambda path: path.write_bytes(b"hello"), "it is a file without suffix, which is no format of weights"),
        (lambda path: (path.mkdir(), (path / "a.h5").write_bytes(b"x")), "no weights in a format known here: a.h5"),
    ],
)
def test_nothing_that_is_known(tmp_path: Path, make: Callable[[Path], object], words: str) -> None:
    """An empty folder, a file in place of a folder, and another format: exit 3, with what was found."""
    make(tmp_path / "x")
    report = verify(tmp_path / "x")

    assert (Status.INCONCLUSIVE, {"nothing_recognised"}) == (report.status(), codes(report))
    assert words in the(report, "nothing_recognised").message


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "x.pt"])
def test_empty_file(name: str, tmp_path: Path) -> None:
    """A file of no bytes, as a full disk leaves it, fails."""
    (tmp_path / name).write_bytes(b"")

    assert Status.FAILED is verify(tmp_path / name).status()
    assert {"header_invalid"} | {"torch_invalid"} >= codes(verify(tmp_path / name)) != set()
    if not name.endswith("safetensors"):
        assert "it is empty; the disk was probably full" in the(verify(tmp_path / name), "torch_invalid").message


def test_weights_that_went_elsewhere(model: Path) -> None:
    """Configuration and tokenizer were saved, the weights by another rank to another place (F16)."""
    for path in model.glob("model*"):
        path.unlink()

    assert {"no_weights"} == codes(verify(model))


# --- where it lies ------------------------------------------------------------------------------------


def test_folder_of_ray(model: Path, tmp_path: Path) -> None:
    """Weights in a folder that Ray made for a job are there until Ray removes it (F3)."""
    session = tmp_path / "ray" / "session_2026-11-22_10-00-00_000000_1" / "runtime_resources" / "working_dir_files"
    target = session / "_ray_pkg_0123456789abcdef" / "orz_ckpt"
    target.parent.mkdir(parents=True)
    model.rename(target)
    found = the(verify(target), "piece_in_ray_session")

    assert (Severity.WARN, True) == (found.severity, "removes when it likes" in found.message)


@LINUX
def test_folder_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights on tmpfs are lost with the machine: a note (F4)."""
    shared = Path("/dev/shm")  # noqa: S108  a tmpfs of every Linux
    mount = find_mount(shared)
    if mount is None or not mount.in_memory:
        pytest.skip(f"{shared} is no tmpfs here")
    monkeypatch.setattr(place, "find_mount", find_mount)
    folder = shared / f"orz-verify-{os.getpid()}"
    try:
        found = the(verify(_tiny(folder)), "path_ephemeral")
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()

    assert (Severity.INFO, True) == (found.severity, "kept in memory (tmpfs at " in found.message)


def _tiny(folder: Path) -> Path:
    folder.mkdir()
    save_file({"w": np.ones(3, np.float32)}, folder / "model.safetensors")
    return folder


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs users")
@pytest.mark.parametrize("locked", ["model", f"model/{SHARD}", "step", "step/policy"])
def test_no_permission(
    locked: str,
    model: Path,
    step: Path,
    public: Callable[[Path], Path],
    limited: Limited,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What this user may not read is named, and the verdict is exit 3: never a pass, never a traceback (F6)."""
    path = public(model if locked.startswith("model") else step)
    target = path.joinpath(*locked.split("/")[1:])
    assert 0 == main(["ckpt", "verify", str(path)])
    target.chmod(0o000)
    capsys.readouterr()
    with limited():
        code = main(["ckpt", "verify", str(path)])
    target.chmod(0o755)
    said = capsys.readouterr()

    assert (3, "") == (code, said.err)
    assert "unreadable" in said.out
    assert "Permission denied" in said.out


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs users")
def test_no_permission_to_an_older_step(run: Path, public: Callable[[Path], Path], limited: Limited) -> None:
    """An older step that this user may not read does not hide that the newest one is good (F6)."""
    path = public(run)
    older = path / "checkpoints" / "step_000010"
    assert Status.OK is verify(path).status()
    older.chmod(0o000)
    with limited():
        report = verify(path)
    older.chmod(0o755)

    assert (Status.OK, True) == (report.status(), report.newest_good.endswith("step_000030"))
    assert ["inconclusive", "ok", "ok"] == [part.status().value for part in report.parts]
    assert Severity.WARN is the(report, "unreadable").severity


# --- half written -------------------------------------------------------------------------------------


@LINUX
def test_full_disk(tmp_path: Path) -> None:
    """A save that a disk of 2 MB could not hold leaves a file that is found to be cut off (F7)."""
    writer = (
        "import numpy as np, sys; from safetensors.numpy import save;"
        "data = save({f'w{i}': np.ones(250_000, '<f4') for i in range(4)});"
        "open(sys.argv[1] + '/model.safetensors', 'wb', buffering=0).write(data)"
    )
    verifier = "from orz_cli.main import main; import sys; sys.exit(main(['ckpt', 'verify', sys.argv[1]]))"
    script = f'mount -t tmpfs -o size=2m none {tmp_path} && {sys.executable} -c "{writer}" {tmp_path};'
    script += f'{sys.executable} -c "{verifier}" {tmp_path}/model.safetensors'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare" in run.stderr or "mount:" in run.stderr:
        pytest.skip("mount namespaces are not allowed here")

    assert 1 == run.returncode, run.stdout + run.stderr
    assert "header_invalid" in run.stdout
    assert "it was cut off, first lost in 'w1'" in run.stdout or "it was cut off, first lost in 'w2'" in run.stdout


@LINUX
@pytest.mark.parametrize("level", [Level.QUICK, Level.FULL])
def test_holes(level: Level, tmp_path: Path) -> None:
    """A file of which a part was never written loads as zeros; the hole and its tensor are named (F9)."""
    path = tmp_path / "x.safetensors"
    arrays = {name: np.full(40_000, 1 + number, np.float32) for number, name in enumerate("abc")}
    save_file(arrays, path)
    data = path.read_bytes()
    begin, end = len(data) // 2 // 4096 * 4096, len(data) // 2 // 4096 * 4096 + 65536
    with path.open("wb") as stream:
        stream.write(data[:begin])
        stream.seek(end)
        stream.write(data[end:])
    assert 0.0 == load_file(path)["b"].min()
    if path.stat().st_blocks * 512 >= len(data):
        pytest.skip("this file system keeps no holes")
    report = verify(path, level=level)
    found = the(report, "file_holes")

    assert (Status.FAILED, "b") == (report.status(), found.tensor)
    assert f"bytes {begin:,}-{end:,} were never written and read as zeros, in 'b'" == found.message


@LINUX
def test_holes_that_a_digest_vouches_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Zeros that were committed are no damage, however a copy stores them."""
    path = tmp_path / "model.safetensors"
    save_file({"w": np.append(np.zeros(40_000, np.float32), 1)}, path)
    assert 0 == main(["ckpt", "manifest", str(tmp_path)])
    capsys.readouterr()
    data = path.read_bytes()
    with path.open("wb") as stream:
        stream.write(data[:4096])
        stream.seek(len(data) - 4096)
        stream.write(data[-4096:])
    if path.stat().st_blocks * 512 >= len(data):
        pytest.skip("this file system keeps no holes")

    assert "file_holes" not in codes(verify(tmp_path))
    assert "file_holes" in codes(verify(tmp_path, level=Level.QUICK))


def test_killed_save(tmp_path: Path) -> None:
    """A save that was killed leaves a folder without manifest: uncommitted, and the older one is named (F12)."""
    source = """
import sys, time
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file
from orz_ckpt.inventory import step_folder
from orz_ckpt.storage import stage
def save(step, wait):
    with stage(step_folder(Path(sys.argv[1]), step)) as staged:
        (staged.path / "policy").mkdir()
        save_file({"w": np.ones(9, "<f4")}, staged.path / "policy" / "model.safetensors")
        if wait:
            print("saving", flush=True)
            time.sleep(60)
        staged.commit(step=step, roles={"policy": "policy"}, writer="test 1")
save(1, False)
save(2, True)
"""
    with subprocess.Popen([sys.executable, "-c", source, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "saving\n" == process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    (killed,) = (tmp_path / "checkpoints").glob("step_000002.tmp-*")
    assert "in_flight" in notes(verify(tmp_path))
    assert {"uncommitted", "config_missing"} == codes(verify(killed))
    killed.rename(killed.with_name("step_000002"))
    report = verify(tmp_path)

    assert (Status.FAILED, True) == (report.status(), report.newest_good.endswith("step_000001"))
    assert "the save never came to its end" in the(report, "uncommitted").message


def test_settings_that_were_cut_off(model: Path) -> None:
    """A JSON file that a loader reads beside the weights, half written, is found (F29)."""
    (model / "generation_config.json").write_text('{"eos_token_id": [1, ', encoding="utf-8")
    (model / "tokenizer.json").write_text("", encoding="utf-8")
    found = {Path(entry.path).name: entry for entry in verify(model).findings if entry.code == "settings_invalid"}

    assert {"generation_config.json", "tokenizer.json"} == found.keys()
    assert "it is empty" == found["tokenizer.json"].message


def test_file_that_shrinks(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another node cuts short while it is read gives a finding, and does not kill the process (F33)."""
    real = content.read_once

    def shrinking(path: Path, *arguments: Any, **named: Any) -> Any:
        if path.name == SHARD:
            os.truncate(path, path.stat().st_size - 8)
        return real(path, *arguments, **named)

    monkeypatch.setattr(content, "read_once", shrinking)
    report = verify(model)

    assert (Status.INCONCLUSIVE, {"unreadable"}) == (report.status(), codes(report))
    assert "became shorter" in the(report, "unreadable").message


# --- not what it should be ----------------------------------------------------------------------------


def test_spread_weights(single: Callable[..., Path]) -> None:
    """Weights that were saved while ZeRO-3 had spread them have no elements: how to get them is said (F15)."""
    path = single(lambda tensors: tensors.update({name: np.ones(0, np.float32) for name in tensors}))
    found = the(verify(path), "tensor_empty")

    assert "27 of 27 tensors have no elements" in found.message
    assert "merge them from the shards" in found.remedy


def test_lost_frozen_weights(single: Callable[..., Path]) -> None:
    """Weights that were frozen and not saved are missed by what the configuration promises (F17)."""
    path = single(lambda tensors: tensors.pop("model.embed_tokens.weight"))

    assert "'model.embed_tokens.weight' [33, 16] is missing" in the(verify(path), "tensor_missing").message


def test_tied_weights(single: Callable[..., Path]) -> None:
    """Head and embedding that the configuration ties: alike is fine, one alone is fine, differing is said (F18)."""

    def alike(tensors: dict[str, NDArray[Any]]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()

    path = single(alike, tie_word_embeddings=True)
    assert set() == codes(verify(path))
    tensors = load_file(path / "model.safetensors")
    tensors["lm_head.weight"][0, 0] += 1
    save_file(tensors, path / "model.safetensors")
    found = the(verify(path), "tie_differs")

    assert (Severity.WARN, "lm_head.weight") == (found.severity, found.tensor)
    assert {"tensor_missing"} == codes(verify(_without_head(path)))


def _without_head(path: Path) -> Path:
    tensors = load_file(path / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, path / "model.safetensors")
    edit(path / "config.json", tie_word_embeddings=False)
    return path


@pytest.mark.parametrize(("key", "stated", "expected"), [
    ("torch_dtype", "bfloat16", {"dtype_differs"}),
    ("dtype", "bfloat16", {"dtype_differs"}),
    ("dtype", "float32", set()),
    ("dtype", "auto", set()),
])  # fmt: skip
def test_types(key: str, stated: str, expected: set[str], single: Callable[..., Path]) -> None:
    """fp32 weights under a configuration that says bfloat16 are twice the size that was meant (F19)."""
    report = verify(single(**{key: stated}))

    assert expected == codes(report)
    assert not expected or "bytes are float32" in the(report, "dtype_differs").message


def test_shapes(single: Callable[..., Path]) -> None:
    """A matrix with rows too many, as padding and copies of ranks make them, is found (F20)."""
    path = single(lambda tensors: tensors.update({GATE: np.ones((32, 16), np.float32)}))

    assert f"'{GATE}': config.json says [24, 16], the file [32, 16]" in the(verify(path), "shape_differs").message


def test_zeros(single: Callable[..., Path]) -> None:
    """A model of nothing but zeros, as DeepSpeed 0.16.0 merged, fails although all of it is whole (F21)."""
    path = single(lambda tensors: tensors.update({name: array * 0 for name, array in tensors.items()}))

    assert "weights are zero: nothing was copied" in the(verify(path), "all_zero_model").message


def test_nan(single: Callable[..., Path]) -> None:
    """NaN is told by name and index (F28)."""
    path = single(lambda tensors: tensors[GATE].__setitem__((3, 5), np.nan))

    assert f"'{GATE}': 1 of 384 numbers are NaN or Inf, first at [3, 5]" in the(verify(path), "not_finite").message


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        ({"model": {"type": "BPE", "vocab": {"a": 0, "ü": 32}}, "added_tokens": [{"id": 12, "content": "<x>"}]}, None),
        ({"model": {"type": "BPE", "vocab": {"a": 0, "b": 33}}}, 33),
        ({"added_tokens": [{"id": 40, "content": "<pad>"}], "model": {"vocab": {"vocab": 1}}}, 40),
        ({"model": {"type": "Unigram", "vocab": [["a", -1.5]] * 34}}, 33),
        ({"truncation": {"max_length": 4096}, "model": {"vocab": {'"vocab": {': 3}}}, None),
        ({"model": {"type": "BPE", "vocab": {}}}, None),
    ],
)
def test_tokenizer_of_another_model(tokenizer: dict[str, Any], expected: int | None, model: Path) -> None:
    """A tokenizer with an id beyond the embedding's 33 rows is found, in whatever part of it the id stands (F29)."""
    (model / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    report = verify(model, level=Level.QUICK)

    assert ({"vocabulary_small"} if expected else set()) == codes(report)
    if expected:
        assert f"tokens up to {expected}, and config.json a vocabulary of 33" in the(report, "vocabulary_small").message


def test_adapters(tmp_path: Path) -> None:
    """An adapter that was never trained, or lost its alpha, changes nothing (F30)."""
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    factors = {name.format("A"): np.ones((2, 4), np.float32), name.format("B"): np.ones((4, 2), np.float32)}
    save_file(factors, tmp_path / "adapter_model.safetensors")
    assert (Status.OK, set()) == (verify(tmp_path).status(), codes(verify(tmp_path)))
    save_file({**factors, name.format("B"): np.zeros((4, 2), np.float32)}, tmp_path / "adapter_model.safetensors")
    assert {"lora_zero"} == codes(verify(tmp_path))
    save_file(
        {**factors, name.format("A"): np.full((2, 4), np.nan, np.float32)}, tmp_path / "adapter_model.safetensors"
    )
    assert {"not_finite"} == codes(verify(tmp_path))
    save_file(factors, tmp_path / "adapter_model.safetensors")
    edit(tmp_path / "adapter_config.json", lora_alpha=0)

    assert {"lora_alpha_lost"} == codes(verify(tmp_path))


def test_lost_state(step: Path, tmp_path: Path) -> None:
    """A committed checkpoint without states can be used and not trained on: a note (F31)."""
    final = step_folder(tmp_path / "other", 1)
    with stage(final) as staged:
        shutil.copytree(step / "policy", staged.path / "policy")
        staged.commit(step=1, roles={"policy": "policy"}, writer="test 1")

    assert ("no_state" in notes(verify(final)), "no_state" in notes(verify(step))) == (True, False)


@pytest.mark.parametrize("spelled", ["model", "./model", "model/.", f"model/{SHARD}"])
def test_relative_paths(spelled: str, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign folder or file may be named from any working directory; findings name files as the user did."""
    monkeypatch.chdir(model.parent)
    (model / SHARD).write_bytes((model / SHARD).read_bytes()[:-4])
    report = verify(Path(spelled))
    bad = [entry.path for entry in report.findings if entry.code == "header_invalid"]

    assert [str(Path(spelled) if spelled.endswith(SHARD) else Path(spelled) / SHARD)] == bad
    assert all(Path(path).is_file() for path in report.checked)


def test_step_of_the_original(step: Path) -> None:
    """`iter50/policy`, as the original Open-Reasoner-Zero saves, is a foreign folder: no manifest is missing."""
    target = step.parent / "iter50"
    target.mkdir()
    for role in ("policy", "critic"):
        (step / role).rename(target / role)
    report = verify(target)

    assert (Status.OK, set(), "folder") == (report.status(), codes(report), report.kind)
    assert 2 == len(report.parts)


def test_time_is_no_order(run: Path) -> None:
    """The newest step is that of the highest number, whatever clocks and copies did to times (F36)."""
    for number, age in ((10, 0), (20, 1000), (30, 2000)):
        folder = run / "checkpoints" / f"step_{number:06d}"
        for path in [folder, *folder.rglob("*")]:
            os.utime(path, (time.time() - age, time.time() - age))
    (run / "checkpoints" / "step_000030" / "manifest.json").unlink()
    report = verify(run, level=Level.QUICK)

    assert (Status.FAILED, True) == (report.status(), report.newest_good.endswith("step_000020"))
