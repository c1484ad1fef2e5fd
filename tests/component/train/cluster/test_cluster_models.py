"""The trainer's ports over workers in a real Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from orz_train.cluster import group
from orz_train.cluster.errors import WorkerError, WorkerTimeoutError
from orz_train.cluster.watch import Deadline
from orz_train.data.balancing import balance
from orz_train.data.packing import Packing, pack
from orz_train.errors import NonFiniteError, WeightTransferError
from orz_train.ports import Sampling
from orz_train.testing import make_rollout
from orz_train.types import Estimates, Prompt, Sum, Targets, TrainRow, reduce_metrics

pytestmark = pytest.mark.component

SAMPLING = Sampling(
    max_tokens=4, temperature=1.0, top_p=1.0, top_k=0, stop=(), stop_token_ids=(), num_samples=3, seed=1
)


def rows_of(*lengths: int) -> list[Any]:
    """Make a row for each length, whose first token is its index."""
    return [
        pack([make_rollout([index], list(range(1, length)))], Packing(max_tokens=64))[0]
        for index, length in enumerate(lengths)
    ]


def train_rows(rows: list[Any]) -> list[TrainRow]:
    return [
        TrainRow(
            row=row,
            estimates=Estimates(logprobs_T=torch.zeros(len(row.token_ids_T))),
            targets=Targets(
                advantages_T=torch.zeros(len(row.token_ids_T)), returns_T=torch.zeros(len(row.token_ids_T))
            ),
        )
        for row in rows
    ]


def test_scores_come_back_in_the_order_of_the_rows(started: Any) -> None:
    """Five rows over two ranks: each answer is about its own row, and no filler's answer is among them."""
    rows = rows_of(3, 9, 4, 7, 5)
    values = started.models.critic.values(rows)
    assert [row.token_ids_T.tolist() for row in rows] == [values_T.long().tolist() for values_T, _ in values]
    assert {0.0, 1.0} == {float(ends_S[0]) for _, ends_S in values}, "both ranks took part"


def test_one_row_is_scored_although_there_are_two_ranks(started: Any) -> None:
    """The second rank gets a copy with nothing in its mask."""
    assert 1 == len(started.models.policy.logprobs(rows_of(4)))
    assert [] == started.models.policy.logprobs([])


def test_an_update_weighs_tokens_over_all_ranks(started: Any) -> None:
    """The weights of all ranks' tokens add up to 1; every row is somebody's, a filler on top."""
    critic = started.models.critic
    metrics = critic.update(balance(train_rows(rows_of(3, 9, 4)), critic.num_ranks))
    merged = reduce_metrics(metrics)
    totals = [metric.reduction.total for metric in metrics if metric.name == "critic/loss"]
    assert pytest.approx(1.0) == sum(totals)
    assert [pytest.approx(share / 13) for share in sorted([0, 2, 8, 3])] == sorted(totals)
    assert 4 == merged["tokens/rows"]
    assert 0.5 == merged["critic/lr"], "of rank 0 alone"


def test_ranks_write_and_read_the_staged_folder(started: Any, tmp_path: Path) -> None:
    """Rank 0 writes the model, every rank its state, and the files of all are known to the driver."""
    assert ["model"] == list(started.models.critic.save(tmp_path))
    assert {"critic-rank-0", "critic-rank-1"} == started.models.critic.save_state(tmp_path).keys()
    started.models.critic.load_state(tmp_path)
    assert ["critic-rank-0", "critic-rank-1", "model"] == sorted(path.name for path in tmp_path.iterdir())


def test_a_rank_that_still_writes_is_named(started: Any) -> None:
    """Whatever it is at; nothing is raised, and once it is done nobody is named."""
    critic = started.models.critic
    busy = critic.group.submit_to(1, "collective", 2.0)
    assert ["critic rank 1 didn't answer; it may still write"] == critic.end_writing(0.5)
    critic.group.results([busy])
    assert [] == critic.end_writing(60.0)


def test_a_file_that_ranks_wrote_with_other_bytes_is_not_known(started: Any) -> None:
    """As on disks of their own: the commit reads it again, and finds the difference."""
    assert {"config.json", "rank-0", "rank-1"} == started.models.critic.finish_snapshot().keys()


def test_groups_of_samples_come_from_one_engine_each(started: Any) -> None:
    """Prompts are dealt round; all samples of a prompt come from the same engine, whatever the order of arrival."""
    started.models.weights.push(version=7)
    prompts = [Prompt(prompt_id=f"p{i}", text="", token_ids=(i + 1,), answer="") for i in range(5)]
    rollouts = list(started.models.generator.generate(prompts, SAMPLING, step=3))
    assert sorted(f"3/{i}/{s}" for i in range(5) for s in range(3)) == sorted(r.rollout_id for r in rollouts)
    assert {(i, i % 2) for i in range(5)} == {(r.group_index, r.token_ids[1]) for r in rollouts}
    assert {7} == {r.policy_version for r in rollouts}


def test_a_push_brings_every_weight_to_every_engine(started: Any) -> None:
    """In order: begin, the bucket, finish; the engines then sample with the policy's weights, as the probe checks."""
    metrics = started.models.weights.push(version=8)
    assert Sum(2 * 8 * 4) == metrics[0].reduction
    for log in started.models.generator.group.call("history"):
        assert ["start", "p0,p1", "finish 8"] == log[-3:]
        assert 1 == log.count("init")


def test_each_bucket_is_loaded_before_the_update_ends(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a bucket for each parameter they arrive one by one, in order."""
    link = started.models.weights
    link.push(version=9)
    transfer = link.transfer
    monkeypatch.setattr(transfer, "buckets", [(param,) for bucket in transfer.buckets for param in bucket])
    link.push(version=10)
    for log in started.models.generator.group.call("history"):
        assert ["start", "p0", "p1", "finish 10"] == log[-4:]


def test_engines_without_the_policys_weights_are_found_out(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe compares log-probs after a push, and names the engine and the gap."""
    link = started.models.weights
    monkeypatch.setattr(
        type(started.models.policy),
        "logprobs",
        lambda _self, rows, **_: [torch.full(r.token_ids_T.shape, -1e4) for r in rows],
    )
    with pytest.raises(WeightTransferError, match=r"engine 0 doesn't hold the policy's weights of version 10"):
        link._compare(10, group.NO_LIMIT)


def test_a_warning_in_a_worker_becomes_an_event(started: Any) -> None:
    """Ours travel with the next result; those of other libraries stay in the log."""
    assert ["done", "done"] == started.models.policy.group.call("warn")
    told = [data["message"] for name, data in started.sink.events if name == "warning"]
    assert ["policy rank 0: the learning rate is odd", "policy rank 1: the learning rate is odd"] == sorted(told)[-2:]
    assert not any("not ours" in str(message) for message in told)
    assert "not ours" in (started.run_dir / "logs" / "policy-1.log").read_text()


def test_an_error_of_ours_comes_out_as_it_was_raised(started: Any) -> None:
    """Class, message and remedy survive the way through Ray."""
    with pytest.raises(NonFiniteError) as caught:
        started.models.policy.group.call("fail_with_remedy")
    assert ("all is lost", "begin again", 1) == (caught.value.message, caught.value.remedy, caught.value.exit_code)


def test_any_other_exception_names_worker_and_log(started: Any) -> None:
    """The message has the exception's line; the traceback is in the log that it points to."""
    with pytest.raises(WorkerError, match=r"policy rank [01] on this machine failed: KeyError: 'nowhere'") as caught:
        started.models.policy.group.call("fail", "nowhere")
    log = Path(caught.value.remedy.removeprefix("the traceback is in "))
    assert "Traceback (most recent call last)" in log.read_text()
    assert caught.value.__cause__ is None, "no Ray traceback comes along"


def test_a_time_limit_names_who_is_late(started: Any) -> None:
    """A call that doesn't end in time raises, with the tails of the logs."""
    limit = Deadline(0.3, "the collective", remedy="wait longer")
    with pytest.raises(
        WorkerTimeoutError, match=r"the collective took longer than 0.3 s; not done: policy rank 0"
    ) as e:
        started.models.policy.group.call("collective", 1.0, limit=limit)
    assert "| policy 1 in a collective" in e.value.message


def test_a_long_silence_of_the_engines_is_told_and_nothing_else(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that still works is named, with the tail of its log; its result comes in the end."""
    monkeypatch.setattr(group, "QUIET_S", 0.5)
    began = len(started.sink.events)
    results = list(started.models.generator.group.streams("dawdle", [(0.0,), (1.8,)]))
    assert ["a result", "a result"] == results
    name, data = started.sink.events[began:][-1]
    assert ("warning", "engine") == (name, data["role"])
    assert data["message"].startswith("nothing came of dawdle for 0.5 s; still at work: engine 1; see ")
    assert ["engine 1"] == list(data["logs"])
    assert "| thinking" in data["logs"]["engine 1"]


def test_a_long_silence_of_ranks_is_told_and_the_call_goes_on(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call without a limit may take its time, but the user hears what is waited for and who is at work."""
    monkeypatch.setattr(group, "QUIET_S", 0.5)
    began = len(started.sink.events)
    assert [None, None] == started.models.policy.group.call("collective", 1.2)
    name, data = started.sink.events[began:][-1]
    assert ("warning", "policy") == (name, data["role"])
    assert data["message"].startswith(
        "nothing came of collective for 0.5 s; still at work: policy rank 0, policy rank 1"
    )


def test_workers_have_the_environment_of_the_run(started: Any) -> None:
    """CPU ranks are told so before they import anything, threads are bounded, the network is left alone."""
    group = started.models.policy.group
    assert ["cpu", "cpu"] == group.call("environment", "DS_ACCELERATOR")
    assert ["1", "1"] == group.call("environment", "OMP_NUM_THREADS")
    assert ["lo", "lo"] == group.call("environment", "GLOO_SOCKET_IFNAME")


def test_starting_is_shown(started: Any) -> None:
    """Whoever waits sees for what."""
    assert ["starting Ray", "starting 2 policy ranks", "starting 2 critic ranks", "starting 2 engines"] == (
        list(dict.fromkeys(started.sink.phases))[:4]
    )
