"""What a model over several ranks says of a save that has a time limit, without Ray."""

from __future__ import annotations

from typing import Any

import pytest

from orz_train.cluster.models import ClusterCritic
from orz_train.cluster.placement import Slot
from orz_train.cluster.watch import Member

pytestmark = pytest.mark.unit

NONE: Any = None
RANKS = [Member(slot=Slot(role="critic", rank=rank), actor=NONE, ended=NONE, address="", log=NONE) for rank in range(3)]


class FakeGroup:
    """Ranks that need a tenth of a second to answer: the first writes nothing, the second does, the third hangs."""

    def unsettled(self, method: str, timeout_s: float, *, seconds: float) -> dict[Member, bool]:
        assert (method, timeout_s) == ("writing_ended", 0.0)
        return {RANKS[1]: True, RANKS[2]: False} if seconds > 0.1 else dict.fromkeys(RANKS, False)


def test_ranks_can_answer_after_the_time_is_up() -> None:
    """The model that was asked first has used all of it; a rank that writes nothing isn't taken for one that does."""
    group: Any = FakeGroup()
    critic = ClusterCritic(group, reduction="token_mean")
    still = ["critic rank 1 still writes", "critic rank 2 didn't answer; it may still write"]
    assert still == critic.end_writing(0.0)
