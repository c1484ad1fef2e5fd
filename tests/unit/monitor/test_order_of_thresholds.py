"""Thresholds of a rule that mean something in one order only."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.configuration import adapted, load
from orz_monitor.configuration.model import ConfigurationError
from orz_monitor.presets import PRESETS
from orz_monitor.rules import RULES

pytestmark = pytest.mark.unit

ALONE = ", which it is unless you set that, too"


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[rules.stall]\nold_s = 3600", f"stall.old_s: got '3600', expected at least past_s = 86400{ALONE}"),
        ("[rules.stall]\nold_s = 36\npast_s = 72", "stall.old_s: got '36', expected at least past_s = 72"),
        ("[rules.truncation]\nwarn_frac = 0.6", f"warn_frac: got '0.6', expected at most error_frac = 0.5{ALONE}"),
        ("[rules.truncation]\nwarn_frac = 0.01", f"warn_frac: got '0.01', expected at least note_frac = 0.05{ALONE}"),
        ("[rules.clip_frac]\nhits = 9", f"clip_frac.hits: got '9', expected at most window = 8{ALONE}"),
        ("[rules.ratio]\nlargest_error = 2", f"largest_error: got '2', expected at least largest = 10{ALONE}"),
        (
            'preset = "async"\n[rules.kl_old]\nerror_nats = 0.05',
            f"kl_old.error_nats: got '0.05', expected at least warn_nats = 0.1{ALONE}",
        ),
    ],
)
def test_the_wrong_order_is_refused(tmp_path: Path, toml: str, said: str) -> None:
    """A warning's beyond an error's, more hits than steps: also where only one of the two is set."""
    path = tmp_path / "settings.toml"
    path.write_text(toml, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load(path, RULES)
    (line,) = caught.value.message.splitlines()[1:]
    assert line.endswith(said)
    assert line.startswith("  rules.")


@pytest.mark.parametrize(
    "toml",
    [
        "[rules.stall]\nold_s = 3600\npast_s = 3600",
        "[rules.truncation]\nwarn_frac = 0.6\nerror_frac = 0.7",
        'preset = "async"\n[rules.kl_old]\nwarn_nats = 0.4',
        '[rules.clip_frac]\npersistence = "9/12"',
    ],
)
def test_their_order_is_taken(tmp_path: Path, toml: str) -> None:
    """Alike ones, both set, and beyond the rule's own where the preset's are wider."""
    path = tmp_path / "settings.toml"
    path.write_text(toml, encoding="utf-8")
    assert load(path, RULES).overrides


def test_rules_keep_their_own_orders() -> None:
    """With their own thresholds and with those of every preset; whatever counts hits counts them in a window."""
    for rules in (RULES, *(adapted(RULES, preset) for preset in PRESETS)):
        for rule in rules:
            values = {name: value for name, (value, _) in rule.thresholds.items()}
            assert all(values[upper] >= values[lower] for upper, lower in rule.orders.items()), rule.code
            assert ("hits" in values) == (rule.orders.get("window") == "hits"), rule.code
            assert ("error" in values and "warn" in values) <= (rule.orders.get("error") == "warn"), rule.code
