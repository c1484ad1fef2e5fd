"""The kinds of run, as the rules tell them apart: which rules apply, and with which thresholds."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from orz_cli.errors import UsageError
from orz_cli.findings import Severity
from orz_monitor.metrics.peers import spec_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """A kind of run.

    Attributes:
        name: how `--preset` calls it.
        meaning: one sentence.
        critic: whether it trains one.
        limits: rule to threshold to value, where it differs from the rule's own.
        worst: rule to the most severe finding it may make in such a run.
        off: rules that mean nothing there.
    """

    name: str
    meaning: str
    critic: bool
    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    worst: Mapping[str, Severity] = field(default_factory=dict)
    off: frozenset[str] = frozenset()


PLAINEST: Final = "grpo"
"""The kind that a run is judged as of which nothing is known."""
_FREE_OF_KL: Final = {"kl_drift": Severity.INFO}
"""Without a KL term the policy is meant to go where the reward leads it."""

PRESETS: Final[Mapping[str, Preset]] = {
    preset.name: preset
    for preset in (
        Preset(name="ppo", meaning="PPO with a critic; whether there is a KL term is not known.", critic=True),
        Preset(
            name="kl-free",
            meaning="PPO with a critic and without a KL term, as Open-Reasoner-Zero trains.",
            critic=True,
            worst=_FREE_OF_KL,
            off=frozenset({"kl_zero"}),
        ),
        Preset(
            name="rlhf-kl",
            meaning="PPO with a critic and a KL term, as for human preferences.",
            critic=True,
            limits={"kl_drift": {"warn_nats": 0.2, "error_nats": 2.0}},
        ),
        Preset(name="grpo", meaning="Groups of samples instead of a critic, with a KL term or without.", critic=False),
        Preset(
            name="dapo",
            meaning="GRPO without a KL term, with a higher upper clip or dynamic sampling, as DAPO has them.",
            critic=False,
            limits={"entropy_high": {"factor": 3.0}},  # clip-higher is there to raise it
            worst=_FREE_OF_KL,
            off=frozenset({"kl_zero"}),
        ),
        Preset(
            name="async",
            meaning="Samples come from older weights than the ones they train, by design.",
            critic=True,
            limits={
                "kl_old": {"warn_nats": 0.1, "error_nats": 0.5},
                "mismatch": {"warn_nats": 0.1, "error_nats": 0.4},
            },
        ),
    )
}
"""Every kind by name."""

ALL: Final = frozenset(PRESETS)
PPO_LIKE: Final = frozenset(name for name, preset in PRESETS.items() if preset.critic)
_CLIPS: Final = (
    ("loss.clip_low", "loss.clip_high"),
    ("actor_rollout_ref.actor.clip_ratio_low", "actor_rollout_ref.actor.clip_ratio_high"),
    ("epsilon", "epsilon_high"),
)
"""The lower and the upper clip of the ratio: ours, verl's, TRL's."""
_DYNAMIC_SAMPLING: Final = ("algorithm.filter_groups.enable",)
"""Settings that drop groups without spread and sample others in their place: verl's."""
_STALE: Final = 1.5
"""Updates between sampling and training, from which on a run is asynchronous; 1 is what one batch ahead makes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Detected:
    """A kind of run, and what it was recognised by."""

    name: str
    why: str


def preset(name: str) -> Preset:
    """Return the preset of a name.

    Raises:
        UsageError: there is none.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"preset {name!r}: no such preset", remedy=f"{hint}give one of {', '.join(sorted(PRESETS))}")
    return PRESETS[name]


def detect(
    names: Collection[str], settings: Mapping[str, str], *, framework: str = "orz-train", staleness: float = 0.0
) -> Detected:
    """Recognise the kind of run.

    Args:
        names: metrics that it logged.
        settings: its configuration, dotted name to value as text; may be empty.
        framework: which trainer wrote the log.
        staleness: the mean age of its samples in updates; 0 where it is not logged.
    """
    if staleness > _STALE:
        return Detected(name="async", why="its samples are on average more than one update old")
    critic = trains_critic(names)
    term, why = kl_term(names, settings, framework)
    trait = "" if critic or term else _trait_of_dapo(settings)
    if trait:
        return Detected(name="dapo", why=f"it logs nothing of a critic, and its configuration has {trait}")
    with_critic = "it trains a critic" if critic else "it logs nothing of a critic"
    if term is None:
        return Detected(name="ppo" if critic else "grpo", why=with_critic)
    if critic:
        return Detected(name="rlhf-kl" if term else "kl-free", why=f"{with_critic}, and {why}")
    return Detected(name="grpo", why=f"{with_critic}, and {why}")


def trains_critic(names: Collection[str]) -> bool:
    """Tell whether a run trains a critic, by the metrics it logged.

    verl puts scores and advantages under `critic/` whether or not there is one: only a critic's own metrics tell.
    """
    return any(name.startswith("critic/") and spec_of(name) is not None for name in names)


def kl_term(names: Collection[str], settings: Mapping[str, str], framework: str) -> tuple[bool | None, str]:
    """Tell whether a KL term steers the policy, and by what that is known; None where it is not."""
    coefficients = [settings[key] for key in ("kl.loss_coef", "kl.reward_coef") if key in settings]
    if coefficients:
        steered = any(_number(text) != 0 for text in coefficients)
        return steered, f"its configuration has {'a' if steered else 'no'} KL coefficient"
    if framework == "orz":
        return False, "recipes of Open-Reasoner-Zero have no KL term"
    if framework == "trl":
        return "policy/kl_ref" in names, f"TRL logs {'a' if 'policy/kl_ref' in names else 'no'} KL to the reference"
    if framework == "verl" and "policy/kl_loss" in names:
        return True, "verl logs a KL term of the loss"
    return None, ""


def _trait_of_dapo(settings: Mapping[str, str]) -> str:
    """Name what of DAPO a configuration has; empty where there is nothing: a GRPO without a KL term is no DAPO."""
    for low, high in _CLIPS:
        if _number(settings.get(high, ""), otherwise=0.0) > _number(settings.get(low, ""), otherwise=math.inf):
            return f"a higher upper clip, {high}={settings[high]}"
    sampling = next((key for key in _DYNAMIC_SAMPLING if settings.get(key, "").lower() == "true"), "")
    return f"dynamic sampling, {sampling}" if sampling else ""


def _number(text: str, *, otherwise: float = 1.0) -> float:
    """Read a number; what is none counts as 1 unless told otherwise: something is set there."""
    try:
        return float(text)
    except ValueError:
        return otherwise
