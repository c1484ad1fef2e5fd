from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from orz_train.config.dump import config_sha256, dump
from orz_train.config.load import load
from orz_train.config.schema import Config
from orz_train.errors import RunFolderError
from orz_train.runlog.folder import RunFolder
from orz_train.runlog.lock import Owner

pytestmark = pytest.mark.unit

MakeConfig = Callable[..., Config]


def tree(path: Path) -> list[str]:
    return sorted(str(entry.relative_to(path)) for entry in path.rglob("*"))


def test_a_new_folder_has_the_layout_and_the_resolved_configuration(tmp_path: Path, make_config: MakeConfig) -> None:
    """Parents are made; the configuration reads back equal and its hash is known."""
    config = make_config()
    with RunFolder(config, tmp_path / "deep" / "run") as folder:
        assert folder.is_new
        assert config_sha256(config) == folder.config_sha256
        assert [".lock", "checkpoints", "config.yaml", "logs", "rollouts"] == tree(folder.path)
        (folder.metrics_file).touch()
    assert config == load(str(tmp_path / "deep" / "run" / "config.yaml")).config
    assert ".lock" not in tree(tmp_path / "deep" / "run")


def test_the_default_folder_is_named_after_recipe_and_time(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below ./runs; absolute from the start, so a change of directory doesn't move it; unique within a second."""
    monkeypatch.chdir(tmp_path)
    with RunFolder(make_config()) as folder, RunFolder(make_config()) as other:
        monkeypatch.chdir("/")
        assert tmp_path / "runs" == folder.path.parent
        assert re.fullmatch(r"tiny-\d{8}T\d{6}Z-[0-9a-f]{6}", folder.path.name)
        assert other.path != folder.path
        assert (tmp_path / "runs" / folder.path.name / "config.yaml").exists()


def fail_within(config: Config, path: Path, begin: Callable[[RunFolder], object] = lambda _: None) -> None:
    """Open a folder, do something in it and fail."""
    with RunFolder(config, path) as folder:
        begin(folder)
        raise ZeroDivisionError


def test_an_empty_folder_is_taken(tmp_path: Path, make_config: MakeConfig) -> None:
    """Such as one that was mounted for the run; if the run never begins it is empty again, but there."""
    with pytest.raises(ZeroDivisionError):
        fail_within(make_config(), tmp_path)
    assert [] == tree(tmp_path)
    assert reopen(tmp_path, make_config()).is_new


def test_a_start_that_fails_before_its_first_record_leaves_nothing(tmp_path: Path, make_config: MakeConfig) -> None:
    """Not even the parents it made."""
    with pytest.raises(ZeroDivisionError):
        fail_within(make_config(), tmp_path / "runs" / "a", lambda folder: folder.environment_file.write_text("{}"))
    assert [] == tree(tmp_path)


def test_a_run_that_has_records_stays_when_it_fails(tmp_path: Path, make_config: MakeConfig) -> None:
    """Only the lock goes."""
    with pytest.raises(ZeroDivisionError):
        fail_within(make_config(), tmp_path / "a", lambda folder: folder.metrics_file.write_text("{}\n"))
    assert ["checkpoints", "config.yaml", "logs", "metrics.jsonl", "rollouts"] == tree(tmp_path / "a")


@pytest.mark.parametrize("log", ["engine-0.log", "ray/raylet.err"])
def test_logs_of_workers_stay_when_nothing_was_recorded(tmp_path: Path, make_config: MakeConfig, log: str) -> None:
    """They say why a start failed; the same command takes the folder again."""

    def start_worker(folder: RunFolder) -> None:
        (folder.logs / log).parent.mkdir(exist_ok=True)
        (folder.logs / log).write_text("Traceback")

    with pytest.raises(ZeroDivisionError):
        fail_within(make_config(), tmp_path / "a", start_worker)
    assert "Traceback" == (tmp_path / "a" / "logs" / log).read_text()
    assert not reopen(tmp_path / "a", make_config()).is_new


def test_what_others_put_there_is_never_removed(tmp_path: Path, make_config: MakeConfig) -> None:
    """Even when the start fails."""
    with pytest.raises(ZeroDivisionError):
        fail_within(make_config(), tmp_path / "a", lambda folder: (folder.logs / "note.txt").write_text("mine"))
    assert ["logs", "logs/note.txt"] == tree(tmp_path / "a")


def reopen(path: Path, config: Config, **options: bool) -> RunFolder:
    folder = RunFolder(config, path, **options)
    folder.close()
    return folder


@pytest.fixture
def run(tmp_path: Path, make_config: MakeConfig) -> Path:
    """Leave the folder of an earlier run."""
    folder = RunFolder(make_config(), tmp_path / "run")
    folder.metrics_file.touch()
    folder.close()
    return folder.path


def test_the_same_configuration_may_go_on(run: Path, make_config: MakeConfig) -> None:
    """Nothing in the folder changes by opening it."""
    before = tree(run)
    folder = reopen(run, make_config())
    assert (False, (), "") == (folder.is_new, folder.changes, folder.notice)
    assert before == tree(run)


def test_another_configuration_is_refused_with_every_difference(run: Path, make_config: MakeConfig) -> None:
    """Exit code 2; old and new values are named; the folder is as before and unlocked."""
    before = tree(run)
    other = make_config(seed=7, policy={"model": "other", "optimizer": {"lr": 1e-5}})
    with pytest.raises(RunFolderError, match="holds a run of another configuration") as caught:
        RunFolder(other, run)
    assert 2 == caught.value.exit_code
    assert [
        "  seed: 42 there, 7 now",
        "  policy.optimizer.lr: 0.0001 there, 1e-05 now",
        "  policy.model: base there, other now",
    ] == caught.value.message.splitlines()[1:]
    assert before == tree(run)


def test_many_differences_are_counted(run: Path, make_config: MakeConfig) -> None:
    """A whole other recipe doesn't fill the screen."""
    other = make_config(
        critic=None,
        algorithm="grpo",
        seed=1,
        prompts_per_step=8,
        samples_per_prompt=4,
        policy={"model": "other", "optimizer": {"lr": 1e-5, "betas": (0.5, 0.5), "weight_decay": 0.1}},
        generation={"max_response_tokens": 15, "temperature": 0.5, "top_p": 0.5, "top_k": 3, "stop": ("x",)},
    )
    with pytest.raises(RunFolderError) as caught:
        RunFolder(other, run)
    lines = caught.value.message.splitlines()
    assert 22 == len(lines)
    assert re.fullmatch(r"  and \d+ more", lines[-1])


def test_settings_that_may_change_are_written_and_the_old_ones_kept(run: Path, make_config: MakeConfig) -> None:
    """A longer run with another save interval is the same run."""
    old, new = make_config(), make_config(steps=16, checkpoint={"every_steps": 5})
    folder = reopen(run, new)
    assert [("steps", 8, 16), ("checkpoint.every_steps", 50, 5)] == list(folder.changes)
    assert dump(new) == (run / "config.yaml").read_text()
    assert dump(old) == (run / "config-1.yaml").read_text()
    reopen(run, old)
    assert dump(new) == (run / "config-2.yaml").read_text()


@pytest.mark.parametrize(
    "cluster",
    [
        {"address": "auto"},
        {"start_timeout_s": 1200},
        {"weights": {"transfer": "host", "bucket_mib": 64, "timeout_s": 1800, "probe": "every"}},
        {"gpu_memory_utilization": 0.5, "kv_cache_gib": 2, "cpus_per_worker": 1},
    ],
)
def test_what_moves_no_number_in_a_cluster_may_change(
    run: Path, make_config: MakeConfig, cluster: dict[str, object]
) -> None:
    """Above all the time limits, which errors tell people to raise before they go on."""
    assert reopen(run, make_config(cluster=cluster)).changes


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_gpus", 0),
        ("num_ranks", 2),
        ("zero_stage", 2),
        ("num_threads", 2),
        ("num_engines", 2),
        ("tensor_parallel", 2),
        ("offload", "optimizer"),
    ],
)
def test_what_cuts_state_or_moves_bits_in_a_cluster_may_not(
    run: Path, make_config: MakeConfig, key: str, value: object
) -> None:
    """Ranks, stages and engines stay those of the run."""
    with pytest.raises(RunFolderError, match=rf"  cluster\.{key}: "):
        RunFolder(make_config(cluster={key: value}), run)


def test_a_run_that_must_be_new_refuses_an_old_folder(run: Path, make_config: MakeConfig) -> None:
    """With both ways out."""
    with pytest.raises(RunFolderError, match=r"holds a run already\n.*another --run-dir, or --resume auto"):
        RunFolder(make_config(), run, must_be_new=True)


def test_a_folder_of_something_else_is_refused_and_untouched(tmp_path: Path, make_config: MakeConfig) -> None:
    """Nobody's home folder becomes a run folder by a typo."""
    (tmp_path / "thesis.tex").write_text("x")
    (tmp_path / "photos").mkdir()
    with pytest.raises(RunFolderError, match=r"not a run folder: it holds photos and 1 more, but no config\.yaml"):
        RunFolder(make_config(), tmp_path)
    assert ["photos", "thesis.tex"] == tree(tmp_path)


def test_a_config_that_is_no_configuration_is_refused(tmp_path: Path, make_config: MakeConfig) -> None:
    """Many programs write a config.yaml."""
    (tmp_path / "config.yaml").write_text("port: 80\n")
    with pytest.raises(RunFolderError, match="not the configuration of a run: 7 problems"):
        RunFolder(make_config(), tmp_path)
    assert ["config.yaml"] == tree(tmp_path)


def test_a_file_in_the_way_is_a_clear_error(tmp_path: Path, make_config: MakeConfig) -> None:
    """As the folder itself, and as a parent."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunFolderError, match=rf"{path}: can't be a run folder: .*file.* is a file"):
            RunFolder(make_config(), path)
    assert ["file"] == tree(tmp_path)


@pytest.mark.parametrize(("link", "run"), [("run", "run"), ("link", "link/run"), ("run/checkpoints", "run")])
def test_a_link_to_nothing_says_where_it_leads(tmp_path: Path, make_config: MakeConfig, link: str, run: str) -> None:
    """As of a share that isn't mounted: the folder itself, one around it, and what a run keeps in it."""
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to("/nowhere/else")
    said = re.escape(f"{tmp_path / run}: can't be a run folder: {tmp_path / link} is a link to /nowhere/else, and")
    with pytest.raises(RunFolderError, match=rf"^{said} nothing is there on this machine\n") as caught:
        RunFolder(make_config(), tmp_path / run)
    assert "if that is on a share, check that it is mounted; or give another --run-dir" == caught.value.remedy
    assert (tmp_path / link).is_symlink()
    assert not (tmp_path / run / "config.yaml").exists()


def test_a_link_in_a_circle_is_told_as_one(tmp_path: Path, make_config: MakeConfig) -> None:
    """It leads nowhere, and no share is to blame."""
    (tmp_path / "run").symlink_to("other")
    (tmp_path / "other").symlink_to("run")
    with pytest.raises(RunFolderError, match=rf"{tmp_path}/run is a link that leads in a circle"):
        RunFolder(make_config(), tmp_path / "run")


def test_a_start_that_was_killed_early_is_no_obstacle(tmp_path: Path, make_config: MakeConfig) -> None:
    """Without config.yaml only our own names are there, a stale lock and an unfinished file among them."""
    (tmp_path / "logs").mkdir()
    (tmp_path / ".lock").write_text("")
    (tmp_path / ".config.yaml.123.tmp").write_text("na")
    folder = reopen(tmp_path, make_config())
    assert folder.is_new
    assert dump(make_config()) == (tmp_path / "config.yaml").read_text()


@pytest.mark.parametrize("failing", ["config.yaml", ".lock"])
def test_a_full_disk_leaves_no_half_started_folder(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """Whichever file doesn't fit: the message has the next step, and nothing is left."""

    def full(path: Path) -> None:
        if failing in path.name:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("orz_train.runlog.durable.sync_file", full)
    with pytest.raises(RunFolderError, match=r"No space left on device\n.*on a disk with free space"):
        RunFolder(make_config(), tmp_path / "runs" / "a")
    assert [] == tree(tmp_path)


def test_a_place_that_may_not_be_written_is_a_clear_error(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permissions are simulated, since a test may run as root."""

    def forbidden(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", forbidden)
    with pytest.raises(RunFolderError, match=r"Permission denied\n.*that you may write to"):
        RunFolder(make_config(), tmp_path / "a")


def leave_lock(path: Path, **fields: object) -> None:
    """Leave a lock of another process."""
    (path / ".lock").write_text(json.dumps(asdict(Owner.me()) | fields))


def test_one_process_cannot_open_a_folder_twice(run: Path, make_config: MakeConfig) -> None:
    """And the second attempt leaves the first one's lock and files alone."""
    with RunFolder(make_config(), run) as folder:
        (folder.environment_file).write_text("{}")
        before = tree(run)
        with pytest.raises(RunFolderError, match=rf"process {os.getpid()} is writing there"):
            RunFolder(make_config(), run)
        assert before == tree(run)


def test_a_second_start_in_a_new_folder_spares_the_first(tmp_path: Path, make_config: MakeConfig) -> None:
    """The loser of a race removes nothing of the winner's."""
    with RunFolder(make_config(), tmp_path / "a") as winner:
        winner.environment_file.write_text("{}")
        before = tree(tmp_path)
        with pytest.raises(RunFolderError, match="is writing there"):
            RunFolder(make_config(), tmp_path / "a")
        assert before == tree(tmp_path)


def test_a_process_number_that_was_used_again_is_no_owner(run: Path, make_config: MakeConfig) -> None:
    """The parent of this test lives, but began at another time than the lock says."""
    leave_lock(run, pid=os.getppid(), started="1 another-boot")
    with RunFolder(make_config(), run) as folder:
        assert f"process {os.getppid()} died" in folder.notice


def test_the_lock_of_another_host_holds_until_a_person_removes_it(run: Path, make_config: MakeConfig) -> None:
    """From here nobody can tell whether its process lives."""
    leave_lock(run, host="elsewhere", pid=1)
    with pytest.raises(RunFolderError, match=rf"process 1 on host elsewhere.*\n.*delete {run}/\.lock"):
        RunFolder(make_config(), run)
    (run / ".lock").unlink()
    reopen(run, make_config())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 1}', "\udcff"])
def test_an_unreadable_lock_is_taken_over_with_a_notice(run: Path, make_config: MakeConfig, text: str) -> None:
    """A process that died while it wrote the lock can't be asked."""
    (run / ".lock").write_bytes(text.encode("utf-8", "surrogateescape"))
    with RunFolder(make_config(), run) as folder:
        assert "left unreadable" in folder.notice
