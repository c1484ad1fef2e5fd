"""A run in Prometheus' text format: the newest value of each metric, findings, and when it last made progress."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from orz_cli.findings import Severity
from orz_monitor import __version__
from orz_monitor.engine import Verdict
from orz_monitor.printable import one_line
from orz_monitor.records import MetricSpec, describe
from orz_monitor.report.facts import gather_facts
from orz_monitor.rules import RULES
from orz_monitor.run import Run, State

_MOST_OTHERS: Final = 300
"""Metrics without a place in the registry; what a log invents beyond them is left out."""
_LONGEST_LABEL: Final = 200


def exposition(verdict: Verdict | None) -> bytes:
    """Return the page for a scrape; without a run only `orz_monitor_info` and `orz_up` 0."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_RunCollector(verdict))
    return generate_latest(registry)


class _RunCollector(Collector):
    """Turns a judged run into metric families, in one go for each scrape."""

    def __init__(self, verdict: Verdict | None) -> None:
        self._verdict = verdict

    def collect(self) -> Iterable[Metric]:
        """Yield the metric families of a scrape."""
        yield _gauge("orz_monitor_info", "Version of orz-monitor.", {"version": __version__}, 1.0)
        yield _gauge("orz_up", "Whether a run was read.", {}, float(self._verdict is not None))
        if self._verdict is not None:
            yield from _of_run(self._verdict.run)
            yield from _of_findings(self._verdict)


def _of_run(run: Run) -> Iterator[Metric]:
    """Yield what is known of the run, and the newest value of each metric."""
    yield _gauge("orz_run_info", "The run.", {"run": _label(run.name), "preset": str(run.preset)}, 1.0)
    states = GaugeMetricFamily("orz_run_state", "1 for the state that the run is in.", labels=["state"])
    for state in State:
        states.add_metric([str(state)], float(run.state is state))
    yield states
    if len(run.steps):
        yield _gauge("orz_step", "Number of the last step.", {}, float(run.steps[-1]))
    progress = run.last_progress
    if progress is not None:
        yield _gauge("orz_last_progress_timestamp_seconds", "When the run last wrote a record.", {}, progress)
    yield from _of_metrics(run)
    phases = GaugeMetricFamily("orz_phase_seconds", "Seconds of each phase of the last step.", labels=["phase"])
    for phase, series in run.seconds.items():
        if len(series):
            phases.add_metric([_label(phase)], float(series.values[-1]))
    yield phases


def _of_metrics(run: Run) -> Iterator[Metric]:
    """Yield the newest value of each metric; names with a part of the user's have it as a label."""
    families: dict[str, GaugeMetricFamily] = {}
    others = GaugeMetricFamily("orz_metric", "Metrics that are not in the registry, by name.", labels=["name"])
    num_others = 0
    for name, series in run.metrics.items():
        if not len(series):
            continue
        value, spec = float(series.values[-1]), describe(name)
        if spec is None:
            num_others += 1
            if num_others <= _MOST_OTHERS:
                others.add_metric([_label(name)], value)
            continue
        labels = _labels(name, spec) | estimator_of(run, name)
        family = families.setdefault(
            spec.name, GaugeMetricFamily(gauge_name(spec.name), f"{spec.meaning} ({spec.unit})", labels=list(labels))
        )
        family.add_metric([_label(text) for text in labels.values()], value)
    yield from families.values()
    yield others


def _of_findings(verdict: Verdict) -> Iterator[Metric]:
    """Yield 1 for each rule that has a finding and 0 for each that looked and found nothing."""
    active = GaugeMetricFamily(
        "orz_finding_active", "1 where a rule has a finding of this severity.", labels=["rule", "severity"]
    )
    found = {(finding.code, str(finding.severity)) for finding in verdict.findings}
    for code, severity in sorted(found):
        active.add_metric([code, severity], 1.0)
    judged = {rule.code for rule in verdict.passed}
    for rule in RULES:
        if rule.code in judged:
            for severity in (Severity.ERROR, Severity.WARN):
                active.add_metric([rule.code, str(severity)], 0.0)
    yield active
    unjudged = GaugeMetricFamily("orz_rule_not_evaluated", "1 where a rule could not judge.", labels=["rule"])
    for item in verdict.not_evaluated:
        unjudged.add_metric([item.code], 1.0)
    yield unjudged


def gauge_name(name: str) -> str:
    """Return the name of a registered metric's gauge.

    Example:
        >>> gauge_name("eval/<set>/accuracy")
        'orz_eval_accuracy'
    """
    if name == "policy/kl_ref":
        return "orz_kl_ref"  # what dashboards of other trainers' logs call it, too
    return "orz_" + "_".join(part for part in re.split(r"[^A-Za-z0-9]+", re.sub(r"<\w+>", "", name)) if part)


def estimator_of(run: Run, name: str) -> dict[str, str]:
    """Return the estimator of the KL to the reference as a label: values of different ones can't be compared."""
    if name != "policy/kl_ref":
        return {}
    return {"estimator": gather_facts(run).settings.get("kl.estimator", "unknown")}


def _labels(name: str, spec: MetricSpec) -> dict[str, str]:
    """Return the user's part of a metric's name by what the registry calls it."""
    parts = zip(spec.name.split("/"), name.split("/"), strict=True)
    return {known.strip("<>"): part for known, part in parts if known.startswith("<")}


def _gauge(name: str, documentation: str, labels: dict[str, str], value: float) -> GaugeMetricFamily:
    """Make a family of one gauge."""
    family = GaugeMetricFamily(name, documentation, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def _label(text: str) -> str:
    """Return text of a log as a label's value."""
    return one_line(text, _LONGEST_LABEL)
