"""Who is on the GPU, in which order."""

from __future__ import annotations

import pytest

from orz_train.cluster.residency import AllResident, ColocatedResidency

pytestmark = pytest.mark.unit


class Recorder:
    """Writes down what is asked of a model."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name = name
        self.calls = calls

    def __getattr__(self, method: str):
        return lambda *, limit: self.calls.append(f"{self.name}.{method}")


@pytest.fixture
def calls() -> list[str]:
    return []


@pytest.fixture
def models(calls: list[str]) -> dict[str, Recorder]:
    return {name: Recorder(name, calls) for name in ("policy", "critic", "engines")}


@pytest.fixture
def residency(models: dict[str, Recorder]) -> ColocatedResidency:
    return ColocatedResidency([models["policy"], models["critic"]], models["engines"])


def test_a_step_moves_each_model_once(
    residency: ColocatedResidency, models: dict[str, Recorder], calls: list[str]
) -> None:
    """Push, sample, score, train, push: every model comes and goes once, and room is made before it is taken."""
    with residency.transfer():
        calls.append("(first push)")
    with residency(models["engines"]):
        calls.append("(sample)")
    with residency(models["critic"]):
        calls.append("(values)")
    with residency(models["policy"]):
        calls.append("(log-probs)")
    with residency(models["policy"]):
        calls.append("(update)")
    with residency.transfer():
        calls.append("(push)")
    assert [
        "policy.onload",
        "engines.onload_weights",
        "(first push)",
        "policy.offload",
        "engines.onload_cache",
        "(sample)",
        "engines.offload",
        "critic.onload",
        "(values)",
        "critic.offload",
        "policy.onload",
        "(log-probs)",
        "(update)",
        "engines.onload_weights",
        "(push)",
        "policy.offload",
        "engines.onload_cache",
    ] == calls


def test_a_nested_wish_for_the_same_model_moves_nothing(
    residency: ColocatedResidency, models: dict[str, Recorder], calls: list[str]
) -> None:
    """The trainer asks for a model, and the model asks for itself."""
    with residency(models["critic"]), residency(models["critic"]):
        calls.append("(values)")
    assert ["critic.onload", "(values)"] == calls


def test_with_devices_of_their_own_nothing_moves(models: dict[str, Recorder], calls: list[str]) -> None:
    """On CPUs, or split, no model is asked to go."""
    residency = AllResident()
    with residency(models["policy"]), residency.transfer():
        pass
    assert [] == calls
