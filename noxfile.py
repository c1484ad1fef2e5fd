"""The two commands of the README, and what they are made of.

nox -s quickstart                       install, train a small model, verify its checkpoint, report on the run
nox -s tests                            install, lint, check types and imports, run the tests
nox -s tests -- tests/unit -k gae       what follows -- goes to pytest
nox -s tests -- -n0 --pdb tests/unit    in this process; by default several share the tests, a file at a time
nox -s tests -- --cuda -m gpu           with the lock for NVIDIA GPUs: what needs one
nox -s real_model                       the same with SmolLM2-135M, a real pretrained model
nox -s full-learn                       the quickstart recipes on three seeds each: half an hour
nox -s full-dist                        the long matrices of ranks, stages and engines
nox -s full-ckpt                        the long matrices of checkpoints that real frameworks write
nox -s full-monitor                     rules, alarms, speed of orz monitor, and fuzzing; ten minutes

Both commands share one environment, .nox/orz, which requirements/install.py makes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["tests"]
nox.options.error_on_external_run = True

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".nox" / "orz"
SCRIPTS = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")

SIDE_BY_SIDE = (f"--numprocesses={max(2, min(4, (os.cpu_count() or 1) // 2))}", "--dist=loadscope")
"""One process takes the tests that start ranks and engines, the others take the rest: see tests/conftest.py."""
PYTHONS = ("3.11", "3.12", "3.13")
REAL_MODEL = ROOT / ".nox" / "real_model"
"""What `nox -s real_model` makes: packages of its own, the model, the data."""
FULL_MONITOR = ROOT / ".nox" / "full_monitor"
"""What `nox -s full-monitor` makes: packages of its own."""

LIGHT_PACKAGES = ("orz_cli", "orz_ckpt", "orz_monitor")
"""Packages that install and work alone, each with orz_cli, without torch."""


@nox.session(python=False)
def quickstart(session: nox.Session) -> None:
    """Install, train the quickstart recipe, verify its last checkpoint, report on the run."""
    settings = install(session)
    started = time.monotonic()
    run_dir = new_run_dir("quickstart")
    summary = Path(session.create_tmp()).resolve() / "summary.txt"
    with summary.open("w") as page:  # what the run says at its end, kept for the end of all
        command: list[str | Path] = [SCRIPTS / "orz", "train", "quickstart", *settings, "--run-dir", run_dir]
        session.run(*command, external=True, stdout=page, stderr=None)
    run(session, "orz", "ckpt", "verify", newest_checkpoint(run_dir))
    run(session, "orz", "monitor", "report", run_dir)
    sys.stdout.write(summary.read_text())
    sys.stdout.flush()
    session.log(f"trained, verified and reported in {time.monotonic() - started:.0f} s")
    session.log(f"checkpoint:  {newest_checkpoint(run_dir)}")
    session.log(f"report:      {run_dir / 'report.html'}")
    session.log(f"log:         {run_dir / 'console.log'}")
    session.log(f"go on with:  {SCRIPTS / 'orz'} --help")


@nox.session(python=False, default=False)
def real_model(session: nox.Session) -> None:
    """Train SmolLM2-135M for ten steps and load what comes out.

    `-- --gsm8k FOLDER` reads GSM8K's files, too; `--out FILE` writes what was found.
    """
    parser = argparse.ArgumentParser(prog="nox -s real_model --", allow_abbrev=False)
    for flag, metavar in (("--gsm8k", "FOLDER"), ("--out", "FILE")):
        parser.add_argument(flag, metavar=metavar, type=lambda path: Path(path).resolve())
    arguments, settings = parser.parse_known_args(install(session))
    example = ROOT / "examples" / "real_model"
    model, sums, run_dir = REAL_MODEL / "smollm2", REAL_MODEL / "sums", new_run_dir("real_model")
    packages = {"PYTHONPATH": str(packages_beside(session, "real-model.txt", REAL_MODEL / "site"))}
    session.run(SCRIPTS / "python", example / "convert.py", "--out", model, external=True, env=packages)
    run(session, "python", example / "make_sums.py", "--out", sums)
    files = (f"policy.model={model}", f"data.train=[{sums}/train.jsonl]", f"data.eval={{sums: {sums}/heldout.jsonl}}")
    with session.chdir(example):  # where the reward function is
        run(session, "orz", "train", "recipe.yaml", *files, *settings, "--run-dir", run_dir)
    run(session, "orz", "ckpt", "verify", newest_checkpoint(run_dir))
    run(session, "orz", "monitor", "report", run_dir)
    more = [word for name, path in vars(arguments).items() if path for word in (f"--{name}", path)]
    run(session, "python", example / "check.py", run_dir, *more)


def packages_beside(session: nox.Session, name: str, site: Path) -> Path:
    """Make or keep a folder of the packages of a lock that only one session needs, beside the locked environment."""
    lock = ROOT / "requirements" / name
    stamp = site / lock.name
    if not stamp.is_file() or stamp.read_bytes() != lock.read_bytes():
        shutil.rmtree(site, ignore_errors=True)
        run(session, "python", "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, "--requirement", lock)
        shutil.copyfile(lock, stamp)
    return site


def new_run_dir(name: str) -> Path:
    """Return a folder for a run that starts now."""
    return ROOT / "runs" / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def newest_checkpoint(run_dir: Path) -> Path:
    """Return a run's last checkpoint that is whole."""
    return max(path for path in run_dir.glob("checkpoints/step_*") if path.name.removeprefix("step_").isdigit())


@nox.session(python=False)
def tests(session: nox.Session) -> None:
    """Check style, types and imports, then run the tests."""
    arguments = install(session)
    check_lint(session)
    check_types(session)
    check_imports(session)
    run(session, "pytest", *SIDE_BY_SIDE, *arguments)


@nox.session(name="full-learn", python=False, default=False)
def full_learn(session: nox.Session) -> None:
    """Run the quickstart recipes on three seeds each, and write the table of what they learned."""
    run(session, "python", "benchmarks/quickstart.py", *install(session))


@nox.session(name="full-dist", python=False, default=False)
def full_dist(session: nox.Session) -> None:
    """Run the long matrices of the trainer that `tests` leaves out, and write the table of what passed."""
    run(session, "python", "benchmarks/full_dist.py", *install(session))


@nox.session(name="full-ckpt", python=False, default=False)
def full_ckpt(session: nox.Session) -> None:
    """Run the long matrices of orz-ckpt: checkpoints of real DeepSpeed, FSDP and DCP in every layout.

    Those of the trainer are `full-dist`'s.
    """
    others = ("--ignore-glob=*/train/*", "--ignore-glob=*/e2e/test_*.py", "--ignore-glob=*/test_trainer_*.py")
    run(session, "pytest", "-m", "full", *others, *install(session))
    for name in ("merge", "verify", "locate"):
        session.log(f"its speed: {SCRIPTS / 'python'} benchmarks/ckpt_{name}.py --out FILE.md")


@nox.session(name="full-monitor", python=False, default=False)
def full_monitor(session: nox.Session) -> None:
    """Reproduce the table of rules, the alarm rates and the speed of orz monitor; fail where one misses its target.

    A minute of fuzzing is among its parts. `-- --out FOLDER` is for the pages, `--logs FOLDER` judges logs of real
    runs, too, `--only PART` runs one part.
    """
    arguments = install(session)
    packages = {"PYTHONPATH": str(packages_beside(session, "full-monitor.txt", FULL_MONITOR / "site"))}
    session.run(SCRIPTS / "python", "benchmarks/full_monitor.py", *arguments, external=True, env=packages)


@nox.session(python=False, default=False)
def lint(session: nox.Session) -> None:
    """Check style and format with ruff."""
    install(session)
    check_lint(session)


@nox.session(python=False, default=False)
def types(session: nox.Session) -> None:
    """Check types with mypy."""
    install(session)
    check_types(session)


@nox.session(python=False, default=False)
def imports(session: nox.Session) -> None:
    """Check who imports whom."""
    install(session)
    check_imports(session)


@nox.session(python="3.11", default=False)
def lock(session: nox.Session) -> None:
    """Resolve requirements/*.txt anew."""
    session.install("uv")
    session.run("python", "requirements/lock.py")


@nox.session(python=False, default=False)
def wheels(session: nox.Session) -> None:
    """Build a wheel of each package; use each light one alone on every Python that is here, then all four together."""
    install(session)
    folder = Path(session.create_tmp()).resolve()
    shutil.rmtree(folder / "dist", ignore_errors=True)
    for project in sorted(ROOT.glob("packages/*/")):
        run(session, "python", "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", project)
    missing = []
    for version in PYTHONS:
        python = find_python(version)
        if python is None:
            missing.append(version)
            continue
        for module in LIGHT_PACKAGES:
            built = sorted({*folder.glob("dist/orz_cli-*.whl"), *folder.glob(f"dist/{module}-*.whl")})
            use_alone(session, python, folder / f"{module}-{version}", built, module)
    for version in missing:
        session.warn(f"SKIPPED: Python {version} is not on this machine; no wheel was tried on it")
    used = len(LIGHT_PACKAGES) * (len(PYTHONS) - len(missing))
    session.log(f"{used} installations of {len(LIGHT_PACKAGES)} wheels work alone, {len(missing)} Pythons skipped")
    use_together(session, folder / "together", sorted(folder.glob("dist/*.whl")))


def use_together(session: nox.Session, folder: Path, wheels: list[Path]) -> None:
    """Unpack the four wheels beside the locked packages, and train with them from outside the tree."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    run(session, "python", "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder / "site", *wheels)
    ours = f"import orz_train; assert orz_train.__file__.startswith({str(folder)!r}), orz_train.__file__"
    small = ("steps=1", "prompts_per_step=2", "samples_per_prompt=2", "critic.updates_per_step=1", "eval.max_prompts=4")
    with session.chdir(folder):
        session.run(SCRIPTS / "python", "-c", ours, external=True, env={"PYTHONPATH": str(folder / "site")})
        for command in (("train", "--list"), ("plan", "orz-7b-ppo"), ("train", "quickstart", "backend=local", *small)):
            arguments = [SCRIPTS / "python", "-m", "orz_cli", *command]
            session.run(*arguments, external=True, silent=True, env={"PYTHONPATH": str(folder / "site")})
    session.log("the wheels of all four packages work together, from outside the tree")


def install(session: nox.Session) -> list[str]:
    """Make or keep the shared environment; return the session's arguments without --cuda."""
    flags = ["--cuda"] if "--cuda" in session.posargs else []
    python = find_python("3.11")
    if python is None:
        session.error("CPython 3.11 is not on this machine; the locks are made for it")
    session.run(python, "requirements/install.py", ENVIRONMENT, *flags, external=True)
    return [argument for argument in session.posargs if argument != "--cuda"]


def run(session: nox.Session, program: str, *arguments: str | Path) -> None:
    """Run a program of the shared environment."""
    session.run(SCRIPTS / program, *arguments, external=True)


def check_lint(session: nox.Session) -> None:
    """Check style and format of the whole tree."""
    run(session, "ruff", "check")
    run(session, "ruff", "format", "--check")


def check_types(session: nox.Session) -> None:
    """Check the types of the four packages and of the scripts."""
    run(session, "mypy")


def check_imports(session: nox.Session) -> None:
    """Check the contracts of pyproject.toml."""
    run(session, "lint-imports")


def find_python(version: str) -> str | None:
    """Return an interpreter of `version` ("3.12") that runs: this one, from PATH or from pyenv; None without one."""
    name = f"python{version}"
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/{name}"))
    candidates = [sys.executable, shutil.which(name), *map(str, reversed(pyenv))]
    for candidate in filter(None, candidates):
        probe = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        answer = subprocess.run(probe, capture_output=True, check=False, text=True)
        if answer.stdout.strip() == version:
            return candidate
    return None


def use_alone(session: nox.Session, python: str, folder: Path, wheels: list[Path], module: str) -> None:
    """Install wheels with what they require into an empty environment, and use them there."""
    session.log(f"{module} alone on {python}")
    session.run(python, "-m", "venv", "--clear", "--without-pip", folder, external=True, silent=True)
    inside = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = ["-m", "pip", "--disable-pip-version-check", "--python", str(inside / "python"), "install", "--quiet"]
    run(session, "python", *pip, "--constraint", "requirements/cpu.txt", *wheels)
    alone = (
        f"import importlib.util as u, {module}; "
        "present = [n for n in ('torch', 'transformers', 'vllm', 'ray', 'deepspeed') if u.find_spec(n)]; "
        "assert not present, present"
    )
    session.run(inside / "python", "-I", "-c", alone, external=True)
    session.run(inside / "orz", "--help", external=True, silent=True)
    session.run(inside / "orz", "--version", external=True)
    session.run(inside / "orz", "doctor", external=True, silent=True)
