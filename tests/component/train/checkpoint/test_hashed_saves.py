"""A save hashes what it writes on its way to the disk: the large files are not read again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orz_ckpt import entries
from orz_ckpt.disk.reading import read_once
from orz_ckpt.errors import StorageError
from orz_ckpt.inventory import step_folder
from orz_ckpt.manifest import load
from orz_ckpt.verify import verify
from orz_cli.findings import Status
from orz_train.backends.local.models import LocalPolicy
from orz_train.checkpoint import RunCheckpoints
from orz_train.checkpoint.state_names import process_state
from orz_train.config.schema import Config

pytestmark = pytest.mark.component

Store = Callable[..., RunCheckpoints]
LARGE = {"policy/model.safetensors", f"state/{process_state('policy')}"}
"""Files whose size grows with the model."""


class Read:
    """Notes which files are read from their first byte to their last in order to hash them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []

        def noting(path: Path, *arguments: Any, **named: Any) -> Any:
            self.names.append(f"{path.parent.name}/{path.name}")
            return read_once(path, *arguments, **named)

        monkeypatch.setattr(entries, "read_once", noting)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    return Read(monkeypatch)


@pytest.fixture
def policy(config_for: Callable[..., Config], policy_for: Callable[[Config], LocalPolicy]) -> LocalPolicy:
    return policy_for(config_for())


@pytest.mark.parametrize("background", [False, True])
def test_large_files_are_not_read_again(
    run_dir: Path, store: Store, policy: LocalPolicy, read: Read, background: bool
) -> None:
    """Only small files are, each once; all are in the manifest as reading every byte finds them."""
    with store(policy, asynchronous=background) as saves:
        saves.save(1, skipped_in_a_row={})
    step = step_folder(run_dir, 1)
    manifest = load(step / "manifest.json")
    assert manifest.files.keys() > LARGE
    assert sorted(manifest.files.keys() - LARGE) == sorted(read.names)
    (step / "manifest.json").unlink()
    assert entries.describe(step) == manifest.files


def test_each_tensor_is_in_the_manifest(run_dir: Path, store: Store, policy: LocalPolicy) -> None:
    """The weights' digests are there tensor by tensor, and the checkpoint verifies."""
    with store(policy) as saves:
        saves.save(1, skipped_in_a_row={})
    step = step_folder(run_dir, 1)
    tensors = load(step / "manifest.json").files["policy/model.safetensors"].tensors
    assert tensors is not None
    assert {name for name, _ in policy.model.named_parameters()} >= tensors.keys()
    assert len(tensors) > 10
    assert Status.OK is verify(step).status()


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("name", sorted(LARGE))
def test_what_a_disk_has_lost_since_is_no_checkpoint(
    run_dir: Path, store: Store, policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch, name: str, background: bool
) -> None:
    """The commit opens again what was written: one with another last byte isn't taken for what was hashed."""
    commit = RunCheckpoints._commit

    def losing(saves: RunCheckpoints, staged: Any, *arguments: Any, **named: Any) -> Any:
        path = staged.path / name
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        return commit(saves, staged, *arguments, **named)

    monkeypatch.setattr(RunCheckpoints, "_commit", losing)

    def save() -> None:
        with store(policy, asynchronous=background) as saves:
            saves.save(1, skipped_in_a_row={})

    with pytest.raises(StorageError, match=f"{name} was written and flushed, and cannot be relied on"):
        save()
    assert [] == list((run_dir / "checkpoints").iterdir())
