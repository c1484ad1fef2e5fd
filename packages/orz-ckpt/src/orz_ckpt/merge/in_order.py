"""Numbered items, consumed in order, whoever brings them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class InOrder(Generic[T]):
    """Hands numbered items to one function in the order of their numbers, whoever brings them.

    Nobody waits: a thread that brings an item too early leaves it to the one that brings the missing one.
    """

    def __init__(self, consume: Callable[[T], None]) -> None:
        self._consume = consume
        self._lock = threading.Lock()
        self._waiting: dict[int, T] = {}
        self._next = 0
        self._busy = False

    def put(self, number: int, item: T) -> None:
        """Bring an item; consume it, and those that waited for it, if it is their turn."""
        with self._lock:
            self._waiting[number] = item
            if self._busy:
                return
            self._busy = True
        while True:
            with self._lock:
                if self._next not in self._waiting:
                    self._busy = False
                    return
                turn = self._waiting.pop(self._next)
                self._next += 1
            self._consume(turn)
