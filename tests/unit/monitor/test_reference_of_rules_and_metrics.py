"""The pages of rules and metrics are those that the code makes; what they say of metrics is consistent."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_cli.errors import UsageError
from orz_monitor.dialects.orz.dialect import Orz
from orz_monitor.frameworks import SETTINGS, translate
from orz_monitor.glossary import explained
from orz_monitor.metrics.catalogue import FACTS, look_up
from orz_monitor.metrics.explain import FRAMEWORKS, explain
from orz_monitor.metrics.logging import how_to_log
from orz_monitor.metrics.names import NAMES
from orz_monitor.metrics.page import explained_page
from orz_monitor.metrics.peers import PEERS, spec_of
from orz_monitor.presets import PRESETS, detect
from orz_monitor.records import METRICS, PHASES
from orz_monitor.rules import RULES
from orz_monitor.rules.page import rules_page

pytestmark = pytest.mark.unit

CLIP_HIGHER = {"loss.clip_low": "0.2", "loss.clip_high": "0.28"}
REFERENCE = Path(__file__).parents[3] / "docs/reference"


def test_the_page_of_rules_is_the_codes_own() -> None:
    """docs/reference/rules.md equals `orz_monitor.rules.page.rules_page()`; write that text to renew it."""
    assert rules_page() == (REFERENCE / "rules.md").read_text(encoding="utf-8")


def test_the_page_names_what_a_rule_needs_in_one_sentence() -> None:
    """Its metrics and its setting."""
    (clip,) = (part for part in rules_page().split("### ") if part.startswith("grad_clip\n"))
    assert "; needs `policy/grad_norm` and the setting `policy.optimizer.max_grad_norm`; " in clip


def test_the_page_of_metrics_is_the_codes_own() -> None:
    """docs/reference/metrics-explained.md equals `explained_page()` of orz_monitor.metrics.page."""
    assert explained_page() == (REFERENCE / "metrics-explained.md").read_text(encoding="utf-8")


def test_every_metric_that_is_named_exists() -> None:
    """Facts, names, and what rules need are canonical metrics; peers' names are not in the registry."""
    needed = {name for rule in RULES for name in (*rule.needs, *rule.needs_any)}
    assert [name for name in sorted({*FACTS, *NAMES, *needed}) if spec_of(name) is None] == []
    assert set(PEERS).isdisjoint(METRICS)
    assert {key for names in NAMES.values() for key in names} <= set(FRAMEWORKS)


def test_the_return_that_orz_divides_twice_is_no_mean_return() -> None:
    """Neither the reference nor the dialect calls it one; who asks for it is told."""
    assert "orz" not in NAMES["return/mean"]
    assert Orz().meaning("bar/ret") is None
    assert "no mean return" in explain("ret", width=300)


def test_thresholds_of_presets_exist() -> None:
    """A preset names rules and thresholds that are there."""
    rules = {rule.code: rule for rule in RULES}
    for preset in PRESETS.values():
        assert {*preset.limits, *preset.worst, *preset.off} <= set(rules)
        assert all(set(some) <= set(rules[code].thresholds) for code, some in preset.limits.items())


@pytest.mark.parametrize(
    ("asked", "metric"),
    [
        ("kl", "policy/kl_ref"),
        ("objective/kl", "policy/kl_ref_seq"),
        ("actor/ppo_kl", "policy/kl_old"),
        ("glen", "rollout/response_tokens_mean"),
        ("critic/score/mean", "reward/mean"),
        ("eval/gsm8k/accuracy", "eval/<set>/accuracy"),
        ("Grad. Norm", "policy/grad_norm"),
        ("engine/kv_cache_usage", "engine/kv_cache_usage"),
    ],
)
def test_a_metric_is_found_by_any_name(asked: str, metric: str) -> None:
    """Canonical names, those of trainers, and what people say."""
    assert metric == look_up(asked)[0]


def test_an_explanation_has_all_that_is_known() -> None:
    """Definition, estimator, ranges, names, pitfalls and rules; token and sequence KL are told apart."""
    text = explain("kl", width=300)
    for part in ("k3", "What is usual", "ORZ: kl, avg_kl", "no sequence KL", "kl_drift", "policy/kl_ref_seq"):
        assert part in text
    assert max(len(line) for line in explain("kl", width=60).splitlines()[:-1]) <= 60


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("reward", "reward/mean  [reward]", "'reward' may also mean: seconds/reward"),
        ("seconds/reward", "seconds/reward  [s]", None),
        ("generate", "seconds/generate  [s]", None),
        ("kl_old", "kl_old  [rule]", "'kl_old' may also mean: policy/kl_old"),
        ("kl_drift", "kl_drift  [rule]", None),
    ],
)
def test_a_word_with_several_meanings(asked: str, first: str, last: str | None) -> None:
    """Who asks for the reward wants to know what was rewarded; how long that took is named. A rule comes first."""
    lines = explained(asked).splitlines()
    assert (first, last is not None) == (lines[0], "may also mean" in lines[-1])
    assert last in {None, lines[-1]}


def test_no_explanation_is_wider_than_asked() -> None:
    """Of any rule, metric or phase; 100 columns by default."""
    for name in (*(rule.code for rule in RULES), *FACTS, *PHASES, "kl", "reward", "loss"):
        for width in (60, 80, 100):
            assert max(map(len, explained(name, width=width).splitlines())) <= width, name
        assert explained(name) == explained(name, width=100)


@pytest.mark.parametrize("asked", ["entrpy", "", "x" * 500])
def test_an_unknown_metric_is_told(asked: str) -> None:
    """With the nearest name where there is one."""
    with pytest.raises(UsageError, match="no metric of that name") as caught:
        look_up(asked)
    assert ("entropy" in caught.value.remedy) == (asked == "entrpy")


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("kll", "kl"),
        ("kl_drif", "kl_drift"),
        ("generat", "generate"),
        ("seconds/generat", "seconds/generate"),
        ("actor/grad_nrm", "actor/grad_norm"),
        ("completions/clipped_rato", "completions/clipped_ratio"),
        ("Objective/KLL", "objective/kl"),
        ("avg_responselength", "avg_response_length"),
    ],
)
def test_the_nearest_word_comes_first(asked: str, near: str) -> None:
    """What people say, rules, phases, and the names that other trainers give; each is then explained."""
    with pytest.raises(UsageError) as caught:
        explained(asked)
    assert f"did you mean {near}" == caught.value.remedy.removesuffix("?").split(" or ")[0]
    assert explained(near)


@pytest.mark.parametrize("printed", ["warn[kl_drift]", "error[kl_drift]:", "kl-drift", " KL_drift "])
def test_a_rule_is_known_as_it_is_printed(printed: str) -> None:
    """What `orz monitor check` writes before a finding can be copied as it stands."""
    assert explained("kl_drift") == explained(printed)


@pytest.mark.parametrize(
    ("asked", "remedy"),
    [
        ("rule-x", "docs/reference/rules.md and docs/reference/metrics-explained.md list them all"),
        ("explained_varianc", "did you mean explained_variance or "),
        ("grad-zerro", "did you mean grad_zero?"),
        ("length_max", "did you mean length or weight_max or length_collapse?"),
    ],
)
def test_a_word_is_sought_among_rules_and_metrics(asked: str, remedy: str) -> None:
    """That neither has the name is said, and where both have one like it, both are told."""
    with pytest.raises(UsageError, match="no rule and no metric of that name is known") as caught:
        explained(asked)
    assert remedy in caught.value.remedy


def test_remedies_name_the_trainers_own_settings() -> None:
    """Names, values that differ, and words where a trainer has no counterpart that is known."""
    assert translate("halve `policy.optimizer.lr`", "verl") == "halve `actor_rollout_ref.actor.optim.lr`"
    assert translate("set `loss.reduction=token_mean`", "trl") == "set `loss_type=dapo`"
    assert translate("set `reward.workers=4`", "orz") == "set the number of processes that score to 4"
    assert translate("see `loss.reduction=x`; set `top_p=1.0`", "slime").startswith(
        "see the reduction of the loss at x"
    )
    assert translate("lower `a.b`: set `kl.estimator=k2` or `critic.dtype=float32`", "slime").endswith(
        "set the KL estimator to k2 or the critic's precision to float32"
    )
    assert translate("read `rollouts/`", "trl") == "read the samples that log_completions=True prints"
    assert translate("look at `policy/kl_ref`", "verl") == "look at `policy/kl_ref`"
    assert all(setting.words for setting in SETTINGS.values())


def test_how_to_log() -> None:
    """By trainer, by family, or nothing."""
    assert "beta" in how_to_log("policy/kl_ref", "trl")
    assert "engine's own lines" in how_to_log("engine/kv_cache_usage", "verl")
    assert how_to_log("policy/loss", "verl") == ""


@pytest.mark.parametrize(
    ("names", "settings", "framework", "staleness", "kind"),
    [
        ({"critic/loss"}, {}, "orz-train", 0.0, "ppo"),
        (set(), {}, "orz-train", 0.0, "grpo"),
        ({"critic/loss"}, {"kl.loss_coef": "0.0", "kl.reward_coef": "0.0"}, "orz-train", 0.0, "kl-free"),
        ({"critic/loss"}, {"kl.loss_coef": "0.001"}, "orz-train", 0.0, "rlhf-kl"),
        (set(), {"kl.loss_coef": "0"}, "orz-train", 0.0, "grpo"),
        (set(), {"kl.loss_coef": "0", **CLIP_HIGHER}, "orz-train", 0.0, "dapo"),
        (set(), {"kl.loss_coef": "0", "loss.clip_low": "0.2", "loss.clip_high": "0.2"}, "orz-train", 0.0, "grpo"),
        (set(), {"kl.loss_coef": "0.001", **CLIP_HIGHER}, "orz-train", 0.0, "grpo"),
        ({"critic/loss"}, {"kl.loss_coef": "0", **CLIP_HIGHER}, "orz-train", 0.0, "kl-free"),
        (set(), {"algorithm.filter_groups.enable": "True"}, "verl", 0.0, "dapo"),
        (set(), {"algorithm.filter_groups.enable": "False"}, "verl", 0.0, "grpo"),
        ({"critic/loss"}, {}, "orz", 0.0, "kl-free"),
        ({"policy/kl_ref"}, {}, "trl", 0.0, "grpo"),
        (set(), {}, "trl", 0.0, "grpo"),
        (set(), {"epsilon": "0.2", "epsilon_high": "0.28"}, "trl", 0.0, "dapo"),
        (set(), {"epsilon": "0.2", "epsilon_high": "None"}, "trl", 0.0, "grpo"),
        ({"policy/kl_loss"}, {}, "verl", 0.0, "grpo"),
        ({"critic/loss"}, {}, "prime-rl", 2.0, "async"),
    ],
)
def test_kinds_of_run(names: set[str], settings: dict[str, str], framework: str, staleness: float, kind: str) -> None:
    """By critic, KL term, trainer and age of samples."""
    assert kind == detect(names, settings, framework=framework, staleness=staleness).name
