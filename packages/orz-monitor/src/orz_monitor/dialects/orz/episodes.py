"""Steps of a whole run, from bars that count those of one episode each."""

from __future__ import annotations

from typing import Final

from orz_monitor.transport.template import LONGEST_COUNT

_MOST: Final = 10**LONGEST_COUNT
"""Steps; as many digits as the numbers of steps of other trainers may have."""


class EpisodeSteps:
    """Adds up what the bars of episodes count to: the last episode may have fewer steps than the others.

    Episodes before the first that a log shows are taken to be as long as that, and those that it leaves out as long as
    the one before them.

    Example:
        >>> steps = EpisodeSteps()
        >>> steps.done(1, 64, 64), steps.done(2, 1, 16)
        (64, 65)
    """

    def __init__(self) -> None:
        self._before: dict[int, int] = {}
        self._episode = self._total = 0

    def done(self, episode: int, done: int, total: int) -> int:
        """Return how many steps of the run are done.

        Args:
            episode: number of the episode, from 1.
            done: its steps that are done.
            total: all of its steps.
        """
        if self._before and episode > self._episode:
            self._before[episode] = self._before[self._episode] + (episode - self._episode) * self._total
        before = self._before.setdefault(episode, max(episode - 1, 0) * total)  # a restart goes back
        self._episode, self._total = episode, total
        return min(before + done, _MOST)
