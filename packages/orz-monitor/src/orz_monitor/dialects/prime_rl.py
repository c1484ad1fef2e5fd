"""prime-rl: a line a step from the trainer, and one from the orchestrator: `Step 12 |  18.2s | Loss 0.0071 | ...`.

Both processes count the same steps, in files of their own. With `--json` each line is a record whose `message` is
such a line. What is not finite is left out of prime-rl's metrics files, with a warning that names it: those names
get a NaN here.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Iterator, Mapping
from typing import ClassVar, Final

from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.dialects.items import item_pairs
from orz_monitor.log import Log
from orz_monitor.transport.clock import as_epoch
from orz_monitor.transport.lines import Line, Segment

_STEP: Final = re.compile(rb"(?:Train s|S)tep (?P<step>\d{1,15})$")
_MICRO: Final = re.compile(rb"Micro Step (?P<done>\d{1,9})/(?P<total>\d{1,9})$")
_EVALUATED: Final = re.compile(rb"Evaluated (?P<set>\S{1,100}) \(Step (?P<step>\d{1,15})\)$")
_ENVIRONMENT: Final = re.compile(r"╰─ (?P<name>\S{1,100})$".encode())
_ITEM: Final = re.compile(rb"(?P<key>[^\d\s+-].{0,60}?):? +v?(?P<value>[-+]?(?:\d|nan|inf).{0,60})$")
_DROPPED: Final = re.compile(
    rb"Dropping (?P<count>\d{1,6}) non-finite value\(s\) from [^:]{1,300}: (?P<names>.{1,2000}?)(?: \.\.\.)?$"
)
_SET_KEY: Final = re.compile(r"eval/(?P<set>[^/]+)/(?P<what>Reward|Avg@\d+|avg@\d+|reward/mean)$")
_PASS_AT: Final = re.compile(r"eval/(?P<set>[^/]+)/pass@(?P<k>\d+)$")
_LONGEST: Final = 1 << 16


class PrimeRl(Dialect):
    """The consoles of prime-rl's trainer and orchestrator, and the keys of its `metrics.jsonl`."""

    name = "prime-rl"
    title = "prime-rl"
    gates = (b" | Throughput", b" | Reward ", b" | Reward: ", b"non-finite value(s)")
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "Loss": Meaning("policy/total_loss"),
        "loss/mean": Meaning("policy/total_loss", rank=-1),
        "Entropy": Meaning("policy/entropy"),
        "entropy/all/mean": Meaning("policy/entropy", rank=-1),
        "Mismatch KL": Meaning("mismatch/kl_k3", estimator="k3"),
        "mismatch_kl/all/mean": Meaning("mismatch/kl_k3", estimator="k3", rank=-1),
        "Grad. Norm": Meaning("policy/grad_norm"),
        "optim/grad_norm": Meaning("policy/grad_norm", rank=-1),
        "LR": Meaning("policy/lr"),
        "optim/lr": Meaning("policy/lr", rank=-1),
        "Throughput": Meaning("tokens/per_second"),
        "perf/throughput": Meaning("tokens/per_second", rank=-1),
        "MFU": Meaning("tokens/mfu"),
        "perf/mfu": Meaning("tokens/mfu", scale=0.01, rank=1),
        "Peak Mem.": Meaning("memory/peak_bytes"),
        "Reward": Meaning("reward/mean"),
        "reward/mean": Meaning("reward/mean", rank=-1),
        "Trainable/aside": Meaning("rollout/zero_variance_frac", scale=-1, offset=1),
        "batch/solve_none": Meaning("reward/solve_none_frac"),
        "batch/solve_all": Meaning("reward/solve_all_frac"),
        "batch/effective_batch_size": Meaning("rollout/zero_variance_frac", scale=-1, offset=1, rank=1),
        "decode_len/mean": Meaning("rollout/response_tokens_mean"),
        "completion_len/mean": Meaning("rollout/response_tokens_mean", rank=1),
        "seq_len/mean": Meaning("rollout/total_tokens_mean", rank=-1),
        "Truncation": Meaning("rollout/truncated_frac"),
        "is_truncated/mean": Meaning("rollout/truncated_frac", rank=-1),
        "Seq. Length": Meaning("rollout/total_tokens_mean"),
        "Max Off-Policy": Meaning("staleness/max"),
        "Max. Off-Policy Level": Meaning("staleness/max"),
        "off_policy/max": Meaning("staleness/max", rank=-1),
        "off_policy/mean": Meaning("staleness/mean"),
        "time": Meaning("seconds/total"),
        "orchestrator/time": Meaning("seconds/total", rank=1),
        "time/step": Meaning("seconds/total", rank=-1),
        "time/wait_for_batch": Meaning("seconds/generate"),
        "time/forward_backward": Meaning("seconds/train_policy"),
        "time/broadcast_weights": Meaning("seconds/sync"),
        "time/save_ckpt": Meaning("seconds/save"),
    }
    missing: ClassVar[Mapping[str, str]] = {
        "policy/kl_ref": "prime-rl has no reference.",
        "policy/clip_frac": "give metrics.jsonl: masked_advantage_* are its shares of masked tokens.",
        "rollout/response_tokens_mean": "give metrics.jsonl of the orchestrator.",
        "rollout/repetition": "prime-rl does not log it; look at the saved rollouts.",
        "reward/mean": "give the orchestrator's log as well as the trainer's: the folder that holds both.",
        "policy/entropy": "give the trainer's log as well as the orchestrator's: the folder that holds both.",
    }

    def read(self, line: Line, log: Log) -> bool:
        """Read a step of the trainer or the orchestrator, an evaluation, or what was not finite."""
        understood = False
        for segment in line.segments:
            for body, time in _messages(segment):
                understood = self._read(body, time, segment, line.number, log) or understood
        return understood

    def _read(self, body: bytes, time: float | None, segment: Segment, number: int, log: Log) -> bool:
        """Read one message."""
        if match := _DROPPED.search(body):
            return self._dropped(match, time, segment, number, log)
        head, *items = (item.strip() for item in body[:_LONGEST].split(b" | "))
        step, axis, prefix = None, "", b""
        if match := _STEP.match(head):
            step = int(match["step"])
        elif match := _EVALUATED.match(head):
            step, axis, prefix = int(match["step"]), "eval", b"eval/" + match["set"] + b"/"
        elif match := _ENVIRONMENT.search(head):
            axis, prefix = "environment", b"env/" + match["name"] + b"/"
        elif match := _MICRO.match(head):
            axis, prefix = "micro", b"micro/"
            items += [b"done " + match["done"], b"total " + match["total"]]
        else:
            return False
        of_orchestrator = any(item.startswith((b"Reward ", b"Reward: ")) for item in items)
        time_key = prefix + (b"orchestrator/time" if of_orchestrator and not prefix else b"time")
        pairs: list[tuple[bytes, bytes]] = []
        for item in items:
            match = _ITEM.match(item)
            if match is not None and match["key"] == b"Time":
                pairs.append((time_key, match["value"]))
            elif match is not None:
                pairs += item_pairs(prefix + match["key"], match["value"])
            elif item[:1].isdigit():
                pairs.append((time_key, item))
        row = log.add_pairs(self.name, pairs, line=number, step=step, axis=axis, time=time, origin=segment.origin)
        return row is not None

    def _dropped(self, match: re.Match[bytes], time: float | None, segment: Segment, number: int, log: Log) -> bool:
        """Give what was left out the value that it had."""
        names = tuple(name.strip() for name in match["names"].split(b", ") if log.name_of(name))
        if names:
            nan = array("d", [math.nan] * len(names))
            log.add_values(self.name, log.shape(names), nan, line=number, time=time, origin=segment.origin)
        log.add_event(
            self.name,
            "notice",
            line=number,
            time=time,
            origin=segment.origin,
            data={"kind": "nonfinite_dropped", "count": int(match["count"]), "keys": list(log.shape(names))},
        )
        return True

    def meaning(self, key: str) -> Meaning | None:
        """Return what a raw key is; evaluation sets have their names in their keys."""
        known = self.meanings.get(key)
        if known is None and (match := _SET_KEY.match(key)):
            return Meaning(f"eval/{match['set']}/accuracy", rank=0 if match["what"] == "Reward" else 1)
        if known is None and (match := _PASS_AT.match(key)):
            return Meaning(f"eval/{match['set']}/pass_at_k", rank=-int(match["k"]))
        return known


def _messages(segment: Segment) -> Iterator[tuple[bytes, float | None]]:
    """Yield the messages of a segment: its body, or what a JSON record holds, a line each."""
    body = segment.body
    if not body.startswith(b'{"') or b'"message"' not in body or len(body) > _LONGEST:
        yield body, segment.time
        return
    try:
        record = json.loads(body)
    except (ValueError, RecursionError):
        return
    message, stamp = record.get("message"), record.get("timestamp")
    time = as_epoch(stamp) if isinstance(stamp, str) else segment.time
    if isinstance(message, str):
        for text in message.split("\n"):
            yield text.strip().encode("utf-8", "replace"), time
