"""Reading prompt files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orz_train.config.rollouts import FieldNames
from orz_train.data.rows import Row
from orz_train.data.sources import read_rows
from orz_train.errors import DataError

pytestmark = pytest.mark.unit

DEFAULT = FieldNames()
GSM8K = FieldNames(prompt="question", answer="answer")


def _write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def _orz_pair(problem: object, answer: object, **more: object) -> list[object]:
    return [
        {"from": "human", "value": problem},
        {"from": "assistant", "ground_truth": {"value": answer, **more}},
    ]


def _error(path: Path, fields: FieldNames = DEFAULT) -> str:
    with pytest.raises(DataError) as caught:
        read_rows(path, fields)
    message = str(caught.value)
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def test_orz_training_json(tmp_path: Path) -> None:
    """ORZ's pairs give problem and answer, and what else stands beside the answer."""
    path = _write(tmp_path / "a.json", [_orz_pair("3+4?", "7"), _orz_pair("1+1?", 2, pass_at_n=0.5)])
    expected = [
        Row(number=1, problem="3+4?", answer="7"),
        Row(number=2, problem="1+1?", answer="2", meta={"pass_at_n": 0.5}),
    ]
    assert expected == read_rows(path, DEFAULT)


def test_orz_evaluation_json_needs_no_field_names(tmp_path: Path) -> None:
    """ORZ's evaluation format is known by its shape, whatever the fields of other files are called."""
    raw = {"prompt": [{"from": "user", "value": "Which?"}], "final_answer": "B", "choices": {"A": "1", "B": "2"}}
    path = _write(tmp_path / "a.json", [raw])
    message = {"role": "user", "content": "Which?"}
    expected = [Row(number=1, problem=(message,), answer="B", meta={"choices": {"A": "1", "B": "2"}})]
    assert expected == read_rows(path, DEFAULT) == read_rows(path, GSM8K)


def test_gsm8k_as_it_is(tmp_path: Path) -> None:
    """Of a worked answer only what follows the last #### counts; blank lines don't, but keep their numbers."""
    lines = [
        json.dumps({"question": "3+4?", "answer": "It is <<3+4=7>>7.\n#### 7"}),
        "",
        json.dumps({"question": "Sum?", "answer": "A #### B\n#### 1,234", "level": 3}),
    ]
    path = _write(tmp_path / "a.jsonl", "\ufeff" + "\r\n".join(lines) + "\n\n")
    expected = [
        Row(number=1, problem="3+4?", answer="7"),
        Row(number=3, problem="Sum?", answer="1,234", meta={"level": 3}),
    ]
    assert expected == read_rows(path, GSM8K)


def test_json_with_named_fields(tmp_path: Path) -> None:
    """A JSON list of plain objects reads like JSONL; numbers become text, chat messages stay messages."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "3+4?"}]
    path = _write(tmp_path / "a.json", [{"prompt": messages, "answer": 7, "name": "x"}, {"prompt": "p", "answer": ""}])
    named = FieldNames(id="name")
    expected = Row(number=1, problem=tuple(messages), answer="7", name="x")
    assert "row 2: has no field 'name' (set data.fields.id to one of: prompt, answer)" in _error(path, named)
    _write(path, [{"prompt": messages, "answer": 7, "name": "x"}, {"prompt": "p", "answer": "", "name": 5}])
    assert [expected, Row(number=2, problem="p", answer="", name="5")] == read_rows(path, named)


def test_parquet(tmp_path: Path) -> None:
    """Parquet columns are fields; nested columns come as lists and dictionaries."""
    rows = [
        {"question": "3+4?", "answer": 7, "more": {"tags": ["sum"]}},
        {"question": "1+1?", "answer": 2, "more": {"tags": []}},
    ]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    expected = [
        Row(number=1, problem="3+4?", answer="7", meta={"more": {"tags": ["sum"]}}),
        Row(number=2, problem="1+1?", answer="2", meta={"more": {"tags": []}}),
    ]
    assert expected == read_rows(path, GSM8K)


@pytest.mark.parametrize(
    ("reason", "row"),
    [
        ("has no field 'prompt'; did you mean 'promt'? (set data.fields.prompt to one of: promt, answer)",
         {"promt": "3+4?", "answer": "7"}),
        ("has no field 'answer' (set data.fields.answer to one of: prompt)", {"prompt": "3+4?"}),
        ("has no field 'prompt' (set data.fields.prompt to one of: none)", {}),
        ("'prompt' is null, expected text or a list of chat messages", {"prompt": None, "answer": "7"}),
        ("'prompt' is number, expected text or a list of chat messages", {"prompt": 5, "answer": "7"}),
        ("'prompt' is list, expected text or a list of chat messages", {"prompt": [], "answer": "7"}),
        ("'prompt' holds text, expected messages with a role and a content", {"prompt": ["a"], "answer": "7"}),
        ("'prompt' holds object, expected messages", {"prompt": [{"role": "user", "content": None}], "answer": "7"}),
        ("'prompt' is empty", {"prompt": " \n", "answer": "7"}),
        ("'prompt' holds half a character at 2: '\\ud83d'", {"prompt": "hi\ud83d", "answer": "7"}),
        ("'answer' is null, expected text or a number", {"prompt": "3+4?", "answer": None}),
        ("'answer' is boolean, expected text or a number", {"prompt": "3+4?", "answer": True}),
        ("'answer' is list, expected text or a number", {"prompt": "3+4?", "answer": ["7"]}),
        ("'answer' has nothing after ####", {"prompt": "3+4?", "answer": "so #### "}),
        ("got a text, expected an object or ORZ's pair", "3+4?"),
        ("got a null, expected an object or ORZ's pair", None),
        ('got [], expected ORZ\'s pair [{"from": "human"', []),
        ('got [{"from": "human", "value": "3+4?"}], expected', [{"from": "human", "value": "3+4?"}]),
        ("expected ORZ's pair", [*_orz_pair("3+4?", "7"), {}]),
        ("expected ORZ's pair", [{"from": "human", "value": "3+4?"}, {"from": "assistant", "value": "7"}]),
        ("'value' is empty", _orz_pair("", "7")),
        ("'ground_truth.value' is null, expected text or a number", _orz_pair("3+4?", None)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_malformed_rows(reason: str, row: object, suffix: str, tmp_path: Path) -> None:
    """What is wrong with a row is said with its number, what was got and what was expected."""
    good = {"prompt": "1+1?", "answer": "2"}
    rows = [good, row, good]
    path = _write(tmp_path / f"a{suffix}", rows if suffix == ".json" else "\n".join(map(json.dumps, rows)))
    message = _error(path)
    assert message.startswith(": 1 row can't be used\n  row 2: ")
    assert reason in message


def test_many_malformed_rows_are_counted(tmp_path: Path) -> None:
    """Five rows are named, the others counted, lines that aren't JSON among them."""
    lines = ['{"prompt": "a", "answer": 1}', "{", "{]", "nonsense", *["{}"] * 3, "9" * 5000, "[" * 100_000]
    message = _error(_write(tmp_path / "a.jsonl", "\n".join(lines)))
    assert message.startswith(": 8 rows can't be used\n  row 2: not JSON: Expecting property name")
    assert "\n  row 6: has no field 'prompt'" in message
    assert "row 7" not in message
    assert message.endswith("\n  and 3 more\n  -> correct or remove them")


def test_a_line_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    """A broken byte is the fault of its line."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"prompt": "a", "answer": 1}\n{"prompt": "\xff", "answer": 1}\n')
    assert "row 2: not JSON: 'utf-8' codec can't decode byte 0xff" in _error(path)


def test_duplicate_ids(tmp_path: Path) -> None:
    """Two rows of one id are refused, and both are named."""
    rows = [{"prompt": "a", "answer": 1, "id": name} for name in ("x", "y", "x")]
    assert "row 3: has the id 'x' of row 1" in _error(_write(tmp_path / "a.json", rows), FieldNames(id="id"))
    rows[1]["id"] = None  # type: ignore[assignment]  # an id that is none
    rows[2]["id"] = " "
    message = _error(_write(tmp_path / "a.json", rows), FieldNames(id="id"))
    assert "row 2: 'id' is null, expected text or an integer\n  row 3: 'id' is text" in message


@pytest.mark.parametrize(
    ("reason", "name", "content"),
    [
        (": the file holds no rows", "a.jsonl", "\n \n"),
        (": the file holds no rows", "a.json", ""),
        (": the file holds no rows", "a.json", "[]"),
        (": got a JSON object, expected a list of rows", "a.json", '{"prompt": "a"}'),
        (": not JSON: Extra data, column 1, line 2\n  -> name it .jsonl if it holds one object a", "a.json", "{}\n{}"),
        (": not JSON: Expecting value, column 2, line 1", "a.json", "[x]"),
        (": not JSON: maximum recursion depth exceeded", "a.json", "[" * 100_000),
        (": not a Parquet file: ", "a.parquet", "PAR1"),
        (": got a .csv file, expected .json, .jsonl, .parquet", "a.csv", "prompt,answer\n"),
        (": got a nameless file, expected", "train", ""),
    ],
)  # fmt: skip
def test_unusable_files(reason: str, name: str, content: str, tmp_path: Path) -> None:
    """An empty file, another format and broken JSON are told apart."""
    assert reason in _error(_write(tmp_path / name, content))


def test_an_empty_parquet_file_holds_no_rows(tmp_path: Path) -> None:
    """A schema alone is no data."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), path)
    assert ": the file holds no rows" == _error(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    """A path with no file behind it says so, and where it was looked for."""
    assert ": there is no such file\n  -> the path is read from" in _error(tmp_path / "none.jsonl")
    assert ": there is no such file" in _error(tmp_path / "none.parquet")
    (tmp_path / "folder.json").mkdir()
    assert ": can't be read: Is a directory" in _error(tmp_path / "folder.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    assert "is no UTF-8 text" in _error(tmp_path / "binary.json")


@pytest.mark.parametrize(
    ("rows", "first_answer", "name", "fields"),
    [
        (1319, "18", "gsm8k_test.jsonl", GSM8K),
        (7473, "72", "gsm8k_train.jsonl", GSM8K),
        (500, r"\left( 3, \frac{\pi}{2} \right)", "orz_eval_math500.json", DEFAULT),
        (30, "73", "orz_eval_aime2024.json", DEFAULT),
    ],
)
def test_real_files(rows: int, first_answer: str, name: str, fields: FieldNames) -> None:
    """GSM8K and ORZ's evaluation files read as they are published, every row."""
    folder = Path(os.environ.get("ORZ_TEST_DATA", Path(__file__).parents[5] / "shared" / "data"))
    if not (folder / name).is_file():
        pytest.skip(f"{name} is not in {folder}; set ORZ_TEST_DATA to a folder with it")
    read = read_rows(folder / name, fields)
    assert rows == len(read)
    assert first_answer == read[0].answer
    assert all(row.answer for row in read)
