"""Workers that host fake objects, in a real Ray."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from orz_train.cluster.run import Cluster, Factories
from orz_train.config.schema import Config
from orz_train.ports import Models
from orz_train.types import Prompt, StepReport

FAKES = Path(__file__).parent / "fakes"
PROBE = Prompt(prompt_id="probe", text="2+2=", token_ids=(3, 4, 5), answer="4")


class RecordingSink:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.events: list[tuple[str, dict[str, object]]] = []

    def phase(self, name: str, done: int, total: int) -> None:
        self.phases.append(name)

    def write(self, report: StepReport) -> None:
        raise AssertionError

    def event(self, name: str, *, step: int | None = None, **data: object) -> None:
        self.events.append((name, data))


def make_config(**cluster: object) -> Config:
    return Config.model_validate(
        {
            "name": "test",
            "steps": 1,
            "prompts_per_step": 4,
            "samples_per_prompt": 2,
            "data": {"source": "unused:unused"},
            "generation": {"max_response_tokens": 12},
            "policy": {"model": "unused", "optimizer": {"lr": 1e-3}},
            "critic": {"optimizer": {"lr": 1e-3}},
            "packing": {"max_tokens_per_row": 64},
            "cluster": {"num_gpus": 0, "num_ranks": 2, "num_engines": 2, **cluster},
        }
    )


def make_factories(**other: str) -> Factories:
    names = {"policy": "load_policy", "critic": "load_critic", "reference": "load_reference", "engine": "load_engine"}
    return Factories(
        **{name: f"fake_workers:{function}" for name, function in (names | {"join": "join"} | other).items()}
    )


@pytest.fixture(scope="session", autouse=True)
def _importable() -> Iterator[None]:
    """Let this process, and so its workers, import the fakes."""
    sys.path.append(str(FAKES))
    yield
    sys.path.remove(str(FAKES))


@pytest.fixture
def fake_config() -> Callable[..., Config]:
    """Make a configuration; keyword arguments are its cluster's."""
    return make_config


@pytest.fixture
def fakes() -> Callable[..., Factories]:
    """Make the factories of fakes; keyword arguments name others."""
    return make_factories


@pytest.fixture
def probe() -> Prompt:
    return PROBE


@pytest.fixture
def sink() -> RecordingSink:
    return RecordingSink()


class Started:
    """A cluster with everything loaded."""

    def __init__(self, cluster: Cluster, models: Models, sink: RecordingSink, run_dir: Path) -> None:
        self.cluster = cluster
        self.models = models
        self.sink = sink
        self.run_dir = run_dir


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """Two policy ranks, two critic ranks, two engines; shared, so tests leave it whole."""
    run_dir, sink = tmp_path_factory.mktemp("run"), RecordingSink()
    with Cluster.start(make_config(), run_dir=run_dir, sink=sink, factories=make_factories()) as cluster:
        yield Started(cluster, cluster.load(num_steps=1, checkpoint=None, probe=PROBE), sink, run_dir)


@pytest.fixture(scope="session")
def load_on_files() -> Callable[..., AbstractContextManager[Models]]:
    """Load, in a context, policy ranks that send their weights themselves, and two engines."""

    @contextmanager
    def load(folder: Path, transfer: str, *, num_ranks: int, engine: str = "load_engine") -> Iterator[Models]:
        config = make_config(
            num_ranks=num_ranks,
            weights={"transfer": transfer, "probe": "every", "timeout_s": 60},
            engine_options={"folder": str(folder)},
        ).model_copy(update={"critic": None})
        factories = Factories(
            policy="fake_devices:load_policy", engine=f"fake_devices:{engine}", join="fake_devices:join_gloo"
        )
        with Cluster.start(config, run_dir=folder, sink=RecordingSink(), factories=factories) as cluster:
            yield cluster.load(num_steps=1, checkpoint=None, probe=PROBE)

    return load
