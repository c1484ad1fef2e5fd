"""The inference engines' own lines, under whatever trainer: vLLM (V0 and V1) and SGLang.

An engine has no step: its lines go to the step that the trainer ends next, and of those of one step the busiest
counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.dialects.busiest import weigh_lines
from orz_monitor.dialects.layout import MOST_TRIES
from orz_monitor.dialects.numbering import lines_and_steps, number_by_trainer
from orz_monitor.entries import NO_STEP
from orz_monitor.ledger import Ledger
from orz_monitor.log import Log
from orz_monitor.numbers import UNITS
from orz_monitor.transport.batch import Batch
from orz_monitor.transport.lines import Line, Segment
from orz_monitor.transport.prefixes import NOWHERE, Origin
from orz_monitor.transport.template import NUMBER, NUMBER_PATTERN, Part, Template

_AXIS: Final = "engine"
_VLLM: Final = b"Avg prompt throughput: "
_SGLANG: Final = re.compile(rb"(?P<kind>Decode|Prefill) batch[^,#]{0,40}[.,] (?=#)")
_KEY: Final = rb"(?:^|, )(?P<key>[#A-Za-z][\w #-]{0,60}(?:\([\w/]{1,20}\))?): "
_VALUE: Final = rb"(?:" + NUMBER_PATTERN + rb"|True|False)"
_VLLM_ITEM: Final = re.compile(_KEY + rb"(?P<value>" + _VALUE + rb"(?:%|(?=,| tokens/s| reqs|ms)))")
_SGLANG_ITEM: Final = re.compile(_KEY + rb"(?P<value>" + _VALUE + rb")(?=,|\s*$)")


_NUMBER: Final = re.compile(rb"(\d[\d.]*+)")
_ENGINE: Final = re.compile(rb"(?:Engine \d{1,6}: )?")
_MOST_PREFIXES: Final = 4096
_MOST_FORMS: Final = 256


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Form:
    """Records that differ in their numbers only.

    Attributes:
        keys: raw keys, [K].
        percentages: indices of the values that are percentages.
        template: reads the values, [K].
    """

    keys: tuple[str, ...]
    percentages: list[int]
    template: Template


class Engines(Dialect):
    """The statistics that vLLM and SGLang print every few seconds."""

    name = "engines"
    title = "inference engines"
    is_trainer = False
    bulk = _VLLM
    gates = (_VLLM, b"#queue-req: ")
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "GPU KV cache usage": Meaning("engine/kv_cache_usage"),
        "Running": Meaning("engine/requests_running"),
        "Waiting": Meaning("engine/requests_waiting"),
        "Pending": Meaning("engine/requests_waiting"),
        "Preemptions": Meaning("engine/preemptions"),
        "Avg generation throughput": Meaning("engine/generation_tokens_per_second"),
        "Prefix cache hit rate": Meaning("engine/prefix_hit_frac"),
        "Decode/token usage": Meaning("engine/kv_cache_usage"),
        "Decode/full token usage": Meaning("engine/kv_cache_usage", rank=1),
        "Decode/#running-req": Meaning("engine/requests_running"),
        "Decode/#queue-req": Meaning("engine/requests_waiting"),
        "Decode/gen throughput (token/s)": Meaning("engine/generation_tokens_per_second"),
    }
    missing: ClassVar[Mapping[str, str]] = {
        "engine/kv_cache_usage": "keep the engine's own lines in the log (vLLM: disable_log_stats=False).",
    }

    def __init__(self) -> None:
        super().__init__()
        self._origins: dict[bytes, tuple[Origin, float | None]] = {}
        self._forms: dict[tuple[bytes, ...], _Form | None] = {}
        self._usual: _Form | None = None

    def scan(self, batch: Batch, log: Log) -> None:
        """Read vLLM's lines that differ from earlier ones in their numbers only, without taking them apart."""
        records = batch.where(_VLLM)
        left = records[np.diff(batch.lines_of(records)[2], prepend=0) > 0]  # a second one on a line is not alone there
        form, most = self._usual, 0
        tried: set[_Form | None] = {None}
        for _ in range(MOST_TRIES):
            if form not in tried and form is not None:
                others = self._read_all(form, batch, left, log)
                if len(left) - len(others) > most:
                    self._usual, most = form, len(left) - len(others)
                left = others
            if not len(left):
                return
            tried.add(form)
            form = self._form(batch.text[left[0] : batch.text.find(b"\n", left[0])], log)
            if form in tried:
                left = left[1:]

    def _read_all(self, form: _Form, batch: Batch, records: NDArray[np.int64], log: Log) -> NDArray[np.int64]:
        """Read records of one form, each to the end of its line; return where those stand that have another."""
        begins, ends, numbers = batch.lines_of(records)
        fits = form.template.read(batch.text, records)
        fitting = fits.ends == ends
        known = [
            self._origin_of(batch.text, *places)
            for places in zip(*(column[fitting].tolist() for column in (begins, records, ends)), strict=True)
        ]
        lines = np.flatnonzero(fitting)[np.fromiter(map(bool, known), np.bool_, len(known))]
        values = fits.values[lines]
        values[:, form.percentages] *= UNITS[b"%"]
        told = [process for process in known if process is not None]
        log.add_rows(
            self.name,
            form.keys,
            values,
            lines=numbers[lines].tolist(),
            times=[math.nan if time is None else time for _, time in told],
            origins=[origin for origin, _ in told],
            axis=_AXIS,
        )
        batch.take_all(begins[lines], ends[lines])
        left: NDArray[np.int64] = records[~fitting]
        return left

    def _origin_of(self, text: bytes, begin: int, record: int, end: int) -> tuple[Origin, float | None] | None:
        """Return what stands before a record on its line says, as `_origin` does; most lines begin as one before."""
        prefix = text[begin:record]
        return self._origins.get(prefix) or self._origin(prefix, text[record:end])

    def _origin(self, prefix: bytes, record: bytes) -> tuple[Origin, float | None] | None:
        """Return what a prefix says, or None where a line with it is more than one record of a named process."""
        segments = Line(prefix + record).segments
        if len(segments) != 1 or segments[0].origin is NOWHERE or not segments[0].body.endswith(record):
            return None
        if not _ENGINE.fullmatch(segments[0].body.removesuffix(record)):
            return None
        if len(self._origins) >= _MOST_PREFIXES:
            self._origins.clear()  # those of earlier times
        self._origins[prefix] = known = segments[0].origin, segments[0].time
        return known

    def _form(self, record: bytes, log: Log) -> _Form | None:
        """Return the form of a record.

        None while its keys are new, and where its numbers are not its values.
        """
        words = tuple(_NUMBER.split(record)[::2])
        if words in self._forms:
            return self._forms[words]
        pairs = [(found["key"], found["value"]) for found in _VLLM_ITEM.finditer(record)]
        names = [log.name_of(key) for key, _ in pairs]
        if not all((known := log.precisions.get((self.name, name))) and known.settled for name in names):
            return None
        whole = [value.removesuffix(b"%") for _, value in pairs] == _NUMBER.findall(record)
        regular = pairs and whole and record.count(_VLLM) == 1 and len(Line(record).segments) == 1
        percentages = [index for index, (_, value) in enumerate(pairs) if value.endswith(b"%")]
        parts: list[Part] = [part for word in words for part in (word, NUMBER)]
        keys = log.shape(tuple(key for key, _ in pairs))
        form = _Form(keys=keys, percentages=percentages, template=Template(parts[:-1])) if regular else None
        if len(self._forms) < _MOST_FORMS:
            self._forms[words] = form
        return form

    def read_segment(self, segment: Segment, number: int, log: Log) -> bool:
        """Read one segment."""
        body, understood = segment.body, False
        for piece in body.split(_VLLM)[1:]:
            pairs = [(match["key"], match["value"]) for match in _VLLM_ITEM.finditer(_VLLM + piece)]
            understood = self._add(pairs, segment, number, log) or understood
        starts = list(_SGLANG.finditer(body))
        ends = [match.start() for match in starts[1:]] + [len(body)]
        for match, end in zip(starts, ends[: len(starts)], strict=True):
            kind = match["kind"] + b"/"
            pairs = [(kind + found["key"], found["value"]) for found in _SGLANG_ITEM.finditer(body[match.end() : end])]
            understood = self._add(pairs, segment, number, log) or understood
        return understood

    def _add(self, pairs: list[tuple[bytes, bytes]], segment: Segment, number: int, log: Log) -> bool:
        """Add the numbers of one record."""
        row = log.add_pairs(self.name, pairs, line=number, axis=_AXIS, time=segment.time, origin=segment.origin)
        return row is not None

    def number(self, log: Log) -> None:
        """Leave it to `number_rows`, since most of the lines are in bulk."""

    def number_rows(self, ledger: Ledger) -> None:
        """Give lines the step that the trainer ends next in the same file; of a log of engines alone, count them.

        Lines of a file without a trainer go by time where both have one; else they get no step.
        """
        lines, steps = lines_and_steps(ledger, self.name)
        if not len(steps):
            ledger.step[lines] = np.arange(len(lines))
            return
        number_by_trainer(ledger, lines, steps)
        weigh_lines(ledger, lines[ledger.step[lines] != NO_STEP], self._name_of)

    def _name_of(self, key: str) -> str:
        """Return the canonical name of a raw key, or an empty one."""
        meaning = self.meanings.get(key)
        return meaning.name if meaning is not None else ""
