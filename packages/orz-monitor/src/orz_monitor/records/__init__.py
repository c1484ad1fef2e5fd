r"""The contract between whoever trains and whoever watches: `metrics.jsonl`, version 1.

Standard library only, so a trainer can write through it and a laptop can read it. A line is one record:

Step record, one for each training step.

| key | type | meaning |
|---|---|---|
| `v` | int | version of the contract, 1 |
| `kind` | `"step"` | |
| `step` | int >= 0 | number of the training step |
| `time` | number | when the step ended, seconds since the Unix epoch |
| `policy_version` | int, may be absent | version of the weights that sampled the rollouts: 0 in step 1 |
| `metrics` | object of numbers | metric name to value; `registry` lists the names |
| `seconds` | object of numbers | phase (`PHASES`) to wall-clock seconds; `total` is the whole step |

Event record, for whatever is not a measurement of a step.

| key | type | meaning |
|---|---|---|
| `v` | int | version of the contract, 1 |
| `kind` | `"event"` | |
| `event` | string | what happened; `EVENTS` lists the names readers act on, others are shown as they are |
| `time` | number | when, seconds since the Unix epoch |
| `step` | int >= 0, may be absent | the step it belongs to; for `resume`, the last step that was done before |
| `data` | object | anything JSON can hold |

Numbers: a finite one is a JSON number in the shortest form that reads back to the same float. The others
are the strings `"nan"`, `"inf"` and `"-inf"`, in every place a number may stand, and are never dropped;
readers turn these three strings back into floats, so they can't be used as text in `data`.

Order: keys of `metrics`, `seconds` and `data` are sorted, so equal values are equal bytes. What depends on
the clock or the machine stays out of `metrics` (`MetricSpec.source` says where it is found instead).

Compatibility: a writer writes one version; a reader accepts every version up to its own and ignores keys
it does not know. A line is ASCII and ends in `\n`. A process that dies while writing leaves a torn last
line, which `read_records` reports and steps over. Records are appended after a restart, so a step may
occur twice: the later one wins.

Example:
    >>> record = StepRecord(step=1, time=0.5, metrics={"reward/mean": 0.25, "policy/kl_ref": float("nan")})
    >>> dumps(record)
    '{"v":1,"kind":"step","step":1,"time":0.5,"metrics":{"policy/kl_ref":"nan","reward/mean":0.25},"seconds":{}}'
    >>> loads(dumps(record)).metrics["reward/mean"]
    0.25
"""

from __future__ import annotations

from orz_monitor.records.codec import dumps, loads
from orz_monitor.records.model import EVENTS, VERSION, EventRecord, Record, RecordError, StepRecord
from orz_monitor.records.reader import Line, read_line, read_records
from orz_monitor.records.registry import METRICS, PHASES, MetricSpec, describe

__all__ = [
    "EVENTS",
    "METRICS",
    "PHASES",
    "VERSION",
    "EventRecord",
    "Line",
    "MetricSpec",
    "Record",
    "RecordError",
    "StepRecord",
    "describe",
    "dumps",
    "loads",
    "read_line",
    "read_records",
]
