"""Settings that contradict each other: one named function each, run before anything heavy starts."""

from __future__ import annotations

from collections.abc import Iterator

from orz_train.config.checkpoint_checks import CHECKPOINT_CHECKS
from orz_train.config.cluster_checks import CLUSTER_CHECKS
from orz_train.config.conflict import Check, Conflict
from orz_train.config.plugins import is_plugin
from orz_train.config.problems import Problem, as_error
from orz_train.config.schema import Config
from orz_train.config.suggest import nearest_name
from orz_train.config.training import TrainedModel

ALGORITHMS = ("ppo", "grpo")
TEMPLATES = ("r1-zero", "chat", "plain")
REWARDS = ("math", "boxed", "exact")
PROBLEM_FIELD = "{problem}"


def check(config: Config) -> None:
    """Raise one error that names every conflict.

    Raises:
        ConfigError: there is one.
    """
    problems = [Problem(None, conflict.keys[0], conflict.message) for conflict in find_conflicts(config)]
    if problems:
        raise as_error(problems, subject=config.name)


def find_conflicts(config: Config) -> list[Conflict]:
    """Return all conflicts, in the order of the checks below."""
    return [conflict for found in CHECKS for conflict in found(config)]


def run_has_one_length(config: Config) -> Iterator[Conflict]:
    """A run is so many steps or so many episodes."""
    if config.steps is None and config.episodes is None:
        yield Conflict(("steps", "episodes"), "missing; give steps or episodes")
    if config.steps is not None and config.episodes is not None:
        yield Conflict(
            ("steps", "episodes"),
            f"got steps {config.steps} and episodes {config.episodes}, expected one of the two; remove the other",
        )


def prompts_have_one_source(config: Config) -> Iterator[Conflict]:
    """Prompts come from files or from a function."""
    data = config.data
    if not data.train and data.source is None:
        yield Conflict(("data.train", "data"), "missing; give data.train: [FILE, ...] or data.source: module:function")
    if data.train and data.source is not None:
        yield Conflict(
            ("data.source", "data.train"), "got data.train as well, expected one of the two; remove the other"
        )
    if data.source is not None and not is_plugin(data.source):
        yield Conflict(("data.source",), f"got {data.source!r}, expected module:function")


def names_are_known(config: Config) -> Iterator[Conflict]:
    """Algorithm and reward are built in, or user code as `module:attr`."""
    for key, name, known in (
        ("algorithm.kind", config.algorithm.kind, ALGORITHMS),
        ("reward.function", config.reward.function, REWARDS),
    ):
        if name not in known and not is_plugin(name):
            hint = nearest_name(name, known)
            yield Conflict((key,), f"got {name!r}, expected {' or '.join(known)}, or your own as module:name{hint}")


def template_is_known(config: Config) -> Iterator[Conflict]:
    """A template is built in, or a text with a place for the problem."""
    template = config.data.template
    if template not in TEMPLATES and PROBLEM_FIELD not in template:
        yield Conflict(
            ("data.template",),
            f"got {template!r}, expected {', '.join(TEMPLATES)}, or a text that contains {PROBLEM_FIELD}"
            f"{nearest_name(template, TEMPLATES)}",
        )


def group_has_a_baseline(config: Config) -> Iterator[Conflict]:
    """GRPO compares the responses of one prompt, so it needs two at least."""
    if config.algorithm.kind == "grpo" and config.samples_per_prompt == 1:
        yield Conflict(
            ("samples_per_prompt", "algorithm"),
            "got 1, expected at least 2: GRPO compares a prompt's responses with each other, and every advantage"
            " of a group of one is 0",
        )


def critic_fits_algorithm(config: Config) -> Iterator[Conflict]:
    """PPO trains a critic; GRPO has none."""
    if config.algorithm.kind == "ppo" and config.critic is None:
        yield Conflict(
            ("critic", "algorithm"),
            "missing; PPO trains a critic: add critic.optimizer.lr (ORZ takes 5e-6), or choose algorithm=grpo",
        )
    if config.algorithm.kind == "grpo" and config.critic is not None:
        yield Conflict(("critic",), "GRPO uses no critic; say critic: null (critic=null), or choose algorithm=ppo")


def updates_fit_rollouts(config: Config) -> Iterator[Conflict]:
    """Each update takes one rollout at least."""
    for role, model in _trained(config):
        if model.updates_per_step > config.rollouts_per_step:
            yield Conflict(
                (f"{role}.updates_per_step", "prompts_per_step", "samples_per_prompt"),
                f"got {model.updates_per_step}, expected at most prompts_per_step x samples_per_prompt ="
                f" {config.rollouts_per_step}: each update needs a rollout",
            )


def row_holds_a_rollout(config: Config) -> Iterator[Conflict]:
    """The longest prompt and response fit into one row, so none is ever dropped."""
    longest = config.data.max_prompt_tokens + config.generation.max_response_tokens
    row = config.packing.max_tokens_per_row
    if longest > row:
        yield Conflict(
            ("packing.max_tokens_per_row", "generation.max_response_tokens", "data.max_prompt_tokens"),
            f"got {row}, expected at least {longest}: data.max_prompt_tokens {config.data.max_prompt_tokens} +"
            f" generation.max_response_tokens {config.generation.max_response_tokens}",
        )


def bootstrap_has_a_critic(config: Config) -> Iterator[Conflict]:
    """What would follow a truncated response is the critic's to say."""
    if config.advantage.truncation == "bootstrap" and config.algorithm.kind == "grpo":
        yield Conflict(
            ("advantage.truncation",), "got bootstrap, which needs PPO's critic; with GRPO choose zero or mask"
        )


def kl_counts_once(config: Config) -> Iterator[Conflict]:
    """A KL penalty stands in the reward or in the loss."""
    if config.kl.reward_coef > 0 and config.kl.loss_coef > 0:
        yield Conflict(
            ("kl.loss_coef", "kl.reward_coef"),
            f"got {config.kl.loss_coef} beside kl.reward_coef {config.kl.reward_coef}: the KL would count twice;"
            " set one of them to 0",
        )


def freeze_leaves_something_to_train(config: Config) -> Iterator[Conflict]:
    """While the policy is frozen a critic trains; and it thaws before the run ends."""
    frozen = config.policy.freeze_steps
    if frozen and config.critic is None and config.algorithm.kind == "grpo":
        yield Conflict(("policy.freeze_steps",), f"got {frozen}, expected 0: without a critic nothing would train")
    elif frozen and config.steps is not None and frozen >= config.steps:
        yield Conflict(
            ("policy.freeze_steps", "steps"),
            f"got {frozen}, expected fewer than steps {config.steps}: the policy would never train",
        )


def stops_are_texts(config: Config) -> Iterator[Conflict]:
    """An empty stop text would end every response before it starts."""
    if "" in config.generation.stop:
        yield Conflict(("generation.stop",), "got an empty text in the list, which would stop every response at once")
    negative = [token for token in config.generation.stop_token_ids if token < 0]
    if negative:
        yield Conflict(("generation.stop_token_ids",), f"got {negative[0]}, expected token ids of at least 0")


def top_k_keeps_something(config: Config) -> Iterator[Conflict]:
    """Keeping 0 tokens leaves nothing to sample."""
    if config.generation.top_k == 0:
        yield Conflict(("generation.top_k",), "got 0, expected -1 (keep all) or a whole number above 0")


def betas_are_decay_rates(config: Config) -> Iterator[Conflict]:
    """AdamW's moments decay."""
    for role, model in _trained(config):
        for beta in model.optimizer.betas:
            if not 0 <= beta < 1:
                yield Conflict((f"{role}.optimizer.betas",), f"got {beta}, expected numbers from 0 to below 1")


def local_backend_trains_float32(config: Config) -> Iterator[Conflict]:
    """One copy of the weights takes every update, and in fewer bits most of an update would be rounded away."""
    if config.backend == "local":
        for role, model in _trained(config):
            if model.dtype != "float32":
                yield Conflict(
                    (f"{role}.dtype", "backend"),
                    f"got {model.dtype}, but backend: local keeps one copy of the weights, and its updates would drown"
                    f" in rounding; set {role}.dtype=float32",
                )


CHECKS: tuple[Check, ...] = (
    run_has_one_length,
    prompts_have_one_source,
    names_are_known,
    template_is_known,
    group_has_a_baseline,
    critic_fits_algorithm,
    updates_fit_rollouts,
    row_holds_a_rollout,
    bootstrap_has_a_critic,
    kl_counts_once,
    freeze_leaves_something_to_train,
    stops_are_texts,
    top_k_keeps_something,
    betas_are_decay_rates,
    local_backend_trains_float32,
    *CHECKPOINT_CHECKS,
    *CLUSTER_CHECKS,
)


def _trained(config: Config) -> Iterator[tuple[str, TrainedModel]]:
    yield "policy", config.policy
    if config.critic is not None:
        yield "critic", config.critic
