"""`orz` as a process: what it imports, how long it takes, what a shell sees."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from orz_cli.commands import discover
from orz_cli.versions import ORZ_PACKAGES

pytestmark = pytest.mark.component

HELP_BUDGET_S = 0.5
POSIX_ONLY = ("fcntl", "grp", "pwd", "resource", "syslog", "termios", "tty")
"""Modules that Windows does not have. The standard library copes; so have the packages that promise to."""


def orz(*arguments, **environment):
    """Run `orz` in a process of its own, in a pipe."""
    command = [sys.executable, "-m", "orz_cli", *arguments]
    return subprocess.run(
        command, capture_output=True, check=False, text=True, env={**os.environ, **environment}, timeout=60
    )


def python(code):
    """Run code in a fresh interpreter and return what it prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=60).stdout


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    """Return a function that installs a package with one command, seen by child processes."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)

    def make(name, source):
        (tmp_path / f"plug_{name}.py").write_text(source)
        info = tmp_path / f"plug_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plug-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[orz.commands]\n{name} = plug_{name}:command\n")

    return make


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not count the time of child processes")
def test_help_is_quick():
    """`orz --help` with all four packages takes less than half a second, the interpreter's start included.

    Processor time is measured: it is the answer's time on a machine with nothing else to do, and does not fail on a
    busy one.
    """
    seconds = []
    for _ in range(3):
        before = os.times()
        assert orz("--help").returncode == 0
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert 0 < min(seconds) < HELP_BUDGET_S


def test_help_loads_no_heavy_library():
    """Listing all commands imports neither torch nor what builds on it."""
    heavy = ("torch", "transformers", "ray", "vllm", "deepspeed", "pyarrow", "tensorboard")
    code = f"""
import sys
from orz_cli.main import main
assert main(['--help']) == 0
print('loaded:', *sorted(set({heavy}) & set(sys.modules)))
"""
    assert python(code).splitlines()[-1].split() == ["loaded:"]


@pytest.mark.parametrize("command", ["ckpt", "monitor", "doctor"])
def test_light_commands_load_no_pydantic(command):
    """The packages without training need none, and it takes long to import: newer versions of typer would."""
    code = f"""
import sys
from orz_cli.main import main
assert main([{command!r}, '--help']) == 0
print('loaded:', *sorted({{name for name in sys.modules if name.startswith('pydantic')}}))
"""
    lines = python(code).splitlines()
    assert f"Usage: orz {command} [OPTIONS]" == lines[0].partition(" COMMAND")[0]
    assert lines[-1].split() == ["loaded:"]


def test_help_lists_every_command_of_the_workspace():
    """Each entry point is listed with a line of help, and nothing is broken."""
    answer = orz("--help")
    assert "" == answer.stderr
    listed = dict(
        line.split(maxsplit=1) for line in answer.stdout.split("Commands:\n")[1].split("\n\n")[0].splitlines()
    )
    assert {"ckpt", "doctor", "monitor", "plan", "train"} <= set(listed)
    assert [] == [name for name, text in listed.items() if text.startswith("Not available")]


def test_no_option_shows_the_type_of_its_number():
    """`--jobs N`, and no `<int range>`, in the help of every command and sub-command."""
    waiting = [command.load(None) for command in discover()[0].values()]
    assert {"ckpt", "monitor", "train"} <= {command.name for command in waiting}
    shown = {}
    for command in waiting:
        waiting += getattr(command, "commands", {}).values()
        context = typer.Context(command)
        shown |= {(command.name, option.name): option.make_metavar(ctx=context) for option in command.params}
    assert ("N", "NUMBER") == (shown["merge", "jobs"], shown["locate", "seconds"])
    assert {} == {place: text for place, text in shown.items() if text.startswith(("<int", "<float"))}


def test_version_lists_the_workspace():
    """All four packages have one version."""
    versions = dict(line.split(maxsplit=1) for line in orz("--version").stdout.splitlines())
    assert set(ORZ_PACKAGES) <= set(versions)
    assert 1 == len({versions[name] for name in ORZ_PACKAGES})


def test_a_broken_package_leaves_the_others_alone(plug_in):
    """The broken one is warned about in the list, answers with its reason and 2, and silent elsewhere."""
    plug_in("broken", "import nothing_like_it")
    listing = orz("--help")
    assert (0, True) == (listing.returncode, "Not available: No module named 'nothing_like_it'" in listing.stdout)
    assert "warning: `orz broken` is not available: plug-broken 1.0 cannot be loaded" in listing.stderr
    broken = orz("broken", "--help")
    assert (2, "") == (broken.returncode, broken.stdout)
    assert "ModuleNotFoundError: No module named 'nothing_like_it'" in broken.stderr
    assert "" == orz("--version").stderr


@pytest.mark.parametrize(
    ("environment", "written"),
    [
        ({"PYTHONIOENCODING": "ascii"}, b"OK \\xb7 a\\u2026"),
        ({"PYTHONIOENCODING": "latin-1"}, b"OK \xb7 a\\u2026"),
        pytest.param(
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""},
            b"OK \\xb7 a\\u2026",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="other systems have other encodings by default"),
        ),
        ({"PYTHONIOENCODING": "ascii:replace"}, b"OK ? a?"),
        ({"PYTHONIOENCODING": "utf-8"}, "OK \u00b7 a\u2026".encode()),
    ],
)
def test_a_stdout_that_lacks_a_character_gets_an_escape(plug_in, environment, written):
    """Whatever the encoding, the exit code is the command's; who chose what stands for such a character gets that."""
    plug_in(
        "judge",
        "import sys, typer\ndef command():\n    sys.stdout.write('OK \\u00b7 a\\u2026')\n    raise typer.Exit(1)\n",
    )
    command = [sys.executable, "-m", "orz_cli", "judge"]
    done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, **environment}, timeout=60)
    assert (1, written, b"") == (done.returncode, done.stdout, done.stderr)


def test_bytes_of_a_path_stay_what_they_are(plug_in):
    """In the C locale a path that is no text is printed as it is, so that a printed command finds the file."""
    plug_in("name", "import sys\ndef command():\n    'Name.'\n    sys.stdout.write('\\udce9 \u00b7')\n")
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    command = [sys.executable, "-m", "orz_cli", "name"]
    done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, **environment}, timeout=60)
    assert (0, b"\xe9 \\xb7") == (done.returncode, done.stdout), done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT to a child process is POSIX's")
def test_ctrl_c_is_130(plug_in):
    """An interrupt ends a command with 130 and one line, no traceback."""
    plug_in("wait", "import time\ndef command():\n    'Wait.'\n    print('waiting', flush=True)\n    time.sleep(30)\n")
    command = [sys.executable, "-m", "orz_cli", "wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert "waiting\n" == process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert (130, "error: interrupted\n") == (process.returncode, stderr)


@pytest.mark.parametrize("buffered", [True, False])
def test_a_reader_that_leaves_is_no_traceback(plug_in, buffered):
    """`orz ... | head -1` stays quiet, and does not claim success: what was cut off may have held the verdict."""
    plug_in("talk", "import typer\ndef command():\n    'Talk.'\n    for n in range(100_000): print(n)\n")
    environment = {**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"}
    command = [sys.executable, "-m", "orz_cli", "talk"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert "0\n" == process.stdout.readline()
        process.stdout.close()
        stderr = process.stderr.read()
    assert (3, "") == (process.returncode, stderr)


@pytest.mark.parametrize(("end", "code"), [("", 3), ("raise typer.Exit(1)", 1)], ids=["undecided", "failed"])
def test_a_reader_that_leaves_at_once(plug_in, end, code):
    """A short output whose reader is gone at the last flush stays quiet too; a failure keeps its own code."""
    source = f"import sys, typer\ndef command():\n    'Short.'\n    sys.stdin.read()\n    print('x')\n    {end}\n"
    plug_in("short", source)
    command = [sys.executable, "-m", "orz_cli", "short"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env={**os.environ, "PYTHONUNBUFFERED": ""}, **pipes) as process:
        process.stdout.close()
        process.stdin.close()
        stderr = process.stderr.read()
    assert (code, "") == (process.returncode, stderr)


@pytest.mark.skipif(sys.platform == "win32", reason="file descriptors of POSIX")
@pytest.mark.parametrize(("end", "code"), [("", 0), ("raise typer.Exit(1)", 1)], ids=["well", "failed"])
def test_a_closed_stdout_leaves_the_exit_code(plug_in, tmp_path, end, code):
    """`orz ... >&-` prints to nowhere; what is opened next does not get what is printed."""
    source = f"import typer\ndef command():\n    'Short.'\n    with open('x', 'w'): print('y', flush=True)\n    {end}\n"
    plug_in("short", source)
    command = [sys.executable, "-m", "orz_cli", "short"]
    answer = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *command],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert (code, "", "") == (answer.returncode, answer.stdout, answer.stderr)
    assert "" == (tmp_path / "x").read_text()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize("end", ["", "sys.stdout.flush()"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_cannot_be_written_is_undecided(plug_in, size, end, unbuffered):
    """`orz ... > /dev/full` lost what may have held the verdict: 3, in one line."""
    plug_in("short", f"import sys\ndef command():\n    'Short.'\n    print('x' * {size})\n    {end}\n")
    command = [sys.executable, "-m", "orz_cli", "short"]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:  # noqa: PTH123
        answer = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, check=False, text=True, timeout=60, env=environment
        )
    assert 3 == answer.returncode
    assert answer.stderr.startswith("error: the output cannot be written: no space is left where it goes\n  -> ")
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("written", ["", "print('x', flush=True)", "print('x')"])
def test_a_disk_that_is_full_elsewhere_leaves_stdout_alone(plug_in, written):
    """The same error of the system, which names no file: 1, and what stdout took is all that stands there."""
    source = f"import errno\ndef command():\n    'Full.'\n    {written}\n    raise OSError(errno.ENOSPC, 'full')\n"
    plug_in("full", source)
    answer = orz("full")
    assert (1, "x\n" if written else "") == (answer.returncode, answer.stdout)
    assert answer.stderr.startswith("error: no space is left on a disk that this command writes to\n  -> ")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_an_output_that_grows_too_large_is_undecided(plug_in, tmp_path):
    """Whatever the system refuses of stdout is no bug of a command: 3, in one line."""
    plug_in("long", "def command():\n    'Long.'\n    print('x' * 1_000_000)\n")
    command = ["sh", "-c", 'ulimit -f 100; "$@" >out', "sh", sys.executable, "-m", "orz_cli", "long"]
    answer = subprocess.run(command, capture_output=True, check=False, text=True, timeout=60, cwd=tmp_path)
    assert 3 == answer.returncode
    assert answer.stderr.startswith("error: the output cannot be written: File too large\n  -> ")
    assert "Traceback" not in answer.stderr


def test_no_colour_in_a_pipe_or_by_request():
    """A pipe gets no escape codes; a forced terminal does, unless NO_COLOR is set: then no colour is in them."""
    assert "\x1b" not in orz("trian").stderr
    assert "\x1b[1;31m" in orz("trian", FORCE_COLOR="1", NO_COLOR="").stderr
    assert "31m" not in orz("trian", FORCE_COLOR="1", NO_COLOR="1").stderr


def test_doctor_judges_this_environment():
    """`orz doctor` ends with the code of its own verdict, and imports no torch to print its version."""
    answer = orz("doctor", "--json")
    document = json.loads(answer.stdout)
    assert {"ok": 0, "failed": 1}[document["status"]] == answer.returncode
    assert set(ORZ_PACKAGES) <= set(document["machine"]["packages"])
    code = """
import sys, typer
from orz_cli.main import main
main(['doctor', '--json'])
print('loaded:', *sorted({'torch', 'vllm', 'ray', 'deepspeed', 'transformers'} & set(sys.modules)))
"""
    assert python(code).splitlines()[-1].split() == ["loaded:"]


@pytest.mark.parametrize("package", ["orz_cli", "orz_ckpt", "orz_monitor"])
def test_light_packages_need_no_posix_module(package):
    """Every module of a light package imports where Windows' missing modules are missing; but Ray's door needs Ray."""
    code = f"""
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys({POSIX_ONLY}))
package = importlib.import_module({package!r})
found = [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + '.')]
names = [name for name in found if '__main__' not in name and name != 'orz_ckpt.cluster.ray_fleet']
for name in names:
    importlib.import_module(name)
print(len(names))
"""
    assert int(python(code)) >= len(list(Path(__file__).parents[3].glob(f"packages/*/src/{package}/*.py"))) - 2


def test_a_process_that_runs_its_parents_script_again_does_not_run_the_command_again(tmp_path, plug_in):
    """A script without the usual guard ends in what it starts, with the reason; the command itself goes on."""
    plug_in(
        "works",
        "import multiprocessing\n"
        "def command():\n"
        "    worker = multiprocessing.get_context('spawn').Process(target=print, args=('worked',))\n"
        "    worker.start()\n"
        "    worker.join(30)\n"
        "    print('exit code', worker.exitcode)\n",
    )
    script = tmp_path / "mine.py"
    script.write_text("import sys\nfrom orz_cli.main import main\nsys.exit(main(['works']))\n")
    ended = subprocess.run([sys.executable, script], capture_output=True, check=False, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "exit code 2\n")
    assert 'put its call of `orz` below `if __name__ == "__main__":`' in ended.stderr
    script.write_text(
        "import sys\nfrom orz_cli.main import main\nif __name__ == '__main__':\n    sys.exit(main(['works']))\n"
    )
    guarded = subprocess.run([sys.executable, script], capture_output=True, check=False, text=True, timeout=60)
    assert (guarded.returncode, guarded.stdout, guarded.stderr) == (0, "worked\nexit code 0\n", "")
