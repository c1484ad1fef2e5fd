"""Small checkpoints, made without torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from orz_ckpt.cluster.fleet import Here, Node
from orz_ckpt.formats.architectures import expected_tensors
from orz_ckpt.formats.torch_file import load
from orz_ckpt.inventory import step_folder
from orz_ckpt.storage import stage
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    WriteModel = Callable[..., Path]
    Tensors = dict[str, NDArray[Any]]

SIZES: dict[str, Any] = {
    "vocab_size": 33,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
POLICY = {"architectures": ["Qwen2ForCausalLM"], **SIZES}
CRITIC = {
    "architectures": ["Qwen2ForTokenClassification"],
    "num_labels": 1,
    "token_classification_bias": False,
    **SIZES,
}


def weights(config: dict[str, Any]) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(0)
    shapes = expected_tensors(config).required
    return {name: random.standard_normal(shape, dtype="<f4") for name, shape in shapes.items()}


def write_model(folder: Path, config: dict[str, Any], *, shards: int = 1) -> Path:
    """Write a Hugging Face folder with random weights, in one file or in shards with an index."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    tensors = weights(config)
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    weight_map = {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        mine = {name: tensors[name] for name in sorted(tensors)[number::shards]}
        save_file(mine, folder / file)
        weight_map |= dict.fromkeys(mine, file)
    total = sum(array.nbytes for array in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def commit_step(run: Path, step: int) -> Path:
    """Commit a step with a policy in two shards, a critic in one file, and a state."""
    final = step_folder(run, step)
    with stage(final) as staged:
        write_model(staged.path / "policy", POLICY, shards=2)
        write_model(staged.path / "critic", CRITIC)
        (staged.path / "state").mkdir()
        (staged.path / "state" / "rank_0.bin").write_bytes(bytes(range(256)) * step)
        staged.commit(step=step, roles={"policy": "policy", "critic": "critic"}, writer="orz-train 0.1.0")
    return final


@contextmanager
def without_rights() -> Iterator[None]:
    """Be a user to whom permissions apply; root passes over them."""
    if os.getuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def limited() -> Callable[[], AbstractContextManager[None]]:
    """The function that returns a context in which permissions apply to this process."""
    return without_rights


@pytest.fixture
def public() -> Iterator[Callable[[Path], Path]]:
    """The function that copies a folder to where every user may read it."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)

    def copy(original: Path) -> Path:
        target = shutil.copytree(original, folder / original.name)
        for path in (target, *target.rglob("*")):
            path.chmod(0o755)
        return target

    yield copy
    shutil.rmtree(folder)


class Disks(Here):
    """Nodes that are this machine, each of which sees `/run` on a disk of its own: a folder below `base`."""

    def __init__(self, base: Path, *names: str) -> None:
        self.base = base
        self.nodes = tuple(Node(name=name) for name in names)

    def ask(self, call: str, arguments: Mapping[str, Mapping[str, Any]], *, timeout_s: float = 1.0) -> Any:
        answers = {}
        for node in self.nodes:
            if node.name in arguments:
                alone, own = Here(), f"{self.base}/{node.name}/run"
                alone.nodes = (node,)
                there = json.loads(json.dumps(arguments[node.name]).replace('"/run', f'"{own}'))
                answer = alone.ask(call, {node.name: there}, timeout_s=timeout_s)[node.name]
                answers[node.name] = replace(answer, value=json.loads(json.dumps(answer.value).replace(own, "/run")))
        return answers


@pytest.fixture(scope="session")
def disks() -> type[Disks]:
    """What makes nodes with a disk each: `disks(base, "n1", "n2")`."""
    return Disks


@pytest.fixture(autouse=True)
def _on_a_disk_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary folders may lie in memory or in a container's layer, of which `verify` would tell."""
    monkeypatch.setattr("orz_ckpt.checks.place.find_mount", lambda _: None)


@pytest.fixture
def step(tmp_path: Path) -> Path:
    """A committed step folder in a run."""
    return commit_step(tmp_path / "run", 50)


@pytest.fixture(scope="session")
def own_mounts() -> list[str]:
    """Return what a command is put behind to mount disks that nobody else sees."""
    words = ["unshare", "--user", "--map-root-user", "--mount"]
    if not shutil.which(words[0]) or subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets no user mount a disk")
    return words


@pytest.fixture
def path_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nodes look at the path that is asked for, and not in folders that a relative one may mean."""
    monkeypatch.setattr("orz_ckpt.node.roots._all_roots", lambda _: iter(()))


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled `failing_calls.c`."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("this system has no C compiler")
    built = tmp_path_factory.mktemp("shim") / "failing_calls.so"
    source = Path(__file__).with_name("failing_calls.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", built, source, "-ldl"], check=True)
    return built


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with the steps 10, 20 and 30."""
    for number in (10, 20, 30):
        commit_step(tmp_path / "run", number)
    return tmp_path / "run"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A foreign Hugging Face folder in two shards."""
    return write_model(tmp_path / "model", POLICY, shards=2)


def set_bytes(path: Path, offset: int, new: bytes) -> None:
    """Write `new` into a record of a torch archive and correct its checksum: what was saved so, and no damage."""
    record = next(record for record in load(path).records if record.offset <= offset < record.end)
    data = bytearray(path.read_bytes())
    before = bytes(data[record.offset : record.end])
    data[offset : offset + len(new)] = new
    checksum = zlib.crc32(before).to_bytes(4, "little")
    assert record.crc32 == zlib.crc32(before)
    after = zlib.crc32(data[record.offset : record.end]).to_bytes(4, "little")
    path.write_bytes(bytes(data).replace(checksum, after))


@pytest.fixture(scope="session")
def overwrite() -> Callable[[Path, int, bytes], None]:
    """The function that writes bytes into a record of a torch archive, with its checksum."""
    return set_bytes


@pytest.fixture
def make_model() -> WriteModel:
    """The function that writes a model folder."""
    return write_model


@pytest.fixture
def link_out(tmp_path: Path) -> Callable[[Path], None]:
    """The function that moves a file or folder away and puts a link to it in its place."""

    def replace_by_link(path: Path) -> None:
        there = tmp_path / "moved away" / path.name
        there.parent.mkdir(exist_ok=True)
        path.rename(there)
        path.symlink_to(there)

    return replace_by_link


@pytest.fixture
def judged_by_all(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[[Path], dict[str, Any]]:
    """The function that gives a path to all commands that read weights: exit code, findings that a path escapes."""

    def call(path: Path) -> dict[str, Any]:
        out = tmp_path / "written"
        commands = {
            "verify": (path,),
            "inspect": (path,),
            "merge": (path, out),
            "convert": (path, out, "--to", "hf"),
            "diff": (path, path),
        }
        results = {}
        for command, arguments in commands.items():
            code = main(["ckpt", command, *map(str, arguments), "--json"])
            document = json.loads(capsys.readouterr().out)
            told = [entry["path"] for entry in document["findings"] if entry["code"] == "path_escapes"]
            results[command] = (int(code), told)
            assert out.exists() == (code == 0 and out in arguments), command
            shutil.rmtree(out, ignore_errors=True)
        return results

    return call


def read_tensors(folder: Path) -> Tensors:
    """Return what safetensors itself reads in a folder."""
    tensors: Tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def are_same(expected: Tensors, got: Tensors) -> bool:
    """Say whether names, types, shapes and all bits are the same."""
    return expected.keys() == got.keys() and all(
        (array.dtype, array.shape, array.tobytes()) == (got[name].dtype, got[name].shape, got[name].tobytes())
        for name, array in expected.items()
    )


@pytest.fixture(scope="session")
def tensors_of() -> Callable[[Path], Tensors]:
    """The function that reads the tensors of a folder."""
    return read_tensors


@pytest.fixture(scope="session")
def same() -> Callable[[Tensors, Tensors], bool]:
    """The function that compares tensors, bit for bit."""
    return are_same
