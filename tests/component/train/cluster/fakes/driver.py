"""A driver process for tests of what it leaves behind: `python driver.py RUN_DIR ADDRESS WHAT [CPUS]`."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from orz_cli.errors import OrzError
from orz_train.cluster.run import Cluster, Factories
from orz_train.config.schema import Config
from orz_train.types import Prompt


class Sink:
    def phase(self, name: str, done: int, total: int) -> None:
        return

    def event(self, name: str, *, step: int | None = None, **data: object) -> None:
        return

    def write(self, report: object) -> None:
        return


def main(run_dir: Path, address: str, what: str, cpus: float = 0) -> None:
    """Start workers that want so many CPUs each, or the usual share, and do WHAT."""
    config = Config.model_validate(
        {
            "name": "test",
            "steps": 1,
            "prompts_per_step": 4,
            "samples_per_prompt": 2,
            "data": {"source": "unused:unused"},
            "generation": {"max_response_tokens": 12},
            "policy": {"model": "unused", "optimizer": {"lr": 1e-3}},
            "packing": {"max_tokens_per_row": 64},
            "cluster": {"num_gpus": 0, "num_ranks": 2, "num_engines": 1, "address": address}
            | ({"cpus_per_worker": cpus} if cpus else {}),
        }
    )
    with ExitStack() as children:
        train(config, run_dir, what, children)


def start_child(children: ExitStack) -> None:
    """Start a process of the driver's own, as a reward worker is; it has to be there until the driver ends it."""
    wait = "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); sys.stdin.read()"
    child = children.enter_context(subprocess.Popen([sys.executable, "-c", wait], stdin=subprocess.PIPE))
    children.callback(lambda: child.poll() is None or sys.exit("a child of the driver's was killed"))


def train(config: Config, run_dir: Path, what: str, children: ExitStack) -> None:
    start_child(children)
    factories = Factories(
        policy="fake_workers:load_policy", engine="fake_workers:load_engine", join="fake_workers:join"
    )
    with Cluster.start(config, run_dir=run_dir, sink=Sink(), factories=factories) as cluster:
        models = cluster.load(
            num_steps=1, checkpoint=None, probe=Prompt(prompt_id="", text="", token_ids=(1,), answer="")
        )
        start_child(children)
        group = models.policy.group
        left = {
            "pids": [*group.call("pid"), *models.generator.group.call("pid"), *group.call("start_child")],
            "memory": group.call("share_memory"),
        }
        (run_dir / "left.tmp").write_text(json.dumps(left))
        (run_dir / "left.tmp").replace(run_dir / "left.json")
        if what == "raise":
            raise ValueError("a mistake of the driver's")
        if what == "stuck-closing":
            group.call("unclosable")
        if what != "end":
            group.call("collective", 600)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], *map(float, sys.argv[4:]))
    except OrzError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(int(error.exit_code))
