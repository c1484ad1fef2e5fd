"""Questions to nodes, as Ray gets them."""

from __future__ import annotations

from typing import Any

import cloudpickle
import pytest
from ray.remote_function import RemoteFunction

from orz_train.cluster.ask import ask

pytestmark = pytest.mark.unit


def test_every_question_is_the_same_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray keeps each that it is given until the driver ends; this one goes once, by its name, and takes no CPU."""
    sent: list[tuple[RemoteFunction, list[Any], dict[str, Any]]] = []
    monkeypatch.setattr(
        RemoteFunction, "_remote", lambda self, args, kwargs, **options: sent.append((self, [*args], options))
    )
    for path in ("a", "b"):
        ask("a" * 56, "orz_train.cluster.logs:read", {"path": path})
    (first, arguments, options), (second, _, _) = sent
    assert first is second
    assert ["orz_train.cluster.logs:read", {"path": "a"}] == arguments
    assert (0, 0) == (options["num_cpus"], options["max_retries"])
    assert "a" * 56 == options["scheduling_strategy"].node_id
    function = first._function  # what goes to Ray
    assert cloudpickle.loads(cloudpickle.dumps(function)) is function
