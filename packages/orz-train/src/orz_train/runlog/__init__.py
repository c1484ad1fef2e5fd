"""Everything that a run writes for people and tools, as one `MetricSink`.

`RunFolder` owns the folder, `RunLog` writes into it and shows the run while it goes on.
"""

from __future__ import annotations

from orz_train.runlog.errors import LogWriteError
from orz_train.runlog.folder import RunFolder
from orz_train.runlog.sink import RunLog

__all__ = ["LogWriteError", "RunFolder", "RunLog"]
