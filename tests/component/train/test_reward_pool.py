"""The pool of killable reward workers."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from orz_train.config.rollouts import Reward
from orz_train.rewards.pool import RewardPool
from orz_train.types import FinishReason, Prompt, Rollout, Score, ScoreStatus

pytestmark = pytest.mark.component

FUNCTIONS = '''
import asyncio, ctypes, logging, os, re, signal, subprocess, sys, time, warnings
from orz_train.types import Score

def reward(prompt, rollout):
    """Do what the response says."""
    return globals()[rollout.text](prompt, rollout)

def ok(prompt, rollout): return 1.0
def zero(prompt, rollout): return 0.0
def pid(prompt, rollout): return Score(reward=1.0, facts={"pid": os.getpid(), "torch": "torch" in sys.modules})
def slow(prompt, rollout): time.sleep(0.6); return 1.0
def raises(prompt, rollout): return 1 / 0
def leaves(prompt, rollout): sys.exit(0)
def interrupts(prompt, rollout): raise KeyboardInterrupt
def text(prompt, rollout): return "1.0"
def nothing(prompt, rollout): return None
def nan(prompt, rollout): return float("nan")
def recurses(prompt, rollout): return recurses(prompt, rollout)
def odd(prompt, rollout): raise type("Odd", (Exception,), {"__str__": lambda self: "odd"})()
def sleeps(prompt, rollout): time.sleep(1000)
def spins(prompt, rollout):
    while True: pass
def holds_the_gil(prompt, rollout): return re.match(r"(a|aa)+$", "a" * 100 + "b") is None
def swallows(prompt, rollout):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        try: time.sleep(1000)
        except BaseException: pass
def exits(prompt, rollout): os._exit(3)
def exits_well(prompt, rollout): os._exit(0)
def segfaults(prompt, rollout): ctypes.string_at(0)
def killed(prompt, rollout): os.kill(os.getpid(), signal.SIGKILL)
def killed_by_a_number(prompt, rollout): os.kill(os.getpid(), 36)
def floods(prompt, rollout):
    print("flood " * 10_000, flush=True); print("flood", file=sys.stderr)
    os.write(1, b"flood"); os.write(2, b"flood"); warnings.warn("flood"); logging.error("flood")
    subprocess.run(["echo", "flood"])
    return 1.0
def reads_a_file(prompt, rollout): return float(open("beside.txt").read())

async def judge(prompt, rollout):
    await asyncio.sleep(0.01)
    return float(rollout.text == prompt.answer)
async def loop_id(prompt, rollout): return Score(reward=1.0, facts={"loop": id(asyncio.get_running_loop())})
async def async_sleeps(prompt, rollout): await asyncio.sleep(1000)
async def async_raises(prompt, rollout): raise RuntimeError("the judge is down")
'''

PROMPT = Prompt(prompt_id="train:1", text="3+4=", token_ids=(1, 2), answer="7", meta={"level": 3})


def _rollout(text: str, *, finish: FinishReason = FinishReason.STOP, num_tokens: int = 1) -> Rollout:
    return Rollout(
        rollout_id="1/train:1/0", prompt_id="train:1", group_index=0, token_ids=(1, 2, *range(num_tokens)),
        prompt_len=2, sampler_logprobs=(-0.5,) * num_tokens, finish=finish, policy_version=0, text=text,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    (folder / "pool_functions.py").write_text(FUNCTIONS)
    (folder / "beside.txt").write_text("0.25")
    return folder


@pytest.fixture(autouse=True)
def _in_the_users_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


@pytest.fixture(scope="module")
def pool(folder: Path) -> Iterator[RewardPool]:
    """Share one pool: what a test does to its workers must not show in the next one."""
    with RewardPool("pool_functions:reward", workers=2, timeout_s=1) as pool:
        yield pool


def _children() -> set[int]:
    """Return the worker processes of this process."""
    return {process.pid for process in multiprocessing.active_children() if process.pid is not None}


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def _wait_until_dead(pids: set[int], seconds: float) -> set[int]:
    deadline = time.monotonic() + seconds
    while (alive := {pid for pid in pids if _alive(pid)}) and time.monotonic() < deadline:
        time.sleep(0.05)
    return alive


def _pid(pool: RewardPool) -> int:
    return int(pool.submit(PROMPT, _rollout("pid")).result().facts["pid"])


def test_the_shipped_function_scores() -> None:
    """The default function reads ORZ's format; a wrong answer is 0 and no error."""
    with RewardPool.from_config(Reward()) as pool:
        right = pool.submit(PROMPT, _rollout(r"</think><answer>\boxed{\frac{14}{2}}</answer>"))
        wrong = pool.submit(PROMPT, _rollout(r"</think><answer>\boxed{8}</answer>"))
        assert Score(reward=1.0, facts={"extracted": r"\frac{14}{2}"}) == right.result()
        assert Score(reward=0.0, facts={"extracted": "8"}) == wrong.result()


@pytest.mark.parametrize("answer", ["9^9^9^9", "9^{9^{9^{9}}}+x", "(10^9)!", r"\binom{10^{9}}{10^{8}}+x"])
def test_a_monstrous_answer_does_not_stop_the_pool(answer: str) -> None:
    """An answer that can't be evaluated is wrong or timed out, within the time-out; the next one is scored."""
    with RewardPool("math", workers=1, timeout_s=2) as pool:
        pool.submit(PROMPT, _rollout("")).result()
        start = time.monotonic()
        score = pool.submit(PROMPT, _rollout(rf"<answer>\boxed{{{answer}}}</answer>")).result()
        assert time.monotonic() - start < 2 + 8
        expected = 0.0
        assert expected == score.reward
        right = pool.submit(PROMPT, _rollout(r"<answer>\boxed{7}</answer>")).result()
        assert Score(reward=1.0, facts={"extracted": "7"}) == right


def test_a_truncated_response_is_not_scored() -> None:
    """By default a response cut at the token limit has reward 0, and the function never sees it."""
    cut = _rollout("raises", finish=FinishReason.LENGTH, num_tokens=5)
    before = _children()
    with RewardPool("pool_functions:reward", workers=1) as pool:
        assert Score(reward=0.0, facts={"truncated": "cut after 5 tokens"}) == pool.submit(PROMPT, cut).result()
        assert before == _children()
    with RewardPool("pool_functions:reward", workers=1, only_if_stopped=False) as pool:
        assert "ZeroDivisionError" in pool.submit(PROMPT, cut).result().facts["error"]


@pytest.mark.parametrize(
    ("error", "response"),
    [
        ("ZeroDivisionError: division by zero (", "raises"),
        ("SystemExit: 0 (", "leaves"),
        ("KeyboardInterrupt (", "interrupts"),
        ("RecursionError: maximum recursion depth exceeded", "recurses"),
        ("odd", "odd"),
        ("killed by signal 36 (", "killed_by_a_number"),
        ("reward is str '1.0', expected a number or a Score", "text"),
        ("reward is NoneType None, expected a number or a Score", "nothing"),
        ("reward is nan, expected a finite number", "nan"),
        ("KeyError: 'no such thing' (", "no such thing"),
        ("the reward function ended its process with exit code 3", "exits"),
        ("the worker was killed by signal 11 (", "segfaults"),
        ("the worker was killed by signal 9 (", "killed"),
    ],
)
def test_a_failing_function_gives_an_error_score(pool: RewardPool, error: str, response: str) -> None:
    """Whatever the function does wrong, the response is unscored with the reason, and the next one is scored."""
    score = pool.submit(PROMPT, _rollout(response)).result()
    assert Score(reward=0.0, status=ScoreStatus.ERROR, facts={"error": score.facts["error"]}) == score
    assert error in score.facts["error"]
    assert Score(reward=1.0) == pool.submit(PROMPT, _rollout("ok")).result()


def test_an_error_names_the_users_line(pool: RewardPool) -> None:
    """The reason ends with the file and line of the user's code."""
    line = 1 + FUNCTIONS.splitlines().index("def raises(prompt, rollout): return 1 / 0")
    error = pool.submit(PROMPT, _rollout("raises")).result().facts["error"]
    assert error.endswith(f"pool_functions.py:{line})")


@pytest.mark.parametrize("response", ["sleeps", "spins", "holds_the_gil", "swallows", "exits_well"])
def test_a_hanging_function_is_killed(response: str) -> None:
    """After the time-out the response is unscored, the worker is gone, and another one takes its place."""
    with RewardPool("pool_functions:reward", workers=1, timeout_s=1) as pool:
        before = _pid(pool)
        start = time.monotonic()
        score = pool.submit(PROMPT, _rollout(response)).result()
        took = time.monotonic() - start
        expected = Score(reward=0.0, status=ScoreStatus.TIMEOUT, facts={"error": "no score after 1 s"})
        assert expected == score
        assert took < 1 + 9  # one that swallows the polite signal gets three seconds more
        assert before != _pid(pool)
        assert not _alive(before)


def test_workers_import_no_torch(pool: RewardPool) -> None:
    """A killed worker is back in a moment: neither it nor the first one brings torch."""
    first = pool.submit(PROMPT, _rollout("pid")).result()
    pool.submit(PROMPT, _rollout("killed")).result()
    scores = [first, *(pool.submit(PROMPT, _rollout("pid")).result() for _ in range(4))]
    assert {"False"} == {score.facts["torch"] for score in scores}


def test_time_in_the_queue_does_not_count() -> None:
    """Four responses of 0.6 s wait for one worker: none is timed out at 1 s."""
    with RewardPool("pool_functions:reward", workers=1, timeout_s=1) as pool:
        futures = [pool.submit(PROMPT, _rollout("slow")) for _ in range(4)]
        assert [Score(reward=1.0)] * 4 == [future.result() for future in futures]


def test_one_hanging_response_delays_no_other(pool: RewardPool) -> None:
    """While one worker hangs, the other works on."""
    hanging = pool.submit(PROMPT, _rollout("sleeps"))
    assert Score(reward=0.0) == pool.submit(PROMPT, _rollout("zero")).result()
    assert not hanging.done()
    assert ScoreStatus.TIMEOUT is hanging.result().status


def test_async_functions() -> None:
    """An async function is awaited, fails and times out like a plain one, on one event loop a worker."""
    with RewardPool("pool_functions:judge", workers=1) as pool:
        assert Score(reward=1.0) == pool.submit(PROMPT, _rollout("7")).result()
        assert Score(reward=0.0) == pool.submit(PROMPT, _rollout("8")).result()
    with RewardPool("pool_functions:reward", workers=1, timeout_s=1) as pool:
        loops = {pool.submit(PROMPT, _rollout("loop_id")).result().facts["loop"] for _ in range(3)}
        assert len(loops) == 1
        assert (
            "RuntimeError: the judge is down" in pool.submit(PROMPT, _rollout("async_raises")).result().facts["error"]
        )
        assert ScoreStatus.TIMEOUT is pool.submit(PROMPT, _rollout("async_sleeps")).result().status


def test_submitting_from_threads(pool: RewardPool) -> None:
    """Any thread may submit and wait."""
    with ThreadPoolExecutor(8) as threads:
        scores = list(threads.map(lambda _: pool.submit(PROMPT, _rollout("ok")).result(), range(200)))
    assert [Score(reward=1.0)] * 200 == scores


def test_waiting_in_asyncio(pool: RewardPool) -> None:
    """The futures can be awaited, and cancelling the wait doesn't cancel the score."""

    async def wait() -> list[Score]:
        futures = [asyncio.wrap_future(pool.submit(PROMPT, _rollout("ok"))) for _ in range(5)]
        return await asyncio.gather(*futures)

    assert [Score(reward=1.0)] * 5 == asyncio.run(wait())
    future = pool.submit(PROMPT, _rollout("slow"))
    assert not future.cancel()
    assert Score(reward=1.0) == future.result()


def test_an_idle_worker_may_die(pool: RewardPool) -> None:
    """A worker killed between two responses (out of memory, say) costs no score."""
    for _ in range(3):
        os.kill(_pid(pool), signal.SIGKILL)
        assert Score(reward=1.0) == pool.submit(PROMPT, _rollout("ok")).result()
        time.sleep(0.3)
        assert Score(reward=1.0) == pool.submit(PROMPT, _rollout("ok")).result()


def test_the_function_finds_files_beside_it(pool: RewardPool) -> None:
    """Workers run in the folder in which the pool was started."""
    assert Score(reward=0.25) == pool.submit(PROMPT, _rollout("reads_a_file")).result()


def test_a_prompt_that_cannot_be_sent(pool: RewardPool) -> None:
    """What the user put into `meta` may not survive the way to another process; that too is an error score."""
    prompt = Prompt(prompt_id="a", text="", token_ids=(1,), answer="", meta={"lock": threading.Lock()})
    score = pool.submit(prompt, _rollout("ok")).result()
    assert score.facts["error"].startswith("the prompt can't be sent to a worker: TypeError: ")


def test_a_function_that_cannot_be_imported() -> None:
    """A worker without a function says so in every score, instead of dying again and again."""
    with RewardPool("pool_functions:no_such", workers=1) as pool:
        for _ in range(2):
            score = pool.submit(PROMPT, _rollout("ok")).result()
            assert ScoreStatus.ERROR is score.status
            assert "pool_functions has no 'no_such'" in score.facts["error"]


def test_closing_leaves_nothing_behind() -> None:
    """After `close` no process is left, whatever was still to do has a score, and so has what comes later."""
    before = _children()
    pool = RewardPool("pool_functions:reward", workers=2, timeout_s=100)
    futures: list[Future[Score]] = [pool.submit(PROMPT, _rollout("sleeps", num_tokens=20_000)) for _ in range(50)]
    time.sleep(0.5)
    workers = _children() - before
    expected = 2
    assert expected == len(workers)
    start = time.monotonic()
    pool.close()
    pool.close()
    assert time.monotonic() - start < 10
    assert set() == _wait_until_dead(workers, 5)
    closed = Score(reward=0.0, status=ScoreStatus.ERROR, facts={"error": "the reward pool was closed"})
    assert [closed] * 50 == [future.result(timeout=0) for future in futures]
    assert closed == pool.submit(PROMPT, _rollout("ok")).result(timeout=0)


def test_a_timeout_that_means_never() -> None:
    """A time-out beyond what clocks count to is no error."""
    with RewardPool("pool_functions:reward", workers=1, timeout_s=1e15) as pool:
        assert Score(reward=1.0) == pool.submit(PROMPT, _rollout("ok")).result()


def test_closing_a_pool_that_never_worked() -> None:
    """A pool starts no process before its first response."""
    before = _children()
    RewardPool("pool_functions:reward").close()
    assert before == _children()


SCRIPT = """
    import sys, time
    from orz_train.rewards.pool import RewardPool
    from orz_train.types import FinishReason, Prompt, Rollout
    def submit(pool, text):
        prompt = Prompt(prompt_id="a", text="", token_ids=(1,), answer="7")
        return pool.submit(prompt, Rollout(rollout_id="r", prompt_id="a", group_index=0, token_ids=(1, 2), prompt_len=1,
            sampler_logprobs=(0.0,), finish=FinishReason.STOP, policy_version=0, text=text))
    if __name__ == "__main__":
        pool = RewardPool("pool_functions:reward", workers=2, timeout_s=100)
        pids = set()
        while len(pids) < 2:
            pids.add(submit(pool, "pid").result().facts["pid"])
            submit(pool, "slow"); time.sleep(0.05)
        print(*pids, flush=True)
"""


def _start(folder: Path, ending: str) -> tuple[subprocess.Popen[bytes], set[int]]:
    """Run a program that starts a pool of two workers; return it and its workers."""
    body = textwrap.dedent(SCRIPT) + textwrap.indent(textwrap.dedent(ending), "    ")
    (folder / "program.py").write_text(body)
    program = subprocess.Popen(
        [sys.executable, "program.py"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert program.stdout is not None
    return program, {int(pid) for pid in program.stdout.readline().split()}


@pytest.mark.parametrize("response", ["sleeps", "spins", "pid"])
def test_workers_die_with_a_killed_parent(folder: Path, response: str) -> None:
    """SIGKILL to the parent ends its workers within seconds, idle or in the middle of a response."""
    ending = f"for _ in range(2): submit(pool, {response!r})\nprint('busy', flush=True)\ntime.sleep(100)\n"
    program, workers = _start(folder, ending)
    assert program.stdout is not None
    program.stdout.readline()
    time.sleep(0.7)
    assert workers == {pid for pid in workers if _alive(pid)}
    program.kill()
    assert set() == _wait_until_dead(workers, 10)
    program.communicate()


def test_interrupts_do_not_reach_workers(folder: Path) -> None:
    """Ctrl-C goes to the whole process group; workers ignore it from their first moment and print nothing."""
    ending = """
        import signal
        signal.signal(signal.SIGINT, lambda number, frame: None)  # what the parent does is its own affair
        print("ready", flush=True)
        for _ in range(4):  # each time one worker is just starting
            error = submit(pool, "killed").result().facts["error"]
            assert "signal 9" in error, error
            assert submit(pool, "ok").result().reward == 1.0
            assert submit(pool, "slow").result().reward == 1.0
        pool.close()
        print("closed", flush=True)
    """
    program, workers = _start(folder, ending)
    assert program.stdout is not None
    program.stdout.readline()
    while program.poll() is None:
        os.killpg(program.pid, signal.SIGINT)
        time.sleep(0.003)
    stdout, stderr = program.communicate(timeout=30)
    assert (b"closed\n", b"") == (stdout, stderr)
    assert set() == _wait_until_dead(workers, 5)


def test_what_the_function_prints_is_not_shown(folder: Path) -> None:
    """Prints, warnings, log records and child processes of a reward function reach no terminal."""
    ending = 'assert submit(pool, "floods").result().reward == 1.0\npool.close()\n'
    program, _ = _start(folder, ending)
    assert (b"", b"") == program.communicate(timeout=30)
    assert not program.returncode


def test_a_program_may_forget_to_close(folder: Path) -> None:
    """The program ends by itself, quietly, and so do its workers, one of them busy."""
    program, workers = _start(folder, 'submit(pool, "sleeps"); time.sleep(0.3)\n')
    assert (b"", b"") == program.communicate(timeout=30)
    assert not program.returncode
    assert set() == _wait_until_dead(workers, 5)
