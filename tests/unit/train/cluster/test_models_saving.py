"""What a model over several ranks says of a save that has a time limit, without Ray."""

from __future__ import annotations

from typing import Any

import pytest

from orz_ckpt.manifest import FileEntry
from orz_train.cluster.models import ClusterCritic
from orz_train.cluster.placement import Slot
from orz_train.cluster.watch import Deadline, Member

pytestmark = pytest.mark.unit

NONE: Any = None
RANKS = [Member(slot=Slot(role="critic", rank=rank), actor=NONE, ended=NONE, address="", log=NONE) for rank in range(3)]


class FakeGroup:
    """Ranks that need a tenth of a second to answer: the first writes nothing, the second does, the third hangs."""

    def call(self, method: str, timeout_s: float | None, *, limit: Deadline) -> list[dict[str, FileEntry]]:
        """Have written all."""
        assert method == "finish_snapshot"
        if timeout_s is None:
            assert limit.left() is None
        elif (limit.left() or 0.0) < timeout_s + 0.1:
            raise limit.error([])
        return [{"weights": FileEntry(size=1, digest="0" * 64)}]

    def unsettled(self, method: str, timeout_s: float, *, seconds: float) -> dict[Member, bool]:
        assert method == "writing_ended"
        assert timeout_s == 0.0
        return {RANKS[1]: True, RANKS[2]: False} if seconds > 0.1 else dict.fromkeys(RANKS, False)


def test_ranks_can_answer_after_the_time_is_up() -> None:
    """The model that was asked first has used all of it; a rank that writes nothing isn't taken for one that does."""
    group: Any = FakeGroup()
    critic = ClusterCritic(group, reduction="token_mean")
    still = ["critic rank 1 still writes", "critic rank 2 didn't answer; it may still write"]
    assert still == critic.end_writing(0.0)


@pytest.mark.parametrize("timeout_s", [None, 0.0, 0.03, 8.0])
def test_a_rank_is_heard_by_the_driver_when_its_own_limit_has_passed(timeout_s: float | None) -> None:
    """What is written already counts, however little time the models before have left."""
    group: Any = FakeGroup()
    assert {"weights"} == ClusterCritic(group, reduction="token_mean").finish_snapshot(timeout_s).keys()
