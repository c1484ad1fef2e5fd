"""The inference engines' own lines, under whatever trainer: vLLM (V0 and V1) and SGLang.

An engine has no step: its lines go to the step that the trainer ends next.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.log import Entry, Log, Row
from orz_monitor.transport.lines import Segment

_AXIS: Final = "engine"
_VLLM: Final = b"Avg prompt throughput: "
_SGLANG: Final = re.compile(rb"(?P<kind>Decode|Prefill) batch[^,#]{0,40}[.,] (?=#)")
_KEY: Final = rb"(?:^|, )(?P<key>[#A-Za-z][\w #-]{0,60}(?:\([\w/]{1,20}\))?): "
_VALUE: Final = rb"(?:[-+]?(?:\d[\d.]{0,30}(?:[eE][-+]?\d{1,4})?|nan|inf)|True|False)"
_VLLM_ITEM: Final = re.compile(_KEY + rb"(?P<value>" + _VALUE + rb"(?:%|(?=,| tokens/s| reqs|ms)))")
_SGLANG_ITEM: Final = re.compile(_KEY + rb"(?P<value>" + _VALUE + rb")(?=,|\s*$)")


class Engines(Dialect):
    """The statistics that vLLM and SGLang print every few seconds."""

    name = "engines"
    title = "inference engines"
    is_trainer = False
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
        """Give lines the step that the trainer ends next in the same file; of a log of engines alone, count them.

        Lines of a file without a trainer go by time where both have one; else they get no step.
        """
        ours = [entry for entry in entries if isinstance(entry, Row)]
        steps = [
            row
            for row in log.entries
            if isinstance(row, Row) and row.step is not None and not row.axis and row.dialect != self.name
        ]
        if not steps:
            for count, row in enumerate(ours):
                row.step = count
            return
        last = {row.file: row.step for row in steps}
        following: dict[int, int | None] = {}
        for entry in reversed(log.entries):
            if not isinstance(entry, Row):
                continue
            if entry.dialect == self.name:
                entry.step = following.get(entry.file, last.get(entry.file))
            elif entry.step is not None and not entry.axis:
                following[entry.file] = entry.step
        _number_by_time([row for row in ours if row.step is None], steps)


def _number_by_time(rows: Sequence[Row], steps: Sequence[Row]) -> None:
    """Give rows the step that ended next by the clock, or the last one."""
    ends = sorted((row.time, row.step) for row in steps if row.time is not None and row.step is not None)
    at = 0
    for row in sorted((row for row in rows if row.time is not None and ends), key=lambda row: row.time or 0.0):
        while at < len(ends) - 1 and ends[at][0] < (row.time or 0.0):
            at += 1
        row.step = ends[at][1]
