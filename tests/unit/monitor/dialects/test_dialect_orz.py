"""Open-Reasoner-Zero's console: bars and dictionaries, steps, the critic's loss, and what it says in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.dialects.orz.dialect import Orz
from orz_monitor.loading import load_run
from orz_monitor.log import Entry, Log, Row, place
from orz_monitor.reading import read_chunks
from orz_monitor.run import State

pytestmark = pytest.mark.unit

PREFIX = "\x1b[36m(PolicyRayActorBase pid=24113)\x1b[0m "
CRITIC = "\x1b[36m(CriticRayActorBase pid=24258, ip=10.0.0.2)\x1b[0m "


def frames(label: str, total: int, postfixes: list[str]) -> list[str]:
    """Return a pass of a bar as tqdm writes it: each postfix with the old counter, then with the new one."""
    shown = [f"{label}:   0%|          | 0/{total} [00:00<?, ?it/s]"]
    for done, postfix in enumerate(postfixes):
        shown += [
            f"{label}:  {count}%|█▍        | {count}/{total} [00:0{count}<00:06,  6.57s/it, {postfix}]"
            for count in (done, done + 1)
        ]
    return shown


def driver(second: int, place: str, message: str) -> str:
    return f"2025-02-21 22:59:{second:02}.882 | INFO     | {place} - {message}"


def one_step(step: int, reward: float, losses: tuple[float, float]) -> str:
    critic = [f"critic_loss={loss}, values=0.4, critic_lr=5e-6" for loss in losses]
    actor = [f"pg={pg}, ret=0.0383, glen=852, tlen=1.07e+3, kl=0.08, act_lr=1e-6, ent=0.5" for pg in (0.1, 0.3)]
    return "\n".join(
        [
            driver(1, "orz.ppo.trainer:make_experience:227", "start generation"),
            driver(2, "orz.ppo.trainer:make_experience:49", "Generate sequences via vllm engines, time cost: 12.34s"),
            driver(
                3,
                "__main__:custom_reward_fn:298",
                "avg_non_stop_count: 0.0342,avg_repeat_score: 0.0213,avg_pass_at_n: 0.8594,"
                f"avg_num_tokens: {800 + step}.0",
            ),
            driver(
                4,
                "orz.ppo.trainer:make_experience:317",
                f"avg_raw_rewards: {reward}, avg_kl: 0.01, avg_response_length: 900.5, avg_orm_score: 0, "
                f"avg_custom_rewards: {reward}",
            ),
            driver(5, "orz.ppo.trainer:train:129", f"dumping replay buffer to out/iter{step}_replay_buffer.jsonl"),
            CRITIC + "\r" + "\r".join(frames("Critic Train epoch [1/1]", 24, critic)),
            PREFIX + "\r" + "\r".join(frames("Actor Train epoch [1/1]", 18, actor)),
            driver(6, "orz.ppo.trainer:train:49", "Actor model training, time cost: 99.00s"),
            driver(
                7,
                "orz.ppo.trainer:train:173",
                "{'policy_loss': 0.25, 'actor_lr': 9.99e-07, 'clip_ratio': 0.0, 'entropy': 0.4567890763282776, "
                "'kl': nan, 'response_length': 812.3, 'total_length': 998.7, 'return': 0.04, "
                "'policy_update_steps': 1.0}",
            ),
            f"\rEpisode [1/20]:  11%|█         | {step + 1}/445 [{10 * (step + 1)}:00<58:14:56, 530.88s/it]",
        ]
    )


def in_order(log: Log) -> list[Entry]:
    return sorted(log.entries, key=place)


def read(text: str) -> Log:
    return read_chunks([text.encode()], dialects=[Orz])


def test_a_pass_of_a_bar_is_one_row_of_means() -> None:
    """Each postfix counts once, though tqdm shows it twice; the next pass is another row."""
    log = read(one_step(0, 0.5, (0.01, 0.03)) + one_step(1, 0.5, (0.05, 0.07)))
    bars = [entry for entry in in_order(log) if isinstance(entry, Row) and entry.bar is not None]
    assert [(row.count, row.bar) for row in bars] == [(2, (0, 1, 24)), (2, (0, 1, 18))] * 2
    assert bars[0].keys == ("bar/critic_loss", "bar/values", "bar/critic_lr")
    assert bars[0].values[0] == pytest.approx(0.02)
    assert bars[3].values[0] == pytest.approx(0.2)


def test_steps_and_values_of_a_whole_run(tmp_path: Path) -> None:
    """Step numbers are ORZ's own, and the critic's loss is not what ORZ divided it to."""
    path = tmp_path / "train.log"
    text = "\n".join(one_step(step, 0.1 * step, (0.01, 0.03)) for step in range(3))
    path.write_text(text + driver(9, "orz.ppo.trainer:train:196", "Successfully save model weights, training done."))
    run = load_run(path)
    assert run.framework == "orz"
    assert run.steps.tolist() == [0, 1, 2]
    assert run.state is State.FINISHED
    assert run.series("reward/mean").values.tolist() == pytest.approx([0.0, 0.1, 0.2])
    assert run.series("policy/loss").values.tolist() == [0.25] * 3
    assert run.series("critic/loss").values.tolist() == pytest.approx([0.02 * (24 // 12)] * 3)
    assert run.series("rollout/response_tokens_mean").values.tolist() == [800, 801, 802]
    assert run.series("rollout/truncated_frac").values.tolist() == [0.0342] * 3
    assert run.metrics["bar/pg"].values.tolist() == pytest.approx([0.2] * 3)
    assert run.seconds["generate"].values.tolist() == [12.34] * 3
    assert run.seconds["total"].steps.tolist() == [1, 2]
    assert run.seconds["total"].values.tolist() == [600, 600]
    assert len(run.metrics["policy/kl_ref"].values) == 3
    assert run.series("policy/kl_ref").steps.tolist() == []  # all NaN, and they are kept
    assert run.metrics["policy/kl_ref"].estimator == "k3"
    place = run.metrics["reward/mean"]
    assert place.lines is not None
    assert text.split("\n")[int(place.lines[1]) - 1].count("avg_custom_rewards: 0.1") == 1


def test_a_recipe_of_other_updates_scales_the_critic_by_them(tmp_path: Path) -> None:
    """The table of settings at the start says how many micro-batches an update has."""
    path = tmp_path / "train.log"
    table = driver(0, "__main__:<module>:128", "--------- config key ---------        ------ value ------")
    path.write_text(f"{table}\ncritic_update_steps        6\nactor_lr     1e-6\n\n" + one_step(0, 0.5, (0.01, 0.03)))
    assert load_run(path).series("critic/loss").values.tolist() == pytest.approx([0.02 * 4])


def test_a_torn_postfix_loses_its_last_number_only() -> None:
    """Where the terminal ended within a number, half of it is not taken for the number."""
    log = read(
        f"{PREFIX}\rActor Train epoch [1/1]:  11%|█▏   | 29/256 [01:17<05:03,  1.34s/it, pg=-0.178, kl=0.0, ent=0.4"
    )
    row = next(entry for entry in log.entries if isinstance(entry, Row))
    assert dict(zip(row.keys, row.values, strict=True)) == {"bar/pg": -0.178, "bar/kl": 0.0}


def steps_after(bars: list[str]) -> list[int | None]:
    """Return the step that a timer behind each bar belongs to."""
    timer = driver(1, "orz.ppo.trainer:train:49", "Broadcast actor weights, time cost: 1.00s")
    log = read("\n".join(f"Episode {bar} [6:55:57<58:14:56, 530.88s/it]\n{timer}" for bar in bars) + "\n")
    log.entries.sort(key=place)
    Orz().number(log)
    return [row.step for row in in_order(log) if isinstance(row, Row) and row.keys != ("time/step",)]


@pytest.mark.parametrize(
    ("bars", "steps"),
    [
        (["[2/20]:   3%|▎  | 3/100"], [103]),
        (["[1/2]: 100%|█| 64/64", "[2/2]:   6%|▋  | 1/16", "[2/2]:  12%|█  | 2/16"], [64, 65, 66]),
        (["[2/4]: 100%|█| 9/9", "[3/4]:  11%|█| 1/9", "[4/4]:  50%|█| 1/2"], [18, 19, 28]),
        (["[1/3]: 100%|█| 9/9", "[3/3]:  50%|█| 1/2", "[1/3]:  33%|█| 3/9", "[2/3]:  11%|█| 1/9"], [9, 19, 3, 10]),
    ],
    ids=["begun in the middle", "a shorter last one", "begun in the middle, with a shorter last one", "gone back"],
)
def test_the_episodes_bars_count_the_steps_of_all_episodes(bars: list[str], steps: list[int]) -> None:
    """Step 3 of the second episode of 100 is 103; behind one of 64 the first step of one of 16 is 65."""
    assert steps == steps_after(bars)


def test_an_episode_of_absurd_length_is_no_error() -> None:
    """What its steps are is unknown, but the log can be read."""
    (step,) = steps_after(["[999999/999999]:   1%|▎  | 5/999999999999999"])
    assert step is not None
    assert step <= 10**15


def test_bars_are_known_to_have_three_digits() -> None:
    """A value of a bar carries the size of its last digit."""
    log = read(one_step(0, 0.5, (0.0123, 0.0301)))
    assert log.precisions["orz", "bar/critic_loss"].kind == "significant"
    assert log.precisions["orz", "bar/critic_loss"].digits == 3
    assert log.precisions["orz", "entropy"].kind == "exact"


def test_any_cut_into_chunks_gives_the_same_entries() -> None:
    """Bytes arrive in pieces; what is read does not depend on them."""
    data = one_step(0, 0.5, (0.01, 0.03)).encode()
    whole = read_chunks([data], dialects=[Orz])
    for size in (1, 7, 64, 1000):
        parts = read_chunks([data[i : i + size] for i in range(0, len(data), size)], dialects=[Orz])
        assert [(type(e), e.line) for e in in_order(parts)] == [(type(e), e.line) for e in in_order(whole)]
        read_in_parts = [e.values for e in in_order(parts) if isinstance(e, Row)]
        for ours, theirs in zip(read_in_parts, [e.values for e in in_order(whole) if isinstance(e, Row)], strict=True):
            assert ours.tolist() == pytest.approx(theirs.tolist(), nan_ok=True)


def glued_step(step: int) -> str:
    """A step whose dictionary stands right behind the bar, on its line, and the next critic's bar behind that."""
    text = one_step(step, 0.5, (0.01, 0.03))
    timed = driver(6, "orz.ppo.trainer:train:49", "Actor model training, time cost: 99.00s")
    return text.replace(f"\n{timed}\n", "").replace("]\n\x1b", "]\x1b") + "\n"


@pytest.mark.parametrize("size", [0, 1, 7, 1000])
def test_a_dictionary_behind_its_bar_ends_the_bars_step(size: int) -> None:
    """Bars are read before dictionaries, or line by line: what stands first on a line is first either way."""
    data = "".join(glued_step(step) for step in range(3)).encode()
    lines = data.splitlines(keepends=True) if size == 0 else [data[i : i + size] for i in range(0, len(data), size)]
    numbered = []
    for chunks in ([data], lines):
        log = read_chunks(chunks, dialects=[Orz])
        log.entries.sort(key=place)
        Orz().number(log)
        numbered.append([(row.step, row.keys[0]) for row in in_order(log) if isinstance(row, Row)])
    assert numbered[1] == numbered[0]
    kinds = ("bar/critic_loss", "bar/pg", "policy_loss")
    steps = [(step, key) for step, key in numbered[0] if key in kinds]
    assert steps == [(step, key) for step in range(3) for key in kinds]
    shared = [entry.line for entry in in_order(read_chunks([data], dialects=[Orz])) if isinstance(entry, Row)]
    assert len(shared) > len(set(shared))  # lines are shared, or this would show nothing
