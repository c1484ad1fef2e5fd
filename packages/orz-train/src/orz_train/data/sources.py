"""Reads prompt files into rows: ORZ's JSON, JSON and JSONL with named fields, Parquet.

ORZ's training file is a list of pairs, `[{"from": "human", "value": PROBLEM}, {"from": "assistant",
"ground_truth": {"value": ANSWER}}]`; its evaluation file a list of `{"prompt": [{"from": "user", "value":
PROBLEM}], "final_answer": ANSWER}`. Of named fields `config.FieldNames` says which is which.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from orz_train.config.rollouts import FieldNames
from orz_train.data.rows import BadRowError, Message, Row, RowProblems
from orz_train.errors import DataError

_GSM8K_MARK = "####"

_MAX_SHOWN = 80
"""Characters of a wrong row that a message quotes."""


def read_rows(path: Path, fields: FieldNames) -> list[Row]:
    """Read all rows of a `.json`, `.jsonl` or `.parquet` file.

    Raises:
        DataError: the file is missing, unreadable, empty or of another kind, or rows are malformed; then the
            first five are named, and the others counted.
    """
    readers: dict[str, Callable[[Path], list[tuple[int, object]]]] = {
        ".json": _json_rows,
        ".jsonl": _jsonl_rows,
        ".parquet": _parquet_rows,
    }
    if path.suffix not in readers:
        raise DataError(f"{path}: got a {path.suffix or 'nameless'} file, expected {', '.join(readers)}")
    try:
        raw_rows = readers[path.suffix](path)
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: there is no such file", remedy=f"the path is read from {Path.cwd()}; check data in the recipe"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is no UTF-8 text", remedy="save the file as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror or error}") from error
    if not raw_rows:
        raise DataError(f"{path}: the file holds no rows")
    problems = RowProblems(path)
    rows = list(_parsed(raw_rows, fields, problems))
    problems.raise_if_any()
    return rows


def _json_rows(path: Path) -> list[tuple[int, object]]:
    text = path.read_text(encoding="utf-8-sig")
    if not text.strip():
        return []
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        lines = "name it .jsonl if it holds one object a line" if error.msg == "Extra data" else ""
        raise DataError(f"{path}: {_not_json(error)}, line {error.lineno}", remedy=lines) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: {_not_json(error)}") from error
    if not isinstance(content, list):
        raise DataError(f"{path}: got a JSON {_json_type(content)}, expected a list of rows")
    return list(enumerate(content, start=1))


class _Unreadable(str):
    """Why a line couldn't be parsed; reported together with what is wrong with other rows."""

    __slots__ = ()


def _jsonl_rows(path: Path) -> list[tuple[int, object]]:
    rows: list[tuple[int, object]] = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                rows.append((number, json.loads(line)))
            except (ValueError, RecursionError) as error:
                rows.append((number, _Unreadable(_not_json(error))))
    return rows


def _parquet_rows(path: Path) -> list[tuple[int, object]]:
    try:
        return list(enumerate(pq.read_table(path).to_pylist(), start=1))
    except pa.ArrowException as error:
        raise DataError(f"{path}: not a Parquet file: {str(error).splitlines()[0]}") from error


def _not_json(error: Exception) -> str:
    """Say what Python's parser says, such as numbers of too many digits or lists nested too deep."""
    detail = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
    return f"not JSON: {detail}"


def _parsed(raw_rows: list[tuple[int, object]], fields: FieldNames, problems: RowProblems) -> Iterator[Row]:
    named: dict[str, int] = {}
    for number, raw in raw_rows:
        try:
            row = _row(number, raw, fields)
        except BadRowError as error:
            problems.add(number, error)
            continue
        if row.name is not None and named.setdefault(row.name, number) != number:
            problems.add(number, f"has the id {row.name!r} of row {named[row.name]}")
            continue
        yield row


def _row(number: int, raw: object, fields: FieldNames) -> Row:
    if isinstance(raw, _Unreadable):
        raise BadRowError(raw)
    if isinstance(raw, list):
        return _orz_training_row(number, raw)
    if not isinstance(raw, dict):
        raise BadRowError(f"got a {_json_type(raw)}, expected an object or ORZ's pair")
    if "final_answer" in raw and isinstance(raw.get("prompt"), list):
        fields = FieldNames(prompt="prompt", answer="final_answer", id=fields.id if fields.id in raw else None)
    used = {fields.prompt, fields.answer, fields.id}
    return Row(
        number=number,
        problem=_problem(_get(raw, fields.prompt, "prompt"), fields.prompt),
        answer=_answer(_get(raw, fields.answer, "answer"), fields.answer),
        name=None if fields.id is None else _name(_get(raw, fields.id, "id"), fields.id),
        meta={str(key): value for key, value in raw.items() if key not in used},
    )


def _orz_training_row(number: int, pair: list[Any]) -> Row:
    match pair:
        case [{"value": problem}, {"ground_truth": {"value": answer, **more}}]:
            return Row(
                number=number,
                problem=_problem(problem, "value"),
                answer=_answer(answer, "ground_truth.value"),
                meta={str(key): value for key, value in more.items()},
            )
    raise BadRowError(
        f"got {json.dumps(pair)[:_MAX_SHOWN]}, expected ORZ's pair "
        '[{"from": "human", "value": PROBLEM}, {"from": "assistant", "ground_truth": {"value": ANSWER}}]'
    )


def _get(raw: Mapping[str, object], key: str, role: str) -> object:
    if key in raw:
        return raw[key]
    setting = f"set data.fields.{role} to one of: {', '.join(raw) or 'none'}"
    near = difflib.get_close_matches(key, raw, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise BadRowError(f"has no field {key!r}{hint} ({setting})")


def _problem(value: object, key: str) -> str | tuple[Message, ...]:
    if isinstance(value, str):
        if not value.strip():
            raise BadRowError(f"{key!r} is empty")
        return _encodable(value, key)
    if isinstance(value, list) and value:
        return tuple(_message(message, key) for message in value)
    raise BadRowError(f"{key!r} is {_json_type(value)}, expected text or a list of chat messages")


def _message(value: object, key: str) -> Message:
    match value:
        case {"role": str(role), "content": str(content)} | {"from": str(role), "value": str(content)}:
            return {"role": role, "content": _encodable(content, key)}
    raise BadRowError(f"{key!r} holds {_json_type(value)}, expected messages with a role and a content, both text")


def _encodable(text: str, key: str) -> str:
    r"""Refuse half of a surrogate pair: JSON can write one (`\\ud83d`), no tokenizer reads it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRowError(f"{key!r} holds half a character at {error.start}: {text[error.start]!a}") from error
    return text


def _answer(value: object, key: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadRowError(f"{key!r} is {_json_type(value)}, expected text or a number")
    text = str(value).rpartition(_GSM8K_MARK)[2].strip()
    if not text and isinstance(value, str) and value.strip():
        raise BadRowError(f"{key!r} has nothing after {_GSM8K_MARK}")
    return text


def _name(value: object, key: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise BadRowError(f"{key!r} is {_json_type(value)}, expected text or an integer")
    return str(value)


def _json_type(value: object) -> str:
    names = {dict: "object", list: "list", str: "text", bool: "boolean", int: "number", float: "number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
