"""`console.log`: the log that people read, in the line shapes of Open-Reasoner-Zero."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from orz_monitor.records import VERSION
from orz_train import __version__
from orz_train.runlog.errors import LogWriteError

_OUR_LOGGERS = ("orz_train", "orz_ckpt", "orz_monitor", "orz_cli")
_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_LOG = logging.getLogger(__name__)


class ConsoleLog(logging.Handler):
    """Writes log records and the run's own lines to one file, each on the way to the disk at once.

    Records look as loguru's: `2026-11-22 11:00:33.896 | INFO     | orz_train.trainer:step:42 - message key=value`.
    A write that fails is kept and raised by `check`, because logging must never break the code that logs.

    Args:
        path: the file; created if missing, appended to otherwise.

    Raises:
        LogWriteError: the file can't be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(logging.INFO)
        self._path = path
        self._failure: LogWriteError | None = None
        try:
            self._file = path.open("a", encoding="utf-8", errors="backslashreplace", newline="\n")
        except OSError as error:
            raise LogWriteError.of(path, error) from error
        self.setFormatter(_LoguruShape())
        if self._file.tell() == 0:
            self.line(f"orz-train {__version__} | orz_monitor.records v{VERSION} | lines in the shapes of ORZ")

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001  as logging's own handlers do: a bad record must not end a run
            self.handleError(record)
        else:
            self.line(text)

    def say(
        self,
        message: str,
        *,
        level: int = logging.INFO,
        data: Mapping[str, object] | None = None,
        error: BaseException | None = None,
        stacklevel: int = 1,
    ) -> None:
        """Write a line of the run's own, as a record of whoever calls.

        Args:
            message: what to say.
            level: one of `logging`'s.
            data: written after it as `key=value`.
            error: an exception to show with its traceback.
            stacklevel: 1 names the caller, 2 the caller's caller.
        """
        path, line, function, _ = _LOG.findCaller(stacklevel=stacklevel + 1)
        exc_info = (type(error), error, error.__traceback__) if error is not None else None
        record = _LOG.makeRecord(_module(path), level, path, line, message + pairs(data or {}), (), exc_info, function)
        self.handle(record)

    def line(self, text: str) -> None:
        """Write a line as it is."""
        self.acquire()
        try:
            self._file.write(text + "\n")
            self._file.flush()
        except OSError as error:
            self._failure = self._failure or LogWriteError.of(self._path, error)
        finally:
            self.release()

    def check(self) -> None:
        """Raise what went wrong with a line since the last check.

        Raises:
            LogWriteError: a line couldn't be written.
        """
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Close the file; records that come later are dropped."""
        self.acquire()
        try:
            self._file.close()
        except OSError as error:
            self._failure = self._failure or LogWriteError.of(self._path, error)
        finally:
            self.release()
        super().close()


@contextmanager
def listening(*handlers: logging.Handler) -> Iterator[None]:
    """Give the records of all orz loggers, from level INFO, to these handlers inside the context."""
    loggers = [logging.getLogger(name) for name in _OUR_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        if logger.getEffectiveLevel() > logging.INFO:
            logger.setLevel(logging.INFO)
        for handler in handlers:
            logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            for handler in handlers:
                logger.removeHandler(handler)
            logger.setLevel(level)


def pairs(data: Mapping[str, object]) -> str:
    """Write ` key=value` for each entry; a text with spaces is quoted.

    Example:
        >>> pairs({"path": "checkpoints/step_000050", "seconds": 0.84, "reason": "no space"})
        " path=checkpoints/step_000050 seconds=0.84 reason='no space'"
    """
    return "".join(f" {key}={_plain(value)}" for key, value in data.items())


class _LoguruShape(logging.Formatter):
    """Formats a record as loguru does by default, `extra` fields behind the message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, followed by the traceback if there is one."""
        when = datetime.fromtimestamp(record.created).strftime("%Y-%m-%d %H:%M:%S")  # noqa: DTZ006  local, as loguru
        extra = {key: value for key, value in vars(record).items() if _is_extra(key)}
        text = (
            f"{when}.{int(record.msecs):03} | {record.levelname: <8} | "
            f"{record.name}:{record.funcName}:{record.lineno} - {record.getMessage()}{pairs(extra)}"
        )
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def _is_extra(field: str) -> bool:
    """Whether a record's field came by `extra=`; Ray, once imported, gives every record a private one of its own."""
    return field not in _STANDARD_FIELDS and not field.startswith("_")


def _plain(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and " " not in text and text else repr(text)


def _module(path: str) -> str:
    """Name the module of a source file as Python does: `orz_train.trainer`."""
    file = Path(path).with_suffix("")
    parts = file.parts
    start = max((i for i, part in enumerate(parts) if part in _OUR_LOGGERS), default=len(parts) - 1)
    return ".".join(parts[start:]).removesuffix(".__init__")
