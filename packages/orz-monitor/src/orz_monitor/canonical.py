"""Series get their canonical names and units: what several raw keys mean together, and which of them is taken."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.dialects import Meaning
from orz_monitor.frameworks import OURS
from orz_monitor.metrics.peers import spec_of
from orz_monitor.records import PHASES, describe
from orz_monitor.series import Series

_SECONDS: Final = "seconds/"


def canonical_series(
    raw: Mapping[tuple[str, str], Series],
    meaning_of: Callable[[str, str], Meaning | None],
    framework: str,
    steps: NDArray[np.int64],
) -> tuple[dict[str, Series], dict[str, Series], set[str]]:
    """Give series their canonical names.

    Args:
        raw: the series by dialect and raw key.
        meaning_of: what a raw key is, given the dialect that read it and the key; None for one that nobody knows.
        framework: the trainer whose names the keys are.
        steps: all steps of training, increasing, [K].

    Returns:
        Metrics by name, phases by name, and the names of metrics that a dialect knows.
    """
    groups: dict[str, list[tuple[Meaning, Series]]] = defaultdict(list)
    metrics: dict[str, Series] = {}
    for (dialect, key), series in raw.items():
        meaning = meaning_of(dialect, key)
        if meaning is not None and any((dialect, part) not in raw for part in meaning.over):
            meaning = None
        if meaning is None and framework == OURS and (describe(key) is not None or is_phase(key)):
            meaning = Meaning(key)
        if meaning is None:
            name = f"{dialect}/{key}" if describe(key) is not None or key in metrics else key
            metrics[name] = _named(series, name, Meaning(name))
        else:
            whole = series.zero_elsewhere(steps) if meaning.zero_elsewhere else series
            if meaning.over:
                whole = _divided(whole, [raw[dialect, part] for part in meaning.over])
            groups[meaning.name].append((meaning, whole))
    mapped: set[str] = set()
    seconds: dict[str, Series] = {}
    for name, candidates in groups.items():
        chosen, rest = _chosen(candidates)
        if name.startswith(_SECONDS):
            phase = name.removeprefix(_SECONDS)
            seconds[phase] = _named(chosen, phase, Meaning(phase))
        else:
            metrics[name] = chosen
            mapped.add(name)
        for series in rest:
            other = (
                series.name
                if describe(series.name) is None and series.name not in groups
                else f"{framework}/{series.name}"
            )
            metrics.setdefault(other, _named(series, other, Meaning(other)))
            mapped.add(other)
    return dict(sorted(metrics.items())), dict(sorted(seconds.items())), mapped


def series_as_logged(raw: Mapping[tuple[str, str], Series]) -> dict[str, Series]:
    """Return series by their raw keys; where two dialects have the same key, the one with more values keeps it."""
    found: dict[str, Series] = {}
    for (dialect, key), series in sorted(raw.items(), key=lambda item: -len(item[1])):
        found[f"{dialect}/{key}" if key in found else key] = series
    return dict(sorted(found.items()))


def is_phase(key: str) -> bool:
    """Tell whether a key is a phase of ours, as `export` writes it."""
    return key.startswith(_SECONDS) and key.removeprefix(_SECONDS) in PHASES


def _chosen(candidates: list[tuple[Meaning, Series]]) -> tuple[Series, list[Series]]:
    """Choose among series of one meaning; those that add up become one.

    Returns:
        The series in canonical units, and those that were not taken.
    """
    adding = [(meaning, series) for meaning, series in candidates if meaning.adds]
    single = sorted(
        ((meaning, series) for meaning, series in candidates if not meaning.adds),
        key=lambda item: (item[0].rank, -len(item[1])),
    )
    if single:
        meaning, series = single[0]
        chosen = _named(series, meaning.name, meaning)
        rest = [other for _, other in adding]
        for other_meaning, other in single[1:]:
            if other_meaning.rank == meaning.rank:
                chosen = _filled(chosen, _named(other, meaning.name, other_meaning))
            else:
                rest.append(other)
        return chosen, rest
    steps = adding[0][1].steps
    if not all(np.array_equal(series.steps, steps) for _, series in adding):
        steps = np.unique(np.concatenate([series.steps for _, series in adding]))
    parts = [_named(series, meaning.name, meaning) for meaning, series in adding]
    values = np.sum([np.nan_to_num(part.at(steps), nan=0.0) for part in parts], axis=0)
    name = adding[0][0].name
    keys = tuple(key for part in parts for key in part.raw_keys)
    return Series(name=name, steps=steps, values=values, raw_keys=keys, unit=_unit(name)), []


def _divided(series: Series, parts: list[Series]) -> Series:
    """Divide values by the sum of others in the same step; NaN where one of these is missing, or all are 0."""
    whole = np.sum([part.at(series.steps) for part in parts], axis=0)
    values = np.full(len(series), np.nan)
    np.divide(series.values, whole, out=values, where=np.isfinite(whole) & (whole != 0))
    return replace(series, values=values, quanta=None)


def _filled(series: Series, other: Series) -> Series:
    """Add the steps that only the other of two series has, as where a key was renamed between versions."""
    new = np.isin(other.steps, series.steps, invert=True)
    order = np.argsort(np.concatenate([series.steps, other.steps[new]]), kind="stable")

    def both(ours: NDArray[Any] | None, theirs: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if ours is None or theirs is None else np.concatenate([ours, theirs[new]])[order]

    return replace(
        series,
        steps=np.concatenate([series.steps, other.steps[new]])[order],
        values=np.concatenate([series.values, other.values[new]])[order],
        raw_keys=series.raw_keys + other.raw_keys,
        lines=both(series.lines, other.lines),
        files=both(series.files, other.files),
        quanta=both(series.quanta, other.quanta),
    )


def _named(series: Series, name: str, meaning: Meaning) -> Series:
    """Return a series under its name, in canonical units."""
    values, quanta, scale = series.values, series.quanta, meaning.scale
    if scale != 1 or meaning.offset != 0 or np.signbit(values[values == 0]).any():  # `-0.000` is nothing but 0
        values = values * scale + meaning.offset
    if scale != 1 and quanta is not None:
        quanta = quanta * abs(scale)
    return Series(
        name=name,
        steps=series.steps,
        values=values,
        raw_keys=series.raw_keys,
        unit=_unit(name),
        estimator=meaning.estimator,
        estimator_varies=meaning.estimator_varies,
        lines=series.lines,
        files=series.files,
        quanta=quanta,
    )


def _unit(name: str) -> str:
    """Return the unit of a known metric."""
    spec = spec_of(name)
    return spec.unit if spec is not None else ""
