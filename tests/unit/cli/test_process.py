"""`orz` as a process of its own ends as Python's processes do, or, where a command asks for it, at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.unit

ENDS = """
import atexit, sys, threading, time
from orz_cli import main, process

class Held:
    def __del__(self):
        print("taken apart", flush=True)

def command():
    global held
    held = Held()
    atexit.register(print, "registered")
    threading.Thread(target=lambda: (time.sleep(0.2), print("waited for"))).start()
    if "at once" in sys.argv:
        process.end_at_once()
    if "torch" in sys.argv:
        sys.modules["torch"] = object()
    sys.stderr.write("told\\n")
    print("printed")
    return 3

main.main = command
sys.exit(process.run())
"""
"""A command in place of `orz`; its output goes into a pipe, where nothing is written before it is flushed."""


@pytest.mark.parametrize(
    ("arguments", "more"),
    [([], ["taken apart"]), (["at once"], []), (["at once", "torch"], ["taken apart"])],
    ids=["as ever", "at once", "beside torch"],
)
def test_the_end_loses_nothing(arguments: list[str], more: list[str]) -> None:
    """Threads are waited for, what is registered is done, what was printed is there, and the exit code is kept."""
    ended = subprocess.run([sys.executable, "-c", ENDS, *arguments], capture_output=True, text=True, check=False)

    assert (3, "told\n") == (ended.returncode, ended.stderr)
    assert ["printed", "waited for", "registered", *more] == ended.stdout.splitlines()


def test_ctrl_c_while_threads_are_waited_for() -> None:
    """No traceback: the answer was given, and a command that ended well says that it was interrupted."""
    source = (
        "import os, signal, sys, threading, time\nfrom orz_cli import main, process\n"
        "def command():\n"
        "    threading.Thread(target=time.sleep, args=(30,)).start()\n"
        "    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "    process.end_at_once()\n    return int(sys.argv[1])\n"
        "main.main = command\nsys.exit(process.run())"
    )
    ended = [
        subprocess.run([sys.executable, "-c", source, code], capture_output=True, text=True, check=False, timeout=20)
        for code in ("0", "3")
    ]

    assert [(130, ""), (3, "")] == [(one.returncode, one.stderr) for one in ended]


def test_modules_are_loaded_with_few_collections() -> None:
    """And afterwards garbage is collected as often as before."""
    source = (
        "import gc\nusual = gc.get_threshold()\nfrom orz_cli import process\n"
        "seen = []\nclass Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'orz_cli.main':\n            seen.append(gc.get_threshold()[0])\n"
        "import sys\nsys.meta_path.insert(0, Finder())\nsys.argv = ['orz', '--version']\n"
        "code = process.run()\nprint(code, seen[0] > 100 * usual[0], gc.get_threshold() == usual)"
    )

    said = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout

    assert said.splitlines()[-1] == "0 True True"
