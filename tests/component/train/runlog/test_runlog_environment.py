from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

from orz_train import __version__
from orz_train.runlog.environment import environment, git_commit, numeric_variables, write_environment
from orz_train.runlog.errors import LogWriteError

pytestmark = pytest.mark.component


def test_secrets_are_redacted_and_strangers_left_out() -> None:
    """What may change numerics is kept; tokens, keys and logins within an address are not."""
    assert {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "HF_ENDPOINT": "https://<redacted>@hub.example/x",
        "HF_TOKEN": "<redacted>",
        "OMP_NUM_THREADS": "1",
        "ORZ_API_KEY": "<redacted>",
        "RAY_AUTH_MODE": "<redacted>",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_S3_SECRET": "<redacted>",
        "VLLM_db_password": "<redacted>",
    } == numeric_variables(
        {
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_NUM_THREADS": "1",
            "HF_TOKEN": "hf_abc",
            "HF_ENDPOINT": "https://me:pw@hub.example/x",
            "ORZ_API_KEY": "abc",
            "RAY_AUTH_MODE": "token",
            "VLLM_S3_SECRET": "abc",
            "VLLM_db_password": "abc",
            "CUDA_VISIBLE_DEVICES": "0,1",
            "HOME": "/home/me",
            "GITHUB_TOKEN": "abc",
            "OMPX": "no",
        }
    )


def test_the_environment_says_what_the_run_ran_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions, threads, cores and the backends that were really used."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = environment(backends={"generator": "local"})
    assert __version__ == found["versions"]["orz-train"]
    assert torch.__version__.startswith(found["versions"]["torch"].split("+")[0])
    assert torch.get_num_threads() == found["threads"]["torch"]
    assert {"generator": "local"} == found["backends"]
    assert "3" == found["variables"]["OMP_NUM_THREADS"]
    assert found["hardware"]["cpu"]
    assert 0 < found["hardware"]["cores_usable"] <= found["hardware"]["cores"]
    assert 2**28 < found["hardware"]["memory_bytes"]


def test_no_secret_reaches_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by its name, and not anywhere else in the text."""
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret_value")
    write_environment(tmp_path / "environment.json", backends={})
    assert "hf_very_secret_value" not in (tmp_path / "environment.json").read_text()


def test_a_commit_and_its_changes_are_named(tmp_path: Path) -> None:
    """Outside of git nothing is; in a repository the commit is, and whether files differ from it."""
    assert git_commit(tmp_path) is None
    (tmp_path / "a").write_text("1")
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "a"], [*author, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert {"commit": head.stdout.strip(), "dirty": False} == git_commit(tmp_path)
    (tmp_path / "a").write_text("2")
    assert {"commit": head.stdout.strip(), "dirty": True} == git_commit(tmp_path)


def test_a_program_that_is_missing_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without git and without NVIDIA's tools is described all the same."""
    monkeypatch.setenv("PATH", str(tmp_path))
    found = environment(backends={})
    assert (None, []) == (found["git"], found["hardware"]["gpus"])


def test_gpus_are_listed_as_the_driver_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the driver's own table, without starting CUDA."""
    program = tmp_path / "nvidia-smi"
    rows = [f"NVIDIA H100, 81559 MiB, 570.1, GPU-{index}" for index in (1, 2)]
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{row}'\n" for row in rows))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    gpus = environment(backends={})["hardware"]["gpus"]
    assert ["GPU-1", "GPU-2"] == [gpu["uuid"] for gpu in gpus]
    assert {"name": "NVIDIA H100", "memory.total": "81559 MiB", "driver_version": "570.1", "uuid": "GPU-1"} == gpus[0]


def test_changes_are_named_and_the_older_file_kept(tmp_path: Path) -> None:
    """A continuation on other hardware or versions can be told from the first attempt."""
    path = tmp_path / "environment.json"
    assert [] == write_environment(path, backends={"generator": "local"})
    assert [] == write_environment(path, backends={"generator": "local"})
    assert [path] == list(tmp_path.iterdir())
    changes = write_environment(path, backends={"generator": "vllm", "critic": "deepspeed"})
    assert ["backends.critic: absent -> deepspeed", "backends.generator: local -> vllm"] == changes
    assert "local" == json.loads((tmp_path / "environment-1.json").read_text())["backends"]["generator"]
    assert "vllm" == json.loads(path.read_text())["backends"]["generator"]


def test_a_damaged_older_file_is_kept_not_trusted(tmp_path: Path) -> None:
    """It can't stop a run from going on."""
    path = tmp_path / "environment.json"
    path.write_text("{")
    assert write_environment(path, backends={})
    assert "{" == (tmp_path / "environment-1.json").read_text()


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    """The message has the path."""
    with pytest.raises(LogWriteError, match=r"environment\.json: can't be written"):
        write_environment(tmp_path / "missing" / "environment.json", backends={})
