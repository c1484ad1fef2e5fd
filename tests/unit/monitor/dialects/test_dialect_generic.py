"""The fallback: every number of home-made lines is mapped or listed, and logs of other programs are no runs."""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from pathlib import Path

import pytest

from orz_cli.main import main
from orz_monitor.dialects.generic.dialect import Generic
from orz_monitor.dialects.generic.keys import MEANINGS, may_tell
from orz_monitor.dialects.generic.named_numbers import named_numbers
from orz_monitor.loading import load_run
from orz_monitor.log import Log, Row, place
from orz_monitor.reading import read_chunks
from orz_monitor.run import Run
from orz_monitor.transport.prefixes import Origin

pytestmark = pytest.mark.unit


def run_of(folder: Path, text: str) -> Run:
    path = folder / "train.log"
    path.write_text(text, encoding="utf-8")
    return load_run(path)


LOSSES = "step 1 loss 1 lr 3\nstep 2 loss 2 lr 3\nstep 3 loss 3 lr 3\n"


def series(run: Run) -> dict[str, tuple[list[int], list[float]]]:
    return {name: (found.steps.tolist(), found.values.tolist()) for name, found in run.metrics.items()}


def last(run: Run) -> dict[str, float]:
    return {name: float(series.values[-1]) for name, series in run.metrics.items()}


@pytest.mark.parametrize(
    ("line", "metrics", "unmapped"),
    [
        ("iteration {} | loss 0.083 | reward 0.43", {"policy/total_loss": 0.083, "reward/mean": 0.43}, ()),
        (
            "Step {}: loss 0.13, kl 0.02, zork 5",
            {"policy/total_loss": 0.13, "policy/kl_ref": 0.02, "zork": 5},
            ("zork",),
        ),
        ("metrics: {{'actor/pg_loss': 0.08, 'kl': 0.01}}", {"policy/loss": 0.08, "policy/kl_ref": 0.01}, ()),
        (
            '12:00:01 INFO [train.py:7] {{"step": {}, "loss": 0.08, "kl": [1,2], "of": {{"bleu": 3}}}}',
            {"policy/total_loss": 0.08, "policy/kl_ref": 1, "kl/1": 2, "of/bleu": 3},
            ("kl/1", "of/bleu"),
        ),
        ("Epoch 1, step {}, loss=0.1, acc=0.3", {"data/epoch": 1, "policy/total_loss": 0.1, "acc": 0.3}, ("acc",)),
        ("step {} loss 0.1 lr 1e-5", {"policy/total_loss": 0.1, "policy/lr": 1e-5}, ()),
        ("loss: 0.1 reward: 0.2 at step {}", {"policy/total_loss": 0.1, "reward/mean": 0.2}, ()),
        ("step {} loss=0.5/kl=0.1", {"policy/total_loss": 0.5, "policy/kl_ref": 0.1}, ()),
        ("iter {}/9 loss 0.3 (0.25) reward 5 [7] [8]", {"policy/total_loss": 0.3, "reward/mean": 5}, ()),
        ("[step {}] loss: 0.3 reward: 0.5", {"policy/total_loss": 0.3, "reward/mean": 0.5}, ()),
        ("Epoch {}: Mean reward: 0.5", {"data/epoch": 9, "reward/mean": 0.5}, ()),
        ("| iter {} | kl | 0.3 | Grad. Norm | 1.5 |", {"policy/kl_ref": 0.3, "policy/grad_norm": 1.5}, ()),
        (
            "iter {}/9 entropy=0.5 lr=1e-6 (took 2.5 s, 512 tokens) [7]",
            {"policy/entropy": 0.5, "policy/lr": 1e-6, "took": 2.5, "tokens": 512},
            ("tokens", "took"),
        ),
    ],
)
def test_home_made_lines(tmp_path: Path, line: str, metrics: dict[str, float], unmapped: tuple[str, ...]) -> None:
    """Each number that has a name is a value, and those without a known one are listed; totals are no metrics."""
    run = run_of(tmp_path, "".join(line.format(step) + "\n" for step in range(1, 10)))
    assert run.framework == "generic"
    assert run.steps.tolist() == list(range(1, 10))
    assert last(run) == metrics
    assert run.coverage.unrecognised == unmapped
    assert (run.coverage.unread, run.coverage.num_missed_lines) == ((), 0)


def test_what_is_no_number_is_listed(tmp_path: Path) -> None:
    """A size without a unit that is known, an address, and a value that is missing."""
    run = run_of(
        tmp_path, "step 0 loss=0.5 lr=2 size=7B host=10.0.0.1\n" + LOSSES + "{'step': 4, 'loss': 1, 'kl': None}\n"
    )
    assert last(run) == {"policy/total_loss": 1, "policy/lr": 3}
    assert run.coverage.unread == ("host", "kl", "size")


def test_lines_of_a_trainer_without_a_known_name(tmp_path: Path) -> None:
    """They count from the beginning on, once a trainer is told; a heading is the step of what is below."""
    run = run_of(
        tmp_path,
        f"step 1 | bleu 3\n{LOSSES}=== Step 4/9 ===\nStep 1/9: saving\nreward: 0.5\n"
        "step 4 | bleu 4\nsaved in 3 steps\nepoch=1 chrf=2 ter=7\n",
    )
    assert series(run) == {
        "bleu": ([1, 4], [3, 4]),
        "policy/total_loss": ([1, 2, 3], [1, 2, 3]),
        "policy/lr": ([1, 2, 3], [3, 3, 3]),
        "reward/mean": ([4], [0.5]),
        "data/epoch": ([4], [1]),
        "chrf": ([4], [2]),
        "ter": ([4], [7]),
    }


def test_settings_above_a_log_are_no_metrics(tmp_path: Path) -> None:
    """They are counted as missed, whether a file of settings or an object of Python's prints them."""
    run = run_of(tmp_path, f"kl: 0.1\n{{'actor': {{}}, 'kl': 1, 'step': 0}}\nNamespace(kl=0.3, a=1, b=2)\n{LOSSES}")
    assert series(run) == {"policy/total_loss": ([1, 2, 3], [1, 2, 3]), "policy/lr": ([1, 2, 3], [3, 3, 3])}
    assert run.coverage.num_missed_lines == 3


@pytest.mark.parametrize(
    ("numbers", "metrics", "unread"),
    [
        ("loss: 0,5 reward: -0,85", {"policy/total_loss": 0.5, "reward/mean": -0.85}, ()),
        ("loss: 0,5 reward: 1,250 kl: 2", {"policy/total_loss": 0.5, "policy/kl_ref": 2}, ("reward",)),
        ("loss: 0,5 kl: 2 gpus=0,1", {"policy/total_loss": 0.5, "policy/kl_ref": 2}, ("gpus",)),
        ("loss: 0.5 kl: 2 reward: 0,1", {"policy/total_loss": 0.5, "policy/kl_ref": 2}, ("reward",)),
        ("loss: 5 kl: 2 reward: 1,234,567", {"policy/total_loss": 5, "policy/kl_ref": 2, "reward/mean": 1234567}, ()),
        ("loss: 5 kl: 2 reward: [1,2]", {"policy/total_loss": 5, "policy/kl_ref": 2}, ("reward",)),
        ("{'loss': 0,5, 'kl': 0,25}", {"policy/total_loss": 0.5, "policy/kl_ref": 0.25}, ()),
    ],
)
def test_commas_in_numbers(tmp_path: Path, numbers: str, metrics: dict[str, float], unread: tuple[str, ...]) -> None:
    """A number with a comma is read whole, with a decimal comma where it can be nothing else, or is listed."""
    run = run_of(tmp_path, "".join(f"step {step} {numbers}\n" for step in (1, 2, 3)))
    assert (last(run), run.coverage.unread) == (metrics, unread)
    assert run.steps.tolist() == [1, 2, 3]


def test_a_decimal_comma_once_is_one_in_the_whole_log(tmp_path: Path) -> None:
    """What could have a comma between thousands is no value there, and counted."""
    lines = "step 1 loss: 1,500 kl: 1\nstep 2 loss: 0,500 kl: 2\nstep 3 loss: 1,250 kl: 3\nstep 4 loss: 0,25 kl: 4\n"
    run = run_of(tmp_path, lines)
    assert series(run) == {"policy/total_loss": ([2, 4], [0.5, 0.25]), "policy/kl_ref": ([1, 2, 3, 4], [1, 2, 3, 4])}
    assert run.coverage.num_missed_lines == 2


@pytest.mark.parametrize(("printed", "step"), [("1,000", 1000), ("1000.0", 1000), ("1e3", 1000), ("'1000'", 1000)])
def test_a_step_is_read_as_a_whole_number(tmp_path: Path, printed: str, step: int) -> None:
    """However it is printed."""
    run = run_of(tmp_path, f"step 998 loss: 1 kl: 1\nstep 999 loss: 1 kl: 1\nstep: {printed} loss: 2 kl: 1\n")
    assert run.steps.tolist() == [998, 999, step]


@pytest.mark.parametrize("printed", ["3.5", "7B", "1,5"])
def test_a_step_that_is_none_is_not_the_one_before(tmp_path: Path, printed: str) -> None:
    """Its line is counted, and so is what follows it without a step."""
    run = run_of(tmp_path, f"{LOSSES}step {printed} loss: 9 kl: 9\nkl: 8\nstep 5 loss 5 lr 3\n")
    assert series(run)["policy/total_loss"] == ([1, 2, 3, 5], [1, 2, 3, 5])
    assert run.coverage.num_missed_lines == 2


@pytest.mark.parametrize("total", ["/10", ""])
def test_steps_that_begin_anew_with_each_epoch(tmp_path: Path, total: str) -> None:
    """They are counted on: by the total, or from the last one."""
    places = [(epoch, step) for epoch in (1, 2, 3) for step in range(1, 11)]
    run = run_of(tmp_path, "".join(f"Epoch {e} Step {s}{total} loss {e} reward {s}\n" for e, s in places))
    assert series(run)["policy/total_loss"] == ([*range(1, 31)], [e for e, _ in places])


def test_steps_of_all_epochs_stay(tmp_path: Path) -> None:
    """Where they don't begin anew, an epoch changes nothing; where they begin at 0, none falls onto another."""
    run = run_of(tmp_path, "".join(f"Epoch {s // 3} Step {s} loss 1 reward {s}\n" for s in range(9)))
    assert series(run)["reward/mean"] == ([*range(9)], [*range(9)])
    run = run_of(tmp_path, "".join(f"Epoch {s // 3} Step {s % 3} loss 1 reward {s}\n" for s in range(9)))
    assert series(run)["reward/mean"] == ([*range(9)], [*range(9)])


def test_a_step_is_that_of_the_same_process(tmp_path: Path) -> None:
    """Another one, which never said where it is, has none: its line is counted."""
    lines = "".join(f"(A pid=1) step {step} loss 1 lr 3\n" for step in (1, 2, 3))
    run = run_of(tmp_path, f"{lines}(B pid=2) reward: 1.0\n(A pid=1) reward: 2.0\n")
    assert series(run)["reward/mean"] == ([3], [2])
    assert run.coverage.num_missed_lines == 1


NO_TRAINERS = {
    "settings": "optimizer:\n  lr: 1e-4\n  step: 100\nreward: 1.0\nkl: 0.001\n",
    "namespace": "Namespace(lr=1e-4, kl=0.1, epochs=3, seed=1)\n",
    "dictionary": "{'actor': {}, 'reward': 1, 'lr': 3e-4, 'step': 0}\n",
    "answers": "[response] Step 1: reward: 3 apples\nStep 2: loss: 0.5\n",
    "vllm": "INFO 01-01 10:00:00 api_server.py:7] args: Namespace(host='a', port=8000)\n"
    "Step 1: compute. loss = 0.5\nStep 2: reward: 3\nStep 3: so loss: 4\n",
    "nginx": '203.0.113.7 - - [10/Oct/2024:13:55:36 +0000] "GET /reward?step=3&loss=2 HTTP/1.1" 200 2326 "-" "curl"\n'
    '203.0.113.9 - bob [10/Oct/2024:13:55:37 +0000] "POST /api/v1/iterate HTTP/1.1" 404 153 "-" "Mozilla/5.0 (X11)"\n',
    "apt": "Get:1 http://deb.debian.org/debian bookworm/main amd64 libflossy1 amd64 1.2-3 [48.5 kB]\n"
    "Fetched 48.5 kB in 0s (251 kB/s)\nSelecting previously unselected package glossary.\n"
    "(Reading database ... 5% 10% 15%\n(Reading database ... 24387 files and directories currently installed.)\n"
    "0 upgraded, 1 newly installed, 0 to remove and 12 not upgraded.\nStep 3 of 5: unpacking, 5 files\n",
    "pip": "Collecting torch==2.4.1\n  Downloading torch-2.4.1-cp311-cp311-manylinux1_x86_64.whl (797.1 MB)\n"
    "     \u2501\u2501\u2501 797.1/797.1 MB 1.9 MB/s eta 0:00:00\nInstalling collected packages: accelerate, lossless\n"
    "Successfully installed accelerate-0.34.2 lossless-1.0\n",
    "pytest": "collected 12 items\ntests/test_loss.py ......F [ 58%]\ntests/test_reward.py ..... [100%]\n"
    "E       assert 0.5 == 0.25\nE        +  where 0.5 = loss(3)\ntests/test_loss.py:12: AssertionError\n"
    "=== 1 failed, 11 passed in 3.21s ===\nslowest: 0.51s call tests/test_loss.py::test_step[4]\n",
    "kernel": "[    0.000000] Linux version 6.1.0 (gcc-12 12.2.0) #1 SMP\n"
    "[    0.412345] ACPI: IRQ0 used by override.\n[   12.345678] e1000: eth0 NIC Link is Up 1000 Mbps Full Duplex\n"
    "[   99.1] usb 1-1: new high-speed USB device number 5 using xhci_hcd\n"
    "[  100.2] perf: interrupt took too long (2501 > 2500), lowering kernel.perf_event_max_sample_rate to 79750\n",
    "docker": "Step 1/9 : FROM python:3.11\n ---> 8a5b3c\n"
    "Step 2/9 : RUN pip install a==1.0 b=2 c=3 d=4\nStep 3/9 : ENV X=1\n",
    "ping": "64 bytes from 192.0.2.1: icmp_seq=1 ttl=64 time=0.045 ms\n"
    "4 packets transmitted, 4 received, 0% packet loss, time 3004ms\nPacket loss: 0 step: 3\n"
    "rtt min/avg/max/mdev = 0.03/0.04/0.05/0.01 ms\n",
    "prose": "In step 3 we saw the loss of 5 engines, and a reward of 100 was offered.\n"
    "It took 3 seconds, 5 files and 2 iterations; update 7 is out.\nThe first epoch, 1920 to 1930, is chapter 4.\n",
    "server": "INFO 10:00:00 update 5: uptime=300 requests=17 errors=0\n"
    "INFO 10:05:00 update 6: uptime=600 requests=19 errors=1\n",
}


@pytest.mark.parametrize("program", NO_TRAINERS)
def test_logs_of_other_programs_are_no_pass(tmp_path: Path, program: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever numbers are in them: no metric is recognised, which is exit 3."""
    path = tmp_path / "other.log"
    path.write_text(NO_TRAINERS[program] * 30, encoding="utf-8")
    assert main(["monitor", "check", str(path)]) == 3
    assert "no metric recognised" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "line",
    [
        "iteration {i}: rtt 3 ms, loss: 0.{i}%, jitter: 2 ms",
        "iteration {i}: latency 3 ms, loss: 0.{i}%, entropy: 2",
        "INFO probe step={i} host=a loss=0.0 rtt=12.3",
        "step={i} host=a loss=0.0 entropy=3 rtt=12.3",
        "epoch {i}: attestation ok, reward: 0.0003 ETH, loss: 0",
        "Epoch={i} validator=12 reward=13 balance=32",
        "Step {i} Temp 300.1 Press 1.2 entropy 3.1",
        "update {i}: stop loss: 1.2, profit 5, entropy: 3",
        "host=a loss=0.0 entropy=3 rtt=12.3",
        "step {i} lr 1e-4 learning_rate 1e-4",
        "update {i} lat=3.2 lon=5.1 accuracy=12.5 entropy=3.1",
        "iteration {i}: throughput 3 Mbit/s, loss 0.{i}, accuracy 0.9",
        "epoch={i} slot=32{i} balance=32.5 reward=0.001 loss=0.002",
        "tests/t.py::test_it[step={i}-loss=0.71-reward=0.9-kl=0.3] PASSED [5%]",
        "Step {i}/50 : ENV LR=0.9 LOSS=0.1 KL=0.1",
        "UPDATE {i} SET loss=0.5, reward=0.25, kl=0.1 WHERE id={i};",
    ],
)
def test_steps_of_other_programs_are_no_pass(tmp_path: Path, line: str) -> None:
    """Rising steps do not make a trainer of one metric, or of a word that others use, too."""
    path = tmp_path / "other.log"
    path.write_text("".join(line.replace("{i}", str(i)) + "\n" for i in range(1, 31)), encoding="utf-8")
    assert main(["monitor", "check", str(path)]) == 3


@pytest.mark.parametrize(
    "line",
    [
        "update {i} lat=3.2 accuracy=0.5 entropy=3.1",
        "step {i} load_balance_loss=0.3 reward=0.001 loss=0.002",
        "iteration {i}: throughput 3 MB/s, loss 0.{i}, accuracy 0.9",
        "iteration {i}: sync at 3 Gbit/s, loss 0.{i}, grad_norm 0.9",
        "Step {i}/50 : env reward 0.9 loss 0.1 kl 0.1",
        "UPDATE {i}: loss=0.5, reward=0.25, kl=0.1",
    ],
)
def test_a_trainer_may_use_a_word_of_others(tmp_path: Path, line: str) -> None:
    """One word that is also of satellites, chains, networks, Docker or SQL takes no run away."""
    run = run_of(tmp_path, "".join(line.replace("{i}", str(i)) + "\n" for i in range(1, 31)))
    assert run.steps.tolist() == list(range(1, 31))


@pytest.mark.parametrize(
    "lines",
    [
        "iteration 3 | loss 0.083 | reward 0.43\n",
        "step 3 | loss 0.083 | reward 0.43\n" * 9,
        "step 1 loss 1 kl 2\nstep 2 loss 1 kl 2\nstep 3 files 7\n",
    ],
)
def test_one_step_decides_nothing(tmp_path: Path, lines: str) -> None:
    """Metrics have to recur: in three steps, or in two where there are no more lines with numbers."""
    path = tmp_path / "train.log"
    path.write_text(lines, encoding="utf-8")
    assert main(["monitor", "check", str(path)]) == 3


def test_arguments_above_a_traceback_are_no_step(tmp_path: Path) -> None:
    """The log has its fault, and no metrics."""
    fault = 'Traceback (most recent call last):\n  File "a.py", line 3, in <module>\nValueError: x\n'
    run = run_of(tmp_path, f"TrainingArguments(learning_rate=5e-05, grad_norm=1.0, lr=3)\n{fault}")
    assert (dict(run.metrics), run.steps.tolist()) == ({}, [])


def num_calls(body: bytes) -> int:
    """Return how many functions are called to find the numbers of a line, those of C with them."""
    events: Counter[str] = Counter()
    sys.setprofile(lambda _frame, event, _argument: events.update([event]))
    try:
        named_numbers(body)
    finally:
        sys.setprofile(None)
    return events["call"] + events["c_call"]


@pytest.mark.parametrize(
    ("unit", "num_each"),
    [
        (b"loss 1 ", 1), (b"loss: (1 ", 1), (b"1,", 0), (b"(", 0), (b"a (", 0), (b"a=[", 0), (b"np.float64(", 0),
        (b"a b ", 0), (b"-", 0), (b"\xe2", 0), (b"?a=", 0),
    ],
)  # fmt: skip
def test_names_are_found_in_linear_time(unit: bytes, num_each: int) -> None:
    """In 256 KiB on one line: twice as much takes twice as many calls."""
    count = (1 << 18) // len(unit)
    assert len(named_numbers(unit * count)) == num_each * count
    half, whole = num_calls(unit * (count // 64)), num_calls(unit * (count // 32))
    assert 0 < whole <= 2.1 * half


def test_a_line_that_is_too_long_is_counted() -> None:
    """Its first numbers are read, none of them in halves, and that more is on it is said."""
    line = b"step 4 loss 0.5 " + b"x=12345678 " * 3000
    log: Log = read_chunks([LOSSES.encode(), line + b"\n"], dialects=[Generic])
    row = log.rows()[-1]
    assert set(row.values) == {0.5, 12345678}
    assert log.files[0].num_missed_lines == 1


@pytest.mark.parametrize("line", ["step {} a=1 b=2 c=3\n", "step {} | tokens 5 | seconds 3\n"])
def test_a_trainer_that_is_told_late(line: str) -> None:
    """Of lines that may be anybody's, the first thousand are held, and the others are counted; later ones are read."""
    lines = "".join(line.format(step) for step in range(1500))
    told = "".join(f"step {step} loss 0.5 kl 1\n" for step in range(1500, 1600))
    log = read_chunks([f"{lines}{told}{line.format(1600)}".encode()], dialects=[Generic])
    assert [row.step for row in log.rows()] == [*range(1000), *range(1500, 1601)]
    assert log.files[0].num_missed_lines == 500


@pytest.mark.parametrize(
    ("noise", "heading"),
    [
        ("epoch 0 tokenizing file {}", "=== Step {} ==="),
        ("step 0 tokenizing file {}", "Step {}/30"),
        ("epoch 0 tokenizing file {}", "step {} writes 3 files"),
        ("episode {} of game 3", "[trainer] iteration {}"),
    ],
)
def test_steps_stand_above_their_metrics_however_late(noise: str, heading: str) -> None:
    """What says where a process is is kept beyond the first thousand lines; nothing is lost of the steps."""
    lines = "".join(f"{noise.format(at)}\n" for at in range(1500))
    steps = "".join(f"{heading.format(step)}\nloss: 0.5 reward: 0.2 kl: {step}\n" for step in range(1, 31))
    log = read_chunks([(lines + steps).encode()], dialects=[Generic])
    log.entries.sort(key=place)
    Generic().number(log)
    assert [(row.step, row.values[2]) for row in log.rows() if "kl" in row.keys] == [(n, n) for n in range(1, 31)]


@pytest.mark.parametrize("name", [key for key in MEANINGS if key != "epoch"])
def test_no_name_is_overlooked(name: str) -> None:
    """The words that lines are searched for are in every known name, and so is a gate."""
    line = f"{name} 3".encode()
    assert may_tell(line)
    assert any(gate in line for gate in Generic.gates)


def test_a_process_without_steps_gets_none_of_anothers() -> None:
    """However many rows it has: each is looked at once."""
    rows = [
        Row(dialect="generic", keys=("loss",), values=array("d", [0.5]), line=at + 1, origin=Origin(role="A"))
        for at in range(20_000)
    ]
    steps = [
        Row(dialect="generic", keys=("loss",), values=array("d", [0.5]), line=at, step=3, origin=Origin(role="B"))
        for at in (20_001, 20_002)
    ]
    steps[1].step = None
    Generic().number(Log(entries=[*rows, *steps]))
    assert {row.step for row in rows} == {None}
    assert [row.step for row in steps] == [3, 3]
