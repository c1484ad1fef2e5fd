"""How the values of each key of a log are printed."""

from __future__ import annotations

from collections.abc import Sequence

from orz_monitor.numbers import Precision


class Precisions(dict[tuple[str, str], Precision]):
    """(Dialect, raw key) to how its values are printed, learnt from the tokens that are read."""

    def observe(self, dialect: str, name: str, token: bytes) -> None:
        """Learn how a key's values are printed."""
        precision = self.get((dialect, name))
        if precision is None:
            precision = self[dialect, name] = Precision()
        if not precision.settled:
            precision.observe(token)

    def observe_all(self, dialect: str, keys: tuple[str, ...], tokens: Sequence[bytes]) -> bool:
        """Learn how the values of a whole line are printed; tells whether all keys are known well enough."""
        settled = True
        for key, token in zip(keys, tokens, strict=True):
            self.observe(dialect, key, token)
            settled = settled and self[dialect, key].settled
        return settled
