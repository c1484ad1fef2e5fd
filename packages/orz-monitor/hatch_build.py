"""Compiles the scanner of orz-monitor, where there is a C compiler; the package works without it, more slowly."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("src/orz_monitor/transport/scan.c")
LIBRARY = SOURCE.with_name("scan.compiled")
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=c99", "-O3", "-shared", "-fPIC")


class ScannerHook(BuildHookInterface[Any]):
    """Makes a library of the scanner for the wheel, or beside its source for an editable installation."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  hatchling's signature
        """Compile; a wheel with the library is for this platform, and one without is for any."""
        if self.target_name != "wheel" or not compile_scanner(Path(self.root)):
            return
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
        build_data["artifacts"].append(f"/{LIBRARY.as_posix()}")


def compile_scanner(root: Path) -> bool:
    """Compile the scanner of the package in `root`; says why where that is not possible."""
    library = root / LIBRARY
    compiler = shlex.split(os.environ.get("CC", "")) or [found for found in map(shutil.which, COMPILERS) if found][:1]
    if not compiler or os.name == "nt":
        sys.stderr.write("orz-monitor: no C compiler; logs will be read without one, more slowly\n")
        library.unlink(missing_ok=True)  # of another source, perhaps
        return False
    made = library.with_name(f"{library.name}.{os.getpid()}")
    digest = hashlib.sha256((root / SOURCE).read_bytes()).hexdigest()
    command = [*compiler, *FLAGS, f'-DSOURCE_DIGEST="{digest}"', "-o", str(made), str(root / SOURCE)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        for left in (made, library):
            left.unlink(missing_ok=True)
        sys.stderr.write(f"orz-monitor: {shlex.join(command)} failed; logs will be read without it, more slowly\n")
        sys.stderr.write(done.stderr)
        return False
    made.replace(library)  # at once: somebody may be reading with the one before
    return True
