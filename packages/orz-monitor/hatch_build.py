"""Compiles the scanner of orz-monitor, where there is a C compiler; the package works without it, more slowly."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("src/orz_monitor/transport/scan.c")
LIBRARY = Path("orz_monitor/transport/scan.compiled")
"""In a wheel; an editable installation has it beside its source."""
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=c99", "-O3", "-shared", "-fPIC")


class ScannerHook(BuildHookInterface[Any]):
    """Puts a library of the scanner into the wheel, or beside its source for an editable installation."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; a wheel with the library is for this platform, and one without is for any."""
        if self.target_name != "wheel":
            return
        self._folder = tempfile.TemporaryDirectory(prefix="orz-monitor-")
        made = Path(self._folder.name) / LIBRARY.name
        trouble = compile_scanner(Path(self.root) / SOURCE, made)
        if trouble:  # pip shows it with --verbose; afterwards, orz doctor does
            sys.stderr.write(f"orz-monitor: {trouble}: logs will be read without the compiled scanner, more slowly\n")
        if version == "editable":
            beside = Path(self.root) / "src" / LIBRARY
            with suppress(OSError):  # a source that nobody may write to: an older library is not called
                beside.unlink(missing_ok=True) if trouble else place(made, beside)
        elif not trouble:
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
            build_data["force_include"][str(made)] = LIBRARY.as_posix()

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002  as hatchling calls it
        """Remove what was compiled and is in the wheel now."""
        if self.target_name == "wheel":
            self._folder.cleanup()


def compile_scanner(source: Path, library: Path) -> str:
    """Make the library of a source; return why that is not possible, empty where it was."""
    if os.name == "nt":
        return "not on Windows"
    if "_PYTHON_HOST_PLATFORM" in os.environ and "CC" not in os.environ:
        return "built for another machine, and CC does not name its compiler"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    try:
        compiler = (
            shlex.split(os.environ.get("CC", "")) or [found for found in map(shutil.which, COMPILERS) if found][:1]
        )
        if not compiler:
            return "no C compiler"
        command = [*compiler, *shlex.split(os.environ.get("ARCHFLAGS", "")), *FLAGS]
        command += [f'-DSOURCE_DIGEST="{digest}"', "-o", str(library), str(source)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except (OSError, ValueError) as error:
        return f"no C compiler: {error}"
    if done.returncode or not library.is_file():
        return f"{shlex.join(command)} made none: {done.stderr.strip()}"
    return ""


def place(made: Path, library: Path) -> None:
    """Put a library where another one may be in use."""
    beside = library.with_name(f"{library.name}.{os.getpid()}")
    shutil.copyfile(made, beside)
    beside.replace(library)
