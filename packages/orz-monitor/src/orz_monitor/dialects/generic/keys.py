"""What keys mean in the lines of a trainer that nobody has described: a guess, for the plainest names only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from orz_monitor.dialects.base import Meaning
from orz_monitor.metrics.names import NAMES

MEANINGS: Final[Mapping[str, Meaning]] = {
    "loss": Meaning("policy/total_loss"),
    "train_loss": Meaning("policy/total_loss", rank=1),
    "policy_loss": Meaning("policy/loss"),
    "pg_loss": Meaning("policy/loss", rank=1),
    "actor_loss": Meaning("policy/loss", rank=2),
    "actor/pg_loss": Meaning("policy/loss", rank=3),
    "value_loss": Meaning("critic/loss"),
    "critic_loss": Meaning("critic/loss", rank=1),
    "critic/vf_loss": Meaning("critic/loss", rank=2),
    "explained_variance": Meaning("critic/explained_var"),
    "kl": Meaning("policy/kl_ref"),
    "approx_kl": Meaning("policy/kl_old"),
    "entropy": Meaning("policy/entropy"),
    "actor/entropy": Meaning("policy/entropy", rank=1),
    "clip_fraction": Meaning("policy/clip_frac"),
    "clipfrac": Meaning("policy/clip_frac", rank=1),
    "grad_norm": Meaning("policy/grad_norm"),
    "actor/grad_norm": Meaning("policy/grad_norm", rank=1),
    "lr": Meaning("policy/lr"),
    "learning_rate": Meaning("policy/lr", rank=1),
    "actor/lr": Meaning("policy/lr", rank=2),
    "reward": Meaning("reward/mean"),
    "mean_reward": Meaning("reward/mean", rank=1),
    "reward_mean": Meaning("reward/mean", rank=2),
    "rewards": Meaning("reward/mean", rank=3),
    "score": Meaning("reward/mean", rank=4),
    "reward_std": Meaning("reward/std"),
    "response_length": Meaning("rollout/response_tokens_mean"),
    "epoch": Meaning("data/epoch"),
}
"""Name in small letters, with `_` between words, to meaning."""
STEPS: Final = frozenset(
    [
        "step",
        "global_step",
        "train_step",
        "training_step",
        "steps",
        "_step",
        "iteration",
        "iter",
        "it",
        "update",
        "optimizer_step",
    ]
)
"""What a step is called, as `plain` writes it."""
ROUNDS: Final = ("episode", "epoch")
"""What counts as steps where nothing else does."""
_EPOCH: Final = "data/epoch"
_QUALIFIER: Final = re.compile(r"(?:train(?:ing)?|avg|average|mean|current|running)[_/](?=.)")
_QUALIFIED: Final = 10
"""Ranks after that of the name itself."""
_BETWEEN_WORDS: Final = re.compile(r"[\s_.]+")
_TELLING: Final = frozenset(
    [
        "loss",
        "losses",
        "reward",
        "rewards",
        "kl",
        "entropy",
        "advantage",
        "advantages",
        "lr",
        "perplexity",
        "ppl",
        "accuracy",
        "acc",
    ]
)
WEAK: Final = frozenset(["policy/lr"])
"""Known metrics that are settings, too."""
ONLY_TRAINERS: Final = frozenset(
    [
        "policy/loss",
        "policy/kl_old",
        "policy/clip_frac",
        "policy/grad_norm",
        "critic/loss",
        "critic/explained_var",
        "mean_reward",
        "reward_mean",
        "reward_std",
    ]
)
"""What no other program prints: metrics, and keys as `plain` writes them."""
_ALSO_KNOWN: Final = {"acc": "accuracy", "accuracy": "accuracy", "ppl": "perplexity", "perplexity": "perplexity"}
"""Keys without a meaning here that are known nevertheless."""
_EVERYBODYS: Final = frozenset(["score"])
"""Keys that mean a metric beside others of a trainer, and show none themselves."""
_OF_TRAINING: Final = ("policy/", "critic/", "reward/", "return/", "rollout/", "mismatch/", "correction/")
"""What canonical names of training begin with; others are of machines, engines and evaluations."""
OTHERS: Final = frozenset(
    [
        "packet",
        "packets",
        "rtt",
        "jitter",
        "ttl",
        "icmp",
        "validator",
        "validators",
        "attestation",
        "attestations",
        "staking",
        "gwei",
    ]
)
"""Words of networks and of chains, whose losses and rewards are no trainer's."""
OTHERS_TOGETHER: Final = (frozenset(["lat", "lon"]), frozenset(["slot", "balance"]))
"""Words of which one alone may be a trainer's: of places on Earth, and of chains."""
_WORDS: Final = re.compile(r"[a-z]+")


def plain(key: str) -> str:
    """Return a key as `MEANINGS` has it.

    Example:
        >>> [plain(key) for key in ("Grad. Norm", "learning rate", "KL")]
        ['grad_norm', 'learning_rate', 'kl']
    """
    return _BETWEEN_WORDS.sub("_", key.lower()).strip("_") if key != "_step" else key


def _agreed() -> dict[str, str]:
    """Return the names with a slash that all trainers that use them give to one metric of training, and that metric."""
    meant: dict[str, set[str]] = {}
    for metric, by_trainer in NAMES.items():
        for key in (key for keys in by_trainer.values() for key in keys if "/" in key and "<" not in key):
            meant.setdefault(plain(key), set()).add(metric)
    only = {key: next(iter(metrics)) for key, metrics in meant.items() if len(metrics) == 1}
    return {key: metric for key, metric in only.items() if metric.startswith(_OF_TRAINING)}


_OF_TRAINERS: Final = _agreed()


_MAY_TELL: Final = re.compile(
    rb"(?<![a-z])(?:"
    + "|".join(sorted(_TELLING)).encode()
    + rb"|clip|clipfrac|explained|grad|learning|response|score)(?![a-z])|(?<![a-z])(?:"
    + "|".join(sorted({key.partition("/")[0] for key in _OF_TRAINERS})).encode()
    + rb")/",
    re.IGNORECASE,
)


def may_tell(line: bytes) -> bool:
    """Tell cheaply whether a line may hold a name that tells of training: without one of these words it has none.

    Example:
        >>> may_tell(b"mean_reward=1"), may_tell(b"iteration 3: access granted")
        (True, False)
    """
    return _MAY_TELL.search(line) is not None


def meaning_of(key: str) -> Meaning | None:
    """Return what a key is, also with a word before it that changes nothing: `Mean reward`, `train/loss`."""
    name = plain(key)
    if name in MEANINGS:
        return MEANINGS[name]
    rest = _QUALIFIER.sub("", name, count=1) if _QUALIFIER.match(name) else ""
    known = MEANINGS.get(rest)
    return replace(known, rank=known.rank + _QUALIFIED) if known is not None else None


def known_name(key: str) -> str | None:
    """Return which metric a key is for certain, or None; an epoch is none, and neither is a score, as games have it.

    A name with a slash that trainers agree on is one, whoever prints it: `critic/score/mean`.

    Example:
        >>> [known_name(key) for key in ("Mean reward", "acc", "stop loss", "epoch")]
        ['reward/mean', 'accuracy', None, None]
    """
    name = plain(key)
    known = meaning_of(key)
    if known is not None:
        return known.name if known.name != _EPOCH and name not in _EVERYBODYS else None
    return _ALSO_KNOWN.get(name) or _OF_TRAINERS.get(name)


def tells_of_training(key: str, *, is_marked: bool) -> bool:
    """Tell whether a number with this name is one of a trainer's, and no other program's.

    Behind a colon or an equals sign, one word of the name is enough; in plain text, the name has to be a known one:
    `the loss of 3` is prose.

    Args:
        key: the name.
        is_marked: whether a colon or an equals sign stands between the name and the number.
    """
    if is_marked:
        words = set(_WORDS.findall(key.lower()))
        return not words.isdisjoint(_TELLING) and words.isdisjoint(OTHERS)
    known = meaning_of(key)
    return known is not None and known.name != _EPOCH and plain(key) not in _EVERYBODYS
