"""The randomness of one response."""

from __future__ import annotations

import hashlib


def request_seed(seed: int, step: int, group_index: int, prompt_id: str, sample: int) -> int:
    """Return the seed of one response, 0 <= seed < 2**63: the same in every process, engine and order.

    Args:
        seed: of the run.
        step: the training step.
        group_index: of the prompt in its step.
        prompt_id: of the prompt.
        sample: of the prompt, 0..G-1.
    """
    name = f"{seed}/{step}/{group_index}/{prompt_id}/{sample}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little") >> 1
