"""Gives each step its prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from orz_train.errors import ConfigError, DataError
from orz_train.types import Prompt

_MAX_KEY = 2**64


class PromptSet:
    """The prompts of a run, in an order that is a function of (seed, step) alone (implements `ports.PromptSource`).

    Episodes follow each other without a gap: a step that an episode's last prompts don't fill takes the rest from
    the next episode. So every episode has every prompt exactly once, no prompt is dropped, and every step has P
    prompts, even where the set has fewer. A prompt that comes twice in one step makes two groups.

    Example:
        >>> [prompt.text for prompt in PromptSet(prompts, prompts_per_step=2, seed=0, shuffle=False).batch(1)]
        ['c', 'a']

    Args:
        prompts: of one episode.
        prompts_per_step: P.
        seed: of the run.
        shuffle: draw an order for each episode; else the given order every time.
    """

    def __init__(self, prompts: Sequence[Prompt], *, prompts_per_step: int, seed: int, shuffle: bool = True) -> None:
        if not prompts:
            raise DataError("no prompts to train on")
        if prompts_per_step < 1:
            raise ConfigError(f"prompts_per_step: got {prompts_per_step}, expected at least 1")
        self.prompts = tuple(prompts)
        self._prompts_per_step = prompts_per_step
        self._seed = seed
        self._shuffle = shuffle
        self._drawn: tuple[int, NDArray[np.intp]] | None = None  # (episode, its order): the newest

    def __len__(self) -> int:
        """Count the prompts of one episode."""
        return len(self.prompts)

    @cached_property
    def sha256(self) -> str:
        """Digest the prompts in their order: what a resume must find again."""
        digest = hashlib.sha256()
        for prompt in self.prompts:
            digest.update(repr((prompt.prompt_id, prompt.token_ids, prompt.answer)).encode())
        return digest.hexdigest()

    def batch(self, step: int) -> list[Prompt]:
        """Return the P prompts of a step, from 0."""
        first = step * self._prompts_per_step
        positions = (divmod(place, len(self)) for place in range(first, first + self._prompts_per_step))
        return [self.prompts[self._order(episode)[index]] for episode, index in positions]

    def _order(self, episode: int) -> NDArray[np.intp]:
        """Return an episode's permutation: ranks of Philox bits under the key (seed, episode).

        The bits, unlike NumPy's shuffles, are the same in every version of NumPy.
        """
        if self._drawn is None or self._drawn[0] != episode:
            order = np.arange(len(self))
            if self._shuffle:
                key = np.array([self._seed % _MAX_KEY, episode], dtype=np.uint64)
                order = np.argsort(np.random.Philox(key=key).random_raw(len(self)), kind="stable")
            self._drawn = (episode, order)
        return self._drawn[1]
