"""The fallback: every number of home-made lines is mapped or listed, and logs of other programs are no runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_cli.main import main
from orz_monitor.dialects.generic import Generic
from orz_monitor.dialects.generic_keys import MEANINGS, may_tell
from orz_monitor.dialects.named_numbers import named_numbers
from orz_monitor.loading import load_run
from orz_monitor.log import Log
from orz_monitor.reading import read_chunks
from orz_monitor.run import Run

pytestmark = pytest.mark.unit


def run_of(folder: Path, text: str) -> Run:
    path = folder / "train.log"
    path.write_text(text, encoding="utf-8")
    return load_run(path)


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
            '12:00:01 INFO [train.py:7] {{"step": {}, "loss": 0.08, "of": {{"bleu": 3}}}}',
            {"policy/total_loss": 0.08, "of/bleu": 3},
            ("of/bleu",),
        ),
        ("Epoch 1, step {}, loss=0.1", {"data/epoch": 1, "policy/total_loss": 0.1}, ()),
        ("[step {}] loss: 0.3 reward: 0.5", {"policy/total_loss": 0.3, "reward/mean": 0.5}, ()),
        ("Epoch {}: Mean reward: 0.5", {"data/epoch": 9, "reward/mean": 0.5}, ()),
        ("| iter {} | kl | 0.3 | Grad. Norm | 1.5 |", {"policy/kl_ref": 0.3, "policy/grad_norm": 1.5}, ()),
        (
            "iter {}/9 entropy=0.5 lr=1e-6 (took 2.5 s, 512 tokens) [7]",
            {"policy/entropy": 0.5, "policy/lr": 1e-6, "iter/of": 9, "took": 2.5, "tokens": 512, "unnamed": 7},
            ("iter/of", "tokens", "took", "unnamed"),
        ),
    ],
)
def test_home_made_lines(tmp_path: Path, line: str, metrics: dict[str, float], unmapped: tuple[str, ...]) -> None:
    """Each number is a value, and those without a known name are listed."""
    run = run_of(tmp_path, "".join(line.format(step) + "\n" for step in range(1, 10)))
    assert run.framework == "generic"
    assert run.steps.tolist() == list(range(1, 10))
    assert last(run) == metrics
    assert run.coverage.unrecognised == unmapped
    assert (run.coverage.unread, run.coverage.num_missed_lines) == ((), 0)


def test_what_is_no_number_is_listed(tmp_path: Path) -> None:
    """A size without a unit that is known, an address, and a value that is missing."""
    run = run_of(tmp_path, "step 1 loss=0.5 size=7B host=10.0.0.1\n{'step': 2, 'loss': 0.25, 'kl': None}\n")
    assert last(run) == {"policy/total_loss": 0.25}
    assert run.coverage.unread == ("host", "kl", "size")


def test_lines_of_a_trainer_without_a_known_name(tmp_path: Path) -> None:
    """They count from the beginning on, once a trainer is told; a heading is the step of what is below."""
    run = run_of(
        tmp_path,
        "step 1 | bleu 3\n=== Step 2/9 ===\nStep 1/9: saving\nreward: 0.5\n"
        "step 2 | bleu 4\nsaved in 3 steps\nepoch=1 chrf=2 ter=7\n",
    )
    assert {name: (s.steps.tolist(), s.values.tolist()) for name, s in run.metrics.items() if name != "Step/of"} == {
        "bleu": ([1, 2], [3, 4]),
        "reward/mean": ([2], [0.5]),
        "data/epoch": ([2], [1]),
        "chrf": ([2], [2]),
        "ter": ([2], [7]),
    }


NO_TRAINERS = {
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
    ("unit", "num_each"),
    [
        (b"loss 1 ", 1), (b"loss: (1 ", 1), (b"1,", 1), (b"(", 0), (b"a (", 0), (b"a=[", 0), (b"np.float64(", 0),
        (b"a b ", 0), (b"-", 0), (b"\xe2", 0), (b"?a=", 0),
    ],
)  # fmt: skip
def test_names_are_found_in_linear_time(unit: bytes, num_each: int) -> None:
    """In 256 KiB on one line: work that grew with the square of the length would take many minutes."""
    count = (1 << 18) // len(unit)
    assert len(named_numbers(unit * count)) == num_each * count


def test_a_line_that_is_too_long_is_counted() -> None:
    """Its first numbers are read, none of them in halves, and that more is on it is said."""
    line = b"step 1 loss 0.5 " + b"x=12345678 " * 3000
    log: Log = read_chunks([line + b"\n"], dialects=[Generic])
    (row,) = log.rows()
    assert set(row.values) == {0.5, 12345678}
    assert log.files[0].num_missed_lines == 1


def test_a_trainer_that_is_told_late() -> None:
    """Of lines that may be anybody's, the first thousand are held, and the others are counted; later ones are read."""
    lines = "".join(f"step {step} a=1 b=2 c=3\n" for step in range(1500))
    log = read_chunks([f"{lines}step 1500 loss 0.5\nstep 1501 a=4 b=5 c=6\n".encode()], dialects=[Generic])
    assert [row.step for row in log.rows()] == [*range(1000), 1500, 1501]
    assert log.files[0].num_missed_lines == 500


@pytest.mark.parametrize("name", [key for key in MEANINGS if key != "epoch"])
def test_no_name_is_overlooked(name: str) -> None:
    """The words that lines are searched for are in every known name, and so is a gate."""
    line = f"{name} 3".encode()
    assert may_tell(line)
    assert any(gate in line for gate in Generic.gates)
