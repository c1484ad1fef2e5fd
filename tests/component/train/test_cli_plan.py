"""`orz plan` and the parts of `orz train` that start nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from orz_cli.exits import ExitCode
from orz_cli.main import main
from orz_train.config.load import load
from orz_train.config.recipes import list_recipes

pytestmark = pytest.mark.component

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `orz` in an empty folder; return its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def ran(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return ran


def test_plan_answers_what_users_of_orz_ask(run: Run) -> None:
    """Their parameter names, the batch arithmetic, the moving step count, memory, disk, warnings."""
    code, out, err = run("plan", "orz-7b-ppo")
    assert (ExitCode.OK, "") == (code, err)
    text = " ".join(out.split())
    names = "num_episodes rollout_batch_size n_samples_per_prompt micro_rollout_batch_size micro_train_batch_size"
    for name in [*names.split(), "policy_update_steps", "critic_update_steps", "num_warmup_steps", "packing_max_len"]:
        assert name in text
    for sentence in (
        "128 prompts x 64 samples = 8,192 rollouts",
        "The critic takes 12 optimizer steps, each on 682 or 683.",
        "56,878 prompts / 128 a step = 444.4, so an episode has 445 steps.",
        "The run has 8,900 steps: 8,900 policy updates and 106,800 critic updates.",
        "ORZ's policy bar",
        "Why the count in ORZ's log moves",
        "GPU 0-31: policy, critic, generator, in turns.",
        "A checkpoint: policy 15.2 GB + critic 14.1 GB",
        "row_mean weighs a lone long response",
    ):
        assert sentence in text


@pytest.mark.parametrize(
    ("arguments", "sentences"),
    [
        (
            (),
            ("backend cluster", "Memory of a process", "On CPUs, each a process: 2 ranks of each model", "2 engines."),
        ),
        (
            ("backend=local",),
            ("backend local", "Memory of the process", "One plain process holds all roles at once"),
        ),
    ],
)
def test_plan_of_the_quickstart_needs_no_gpu(run: Run, arguments: tuple[str, ...], sentences: tuple[str, ...]) -> None:
    """It warns of nothing, and isn't held against ORZ's progress bars."""
    code, out, err = run("plan", *arguments)
    assert (ExitCode.OK, "") == (code, err)
    text = " ".join(out.split())
    for sentence in (
        *sentences,
        "The policy takes 1 optimizer step, on all 256.",
        "The critic takes 4 optimizer steps, each on 64.",
        "note: policy and critic take 1 : 4 optimizer steps",
    ):
        assert sentence in text
    for word in ("GPU", "warning", "ORZ's policy bar", "ORZ's critic bar", "the count in ORZ's log"):
        assert word not in out


def test_plan_in_a_pipe_is_plain(run: Run) -> None:
    """No colours, no frames, no trailing blanks."""
    _, out, _ = run("plan", "orz-7b-ppo")
    assert "\x1b" not in out
    assert not re.search(r"[─│━┃╭]", out)
    assert [] == [line for line in out.splitlines() if line != line.rstrip()]


def test_plan_json_has_the_common_shape(run: Run) -> None:
    """v, status and findings as all judging commands have, then the plan with formulas."""
    code, out, _ = run("plan", "orz-32b-ppo", "--json", "samples_per_prompt=32")
    report = json.loads(out)
    assert (ExitCode.OK, 1, "ok") == (code, report["v"], report["status"])
    assert {"code", "severity", "message", "remedy"} == set(report["findings"][0])
    assert (128 * 32, 32_763_876_352) == (report["batches"]["rollouts"], report["model"]["parameters"])
    assert ["policy", "critic", "generator"] == [role["role"] for role in report["memory_per_device"]["roles"]]
    assert report["disk"]["checkpoint"] == sum(report["disk"][part] for part in ("policy", "critic", "state"))
    assert "zero" in report["formulas"]["memory"]["weights"].lower()
    assert report["config"] == load("orz-32b-ppo", ["samples_per_prompt=32"]).config.model_dump(mode="json")


def test_plan_takes_overlays_and_gpu_sizes(run: Run) -> None:
    """--with debug and --gpu-memory change what is planned."""
    _, out, _ = run("plan", "orz-7b-ppo", "--with", "debug", "--gpu-memory", "24", "--json")
    report = json.loads(out)
    assert (32, 8) == (report["batches"]["rollouts"], report["placement"]["groups"][0]["count"])
    assert 24_000_000_000 == report["memory_per_device"]["device_bytes"]
    assert {"memory_short", "engine_too_small"} <= {finding["code"] for finding in report["findings"]}


@pytest.mark.parametrize("memory", ["nan", "inf", "1e400", "1e300", "0.5", "much"])
def test_plan_refuses_what_is_no_size_of_memory(run: Run, memory: str) -> None:
    """NaN, what is infinite or would be in bytes, too little, and no number: exit 2, no traceback."""
    code, out, err = run("plan", "orz-7b-ppo", "--gpu-memory", memory)
    assert (ExitCode.USAGE, "") == (code, out)
    assert err.startswith("error: --gpu-memory: expected a number from 1 to 1,000,000, got ")
    assert err.endswith("\n  -> orz plan --help\n")


def test_plan_of_unknown_models_still_plans_batches(run: Run) -> None:
    """Where a model has no known shape the sections on memory and disk are left out, with the reason."""
    code, out, _ = run("plan", "orz-7b-grpo", "policy.model=some/model")
    assert ExitCode.OK == code
    assert "Memory of a device" not in out
    assert "the shape of some/model isn't known here" in out


@pytest.mark.parametrize("command", [["plan"], ["train"], ["train", "--dry-run"]])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["quikstart"], "error: there is no recipe 'quikstart'; did you mean 'quickstart'?"),
        (["orz-7b-ppo", "seed=x"], "error: argument 'seed=x': seed: got 'x', expected a whole number"),
        (["orz-7b-ppo", "--with", "debgu"], "error: there is no overlay 'debgu'; did you mean 'debug'?"),
        (["orz-7b-ppo", "nonsense"], "error: argument 'nonsense': expected KEY=VALUE"),
        (["sed=1"], "error: argument 'sed=1': sed: unknown key; did you mean 'seed'?"),
        (["orz-7b-ppo", "--nonsense"], "error: No such option: --nonsense"),
    ],
)
def test_mistakes_exit_2_with_a_message(run: Run, command: list[str], arguments: list[str], expected: str) -> None:
    """A wrong recipe, setting, overlay or option: exit 2, the message on stderr, nothing on stdout, no traceback."""
    code, out, err = run(*command, *arguments)
    assert (ExitCode.USAGE, "") == (code, out)
    assert err.startswith(expected)
    assert "Traceback" not in err
    assert [] == list(Path.cwd().iterdir())


def test_train_list_names_recipes_and_overlays(run: Run) -> None:
    """Each recipe with its sentence, and what --with knows."""
    code, out, _ = run("train", "--list")
    assert ExitCode.OK == code
    for recipe in list_recipes():
        assert re.search(rf"^{re.escape(recipe.name)} +{re.escape(recipe.description)}$", out, re.MULTILINE)
    assert "overlays, for --with: debug" in out


def test_dry_run_prints_a_recipe_and_starts_nothing(run: Run, tmp_path: Path) -> None:
    """Stdout is the resolved configuration, a recipe in its own right; stderr the plan's sentences."""
    code, out, err = run("train", "orz-7b-ppo", "steps=3", "--with", "debug", "--dry-run", "--run-dir", "new")
    assert ExitCode.OK == code
    assert [] == list(tmp_path.iterdir())
    (tmp_path / "again.yaml").write_text(out, encoding="utf-8")
    expected = load("orz-7b-ppo", ["steps=3"], ["debug"]).config
    assert expected == load("./again.yaml").config
    assert "#   argument steps=3\n" in out
    assert "16 prompts x 2 samples = 32 rollouts" in " ".join(err.split())


def test_dry_run_imports_the_users_code(run: Run, tmp_path: Path) -> None:
    """A reward that can't be imported is found before anything starts."""
    arguments = ["train", "orz-7b-ppo", "--dry-run", "reward=own_dry_run_reward:score"]
    code, _, err = run(*arguments)
    assert ExitCode.USAGE == code
    assert "reward.function: there is no module 'own_dry_run_reward'" in err
    (tmp_path / "own_dry_run_reward.py").write_text("def score(prompt, rollout):\n    return 0.0\n")
    assert ExitCode.OK == run(*arguments)[0]


def test_dry_run_checks_the_rewards_signature(run: Run, tmp_path: Path) -> None:
    """A reward that takes other arguments would fail on every response, so it is refused."""
    (tmp_path / "own_one_argument.py").write_text("def score(prompt):\n    return 0.0\n")
    code, out, err = run("train", "orz-7b-ppo", "--dry-run", "reward=own_one_argument:score")
    assert (ExitCode.USAGE, "") == (code, out)
    assert "reward.function: own_one_argument:score: got the parameters (prompt), expected (prompt, rollout)" in err


def test_dry_run_knows_what_the_local_backend_cant_train(run: Run) -> None:
    """A backend's limits show before anything starts, with the argument that meets them."""
    code, out, err = run("train", "--dry-run", "backend=local", "policy.dtype=bfloat16")
    assert (ExitCode.USAGE, "") == (code, out)
    assert "argument 'policy.dtype=bfloat16': policy.dtype: got bfloat16" in err


def test_dry_run_refuses_a_file_as_run_folder(run: Run, tmp_path: Path) -> None:
    """--run-dir names a folder."""
    (tmp_path / "taken").write_text("")
    code, _, err = run("train", "orz-7b-ppo", "--dry-run", "--run-dir", "taken")
    assert (ExitCode.USAGE, "error: --run-dir taken is a file, expected a folder\n") == (code, err)


@pytest.mark.parametrize("command", [["plan"], ["train"], ["train", "--dry-run"]])
@pytest.mark.parametrize("path", ["link", "link/run"])
def test_a_link_to_nothing_is_no_run_folder(run: Run, tmp_path: Path, command: list[str], path: str) -> None:
    """Where it leads is said, and that a share may be missing; no plan says what room another disk has."""
    (tmp_path / "link").symlink_to("/nowhere/else")
    code, out, err = run(*command, "quickstart", "backend=local", "--run-dir", path)
    assert (ExitCode.USAGE, "") == (code, out)
    assert f"{tmp_path}/link is a link to /nowhere/else, and nothing is there on this machine\n  -> if that" in err


@pytest.mark.parametrize("command", [["plan"], ["train"], ["train", "--dry-run"]])
@pytest.mark.parametrize("url", ["s3://bucket/run", "file://run", "file:///mnt/run", "simplecache::s3://bucket/run"])
def test_a_url_is_no_run_folder(run: Run, tmp_path: Path, command: list[str], url: str) -> None:
    """A run saves to disks: exit 2 names what takes a URL, and no folder `s3:` is made or planned for."""
    code, out, err = run(*command, "quickstart", "backend=local", "--run-dir", url)
    assert (ExitCode.USAGE, "") == (code, out)
    assert err.startswith(f"error: --run-dir {url} is a URL, expected a folder of this machine\n  -> ")
    assert "checkpoint.copy_to" in err
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("recipe", [[], ["quickstart"]])
def test_a_url_is_no_checkpoint_to_resume(run: Run, recipe: list[str]) -> None:
    """A resume reads a disk: exit 2 names the URL as it was given, its secrets hidden, and what brings it here."""
    code, out, err = run("train", *recipe, "--resume", "s3://key:secret@bucket/run")
    assert (ExitCode.USAGE, "") == (code, out)
    assert err.startswith("error: --resume s3://***@bucket/run is a URL, expected a folder of this machine\n")
    assert "orz ckpt copy URL RUN/checkpoints/step_NNNNNN" in err


@pytest.mark.parametrize("option", ["--run-dir", "--resume"])
def test_an_empty_folder_is_not_the_current_one(run: Run, tmp_path: Path, option: str) -> None:
    """`--run-dir "$RUN"` where RUN is not set trains nothing into the folder that it is called in."""
    code, _, err = run("train", "quickstart", "backend=local", option, "")
    assert (ExitCode.USAGE, f"error: {option} is empty\n  -> give a path; . is the current folder\n") == (code, err)
    assert [] == list(tmp_path.iterdir())


def test_dry_run_refuses_an_engine_option_that_is_not_the_users(run: Run) -> None:
    """What vLLM must not be told shows before anything starts, with the setting to use instead."""
    code, _, err = run("train", "quickstart", "--dry-run", "cluster.engine_options={dtype: half}")
    assert ExitCode.USAGE == code
    assert "cluster.engine_options.dtype: policy.dtype decides it" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["train", "--help"],
        ["train", "--list"],
        ["plan", "orz-7b-ppo"],
        ["train", "orz-7b-ppo", "--dry-run"],
    ],
)
def test_planning_loads_no_torch(arguments: Sequence[str], tmp_path: Path) -> None:
    """Help, lists, plans and dry runs work without importing torch, transformers or Ray."""
    code = (
        "import sys; from orz_cli.main import main; code = main(sys.argv[1:]);"
        "print(sorted({'torch', 'transformers', 'ray', 'numpy'} & set(sys.modules)), code, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "[] 0" == done.stderr.splitlines()[-1]


@pytest.mark.parametrize("command", ["train", "plan"])
def test_help_states_arguments_and_exit_codes(run: Run, command: str) -> None:
    """--help names the recipe, the overrides and what the exit codes mean."""
    code, out, _ = run(command, "--help")
    assert ExitCode.OK == code
    assert f"Usage: orz {command} [OPTIONS] [RECIPE] [KEY=VALUE]...\n" in out
    for word in ("  RECIPE  ", "  KEY=VALUE  ", "--with", "--run-dir", "130"):
        assert word in out
