"""The inference engines' own lines, under whatever trainer: vLLM (V0 and V1) and SGLang.

An engine has no step: its lines go to the step that the trainer ends next, and of those of one step the busiest
counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np

from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.dialects.busiest import weigh_lines
from orz_monitor.dialects.numbering import lines_and_steps, number_by_trainer
from orz_monitor.entries import NO_STEP
from orz_monitor.ledger import Ledger
from orz_monitor.log import Entry, Log
from orz_monitor.numbers import UNITS, floats
from orz_monitor.transport.batch import Batch
from orz_monitor.transport.lines import Line, Segment
from orz_monitor.transport.prefixes import NOWHERE, Origin

_AXIS: Final = "engine"
_VLLM: Final = b"Avg prompt throughput: "
_SGLANG: Final = re.compile(rb"(?P<kind>Decode|Prefill) batch[^,#]{0,40}[.,] (?=#)")
_KEY: Final = rb"(?:^|, )(?P<key>[#A-Za-z][\w #-]{0,60}(?:\([\w/]{1,20}\))?): "
_VALUE: Final = rb"(?:[-+]?(?:\d[\d.]{0,30}(?:[eE][-+]?\d{1,4})?|nan|inf)|True|False)"
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
    """

    keys: tuple[str, ...]
    percentages: list[int]


@dataclass(kw_only=True, slots=True)
class _Found:
    """Records of one form.

    Attributes:
        indices: of their lines, [M].
        numbers: their numbers, with commas between them or one by one.
        known: what their prefixes say, process and time, [M].
    """

    indices: list[int] = field(default_factory=list)
    numbers: list[bytes] = field(default_factory=list)
    known: list[tuple[Origin, float | None]] = field(default_factory=list)


def _spans(batch: Batch) -> Iterator[tuple[int, int, int]]:
    """Yield where vLLM's lines begin, where the first record on each begins, and where the line ends."""
    text, rest = batch.text, batch.rest()
    hit = rest.find(_VLLM)
    while hit >= 0:
        at = batch.place(hit)
        yield text.rfind(b"\n", 0, at) + 1, at, text.find(b"\n", at)
        hit = rest.find(_VLLM, rest.find(b"\n", hit))


def _alike(records: Sequence[bytes]) -> tuple[tuple[bytes, ...], list[bytes]] | None:
    """Split records that differ in their numbers only, all at once.

    Returns:
        The text between the numbers of each, and the numbers of all; None where one has another text.

    Example:
        >>> _alike([b"Running: 1 reqs", b"Running: 16 reqs"])
        ((b'Running: ', b' reqs'), [b'1', b'16'])
    """
    texts = tuple(_NUMBER.split(records[0])[::2]) if records else ()
    if len(texts) < 2:  # noqa: PLR2004 - no number between
        return None
    first, *between, last = texts
    pieces = _NUMBER.split(b"\n".join(records))
    expected = [first, *([*between, last + b"\n" + first] * len(records))]
    expected[-1] = last
    return (texts, pieces[1::2]) if pieces[::2] == expected else None


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

    def scan(self, batch: Batch, log: Log) -> None:
        """Read vLLM's lines that differ from earlier ones in their numbers only, without taking them apart."""
        spans = list(_spans(batch))
        for form, found in self._found(batch.text, spans, log).items():
            if self._add_all(form, found, batch.lines_at([spans[index][0] for index in found.indices]), log):
                for index in found.indices:
                    batch.take(spans[index][0], spans[index][2])

    def _found(self, text: bytes, spans: Sequence[tuple[int, int, int]], log: Log) -> Mapping[_Form, _Found]:
        """Read the records of spans of a text, those of one form together."""
        records = [text[at:end] for _, at, end in spans]
        prefixes = [text[start:at] for start, at, _ in spans]
        known = [
            self._origins.get(prefix) or self._origin(prefix, record)
            for prefix, record in zip(prefixes, records, strict=True)
        ]
        found_of: dict[_Form, _Found] = {}
        processes = [process for process in known if process is not None]
        alike = _alike(records) if len(processes) == len(records) else None
        if alike is not None:
            form = self._form(alike[0], records[0], log)
            found = _Found(indices=[*range(len(records))], numbers=alike[1], known=processes)
            return {form: found} if form is not None else {}
        for index, (record, process) in enumerate(zip(records, known, strict=True)):
            pieces = _NUMBER.split(record)
            form = self._form(tuple(pieces[::2]), record, log) if process is not None else None
            if process is not None and form is not None:
                found = found_of.setdefault(form, _Found())
                found.indices.append(index)
                found.numbers.append(b",".join(pieces[1::2]))
                found.known.append(process)
        return found_of

    def _add_all(self, form: _Form, found: _Found, lines: Sequence[int], log: Log) -> bool:
        """Add the records of one form, on their lines; tells whether their numbers could be read, one for each key."""
        values = floats(b",".join(found.numbers))
        if values is None or len(values) != len(lines) * len(form.keys):
            return False
        table = np.array(values).reshape(-1, len(form.keys))
        table[:, form.percentages] *= UNITS[b"%"]
        log.add_rows(
            self.name,
            form.keys,
            table,
            lines=lines,
            times=[math.nan if time is None else time for _, time in found.known],
            origins=[origin for origin, _ in found.known],
            axis=_AXIS,
        )
        return True

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

    def _form(self, text: tuple[bytes, ...], record: bytes, log: Log) -> _Form | None:
        """Return the form of a record by the text between its numbers.

        None while its keys are new, and where its numbers are not its values.
        """
        if text in self._forms:
            return self._forms[text]
        pairs = [(found["key"], found["value"]) for found in _VLLM_ITEM.finditer(record)]
        names = [log.name_of(key) for key, _ in pairs]
        if not all((known := log.precisions.get((self.name, name))) and known.settled for name in names):
            return None
        whole = [value.removesuffix(b"%") for _, value in pairs] == _NUMBER.findall(record)
        regular = pairs and whole and record.count(_VLLM) == 1 and len(Line(record).segments) == 1
        percentages = [index for index, (_, value) in enumerate(pairs) if value.endswith(b"%")]
        form = _Form(keys=log.shape(tuple(key for key, _ in pairs)), percentages=percentages) if regular else None
        if len(self._forms) < _MOST_FORMS:
            self._forms[text] = form
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

    def number(self, entries: Sequence[Entry], log: Log) -> None:
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
