"""The cases of the ranks on CPUs (tests/component/train/deepspeed), and what plays them, for ranks on a GPU."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_PATH = Path(__file__).parents[2] / "component/train/deepspeed/conftest.py"
_SPEC = importlib.util.spec_from_file_location("deepspeed_cases", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
cases, play = _MODULE.cases, _MODULE.play
