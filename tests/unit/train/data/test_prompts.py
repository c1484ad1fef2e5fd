"""Prompts of a run, from files and from a user's function."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from orz_train.config.rollouts import Data, FieldNames
from orz_train.data import load_eval_sets, load_prompts
from orz_train.data.prompts import encode_prompt
from orz_train.data.templates import R1_ZERO
from orz_train.errors import ConfigError, DataError
from orz_train.types import Prompt

pytestmark = pytest.mark.unit

BOS = 0


class _Letters:
    """One id a letter; `^` is the beginning of a sequence, where there is one."""

    eos_token_ids = (1,)
    vocab_size = 200

    def __init__(self, *, bos: bool = True) -> None:
        self.bos_token_id = BOS if bos else None

    def encode(self, text: str) -> list[int]:
        return [BOS if letter == "^" else ord(letter) for letter in text]

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join("^" if token == BOS else chr(token) for token in token_ids)

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        return "^" + "".join(f"{message['role'][0]}:{message['content']};" for message in messages)


def _jsonl(path: Path, *problems: str, **more: Sequence[object]) -> str:
    rows = [
        {"prompt": problem, "answer": str(index), **{name: values[index] for name, values in more.items()}}
        for index, problem in enumerate(problems)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _texts(prompts: Sequence[Prompt]) -> list[str]:
    return [prompt.text for prompt in prompts]


@pytest.mark.parametrize(("expected", "text"), [("^a", "a"), ("^a", "^a"), ("^a", "^^^a"), ("^a^", "a^"), ("^", "")])
def test_exactly_one_bos(expected: str, text: str) -> None:
    """A missing beginning of sequence is added, a doubled one goes, others stay where they are."""
    tokenizer = _Letters()
    assert expected == tokenizer.decode(encode_prompt(text, tokenizer))


def test_a_tokenizer_without_bos_adds_none() -> None:
    """Qwen's tokenizer, for one, has none."""
    assert (ord("a"), ord("b")) == encode_prompt("ab", _Letters(bos=False))


def test_prompts_of_files(tmp_path: Path) -> None:
    """Rows become prompts in file order, named by file and row, under the template, with their other fields."""
    (tmp_path / "b").mkdir()
    first = _jsonl(tmp_path / "sums.jsonl", "3+4", "1+1", level=[3, 1])
    second = _jsonl(tmp_path / "b" / "sums.jsonl", "2+2")
    data = Data(train=(first, second), template="Q{problem}A")
    loaded = load_prompts(data, _Letters())
    encoded = (BOS, *map(ord, "Q3+4A"))
    expected = Prompt(prompt_id="sums:1", text="Q3+4A", token_ids=encoded, answer="0", meta={"level": 3})
    assert expected == loaded.prompts[0]
    assert ["sums:1", "sums:2", "sums-2:1"] == [prompt.prompt_id for prompt in loaded.prompts]
    assert () == loaded.too_long


def test_the_default_template_is_orz(tmp_path: Path) -> None:
    """Without a word about templates a prompt reads as in ORZ, behind one bos."""
    data = Data(train=(_jsonl(tmp_path / "a.jsonl", "3+4"),))
    tokenizer = _Letters()
    (prompt,) = load_prompts(data, tokenizer).prompts
    assert R1_ZERO.replace("{problem}", "3+4") == prompt.text
    assert f"^{prompt.text}" == tokenizer.decode(prompt.token_ids)


def test_a_chat_template_that_writes_bos(tmp_path: Path) -> None:
    """The chat template's own bos is the only one."""
    data = Data(train=(_jsonl(tmp_path / "a.jsonl", "3+4"),), template="chat")
    tokenizer = _Letters()
    (prompt,) = load_prompts(data, tokenizer).prompts
    expected = "^u:3+4;"
    assert expected == prompt.text == tokenizer.decode(prompt.token_ids)


def test_too_long_prompts_are_set_apart(tmp_path: Path) -> None:
    """The limit counts bos; what is longer is returned whole, beside the others, and what just fits stays."""
    data = Data(train=(_jsonl(tmp_path / "a.jsonl", "1234", "12345", "1"),), template="plain", max_prompt_tokens=5)
    loaded = load_prompts(data, _Letters())
    assert ["1234", "1"] == _texts(loaded.prompts)
    assert ["12345"] == _texts(loaded.too_long)
    assert [6] == [len(prompt.token_ids) for prompt in loaded.too_long]


def test_nothing_but_too_long_prompts(tmp_path: Path) -> None:
    """A run with no prompt left is refused, with the number that would do."""
    data = Data(train=(_jsonl(tmp_path / "a.jsonl", "1234", "12345"),), template="plain", max_prompt_tokens=2)
    with pytest.raises(DataError, match=r"all 2 prompts are longer than data\.max_prompt_tokens = 2\n.* has 5 tokens"):
        load_prompts(data, _Letters())


def test_messages_that_the_template_cannot_take(tmp_path: Path) -> None:
    """A conversation under a template for one problem is an error of its row."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "3+4"}]
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"prompt": "1+1", "answer": 2}, {"prompt": messages, "answer": 7}]))
    with pytest.raises(DataError, match=r"a\.json: 1 row can't be used\n  row 2: got 2 messages \(system, user\)"):
        load_prompts(Data(train=(str(path),), template="plain"), _Letters())
    (_, prompt) = load_prompts(Data(train=(str(path),), template="chat"), _Letters()).prompts
    expected = "^s:Be brief.;u:3+4;"
    assert expected == prompt.text


def test_ids_over_several_files(tmp_path: Path) -> None:
    """Named rows keep their names; a name in two files is refused with both places."""
    first = _jsonl(tmp_path / "a.jsonl", "3+4", name=["x"])
    second = _jsonl(tmp_path / "b.jsonl", "1+1", "2+2", name=["y", "x"])
    fields = FieldNames(id="name")
    assert ["x"] == [p.prompt_id for p in load_prompts(Data(train=(first,), fields=fields), _Letters()).prompts]
    with pytest.raises(DataError, match=r"b\.jsonl, row 2: has the id 'x' of .*a\.jsonl, row 1"):
        load_prompts(Data(train=(first, second), fields=fields), _Letters())


@pytest.mark.parametrize(
    ("reason", "data"),
    [
        ("got neither train nor source", Data()),
        ("got both train and source", Data(train=("a.jsonl",), source="a:rows")),
        (r"data\.template: got 'r1'", Data(train=("a.jsonl",), template="r1")),
        ("shipped:no-such-file: no such file comes with orz-train", Data(train=("shipped:no-such-file",))),
    ],
)
def test_wrong_settings(reason: str, data: Data) -> None:
    """Settings that name no prompts are refused before a file is read."""
    with pytest.raises(ConfigError, match=reason):
        load_prompts(data, _Letters())


def test_eval_sets(tmp_path: Path) -> None:
    """Held-out sets have names of their own, and only so many prompts as asked for."""
    sums = _jsonl(tmp_path / "a.jsonl", "3+4", "1+1", "2+2")
    data = Data(train=("not read",), eval={"sums": sums, "same": sums}, template="plain")
    sets = load_eval_sets(data, _Letters(), max_prompts=2)
    assert ["sums", "same"] == list(sets)
    assert ["sums:1", "sums:2"] == [prompt.prompt_id for prompt in sets["sums"].prompts]
    assert ["same:1", "same:2"] == [prompt.prompt_id for prompt in sets["same"].prompts]
    assert {} == load_eval_sets(Data(train=("not read",)), _Letters())


SOURCES = """
from orz_train.types import Prompt

def _prompt(name, text="3+4", **more):
    return Prompt(prompt_id=name, text=text, answer="7", **{"token_ids": (), **more})

def rows(split):
    yield _prompt(f"{split}:1", meta={"n": 1})
    if split == "train":
        yield _prompt("ready", token_ids=[5, 6])

def train_only(split):
    return [_prompt("a")] if split == "train" else []

def wrong_type(split): return [_prompt("a"), {"prompt_id": "b"}]
def same_id(split): return [_prompt("a"), _prompt("b"), _prompt("a")]
def no_tokens(split): return [_prompt("a", text="")]
def nothing(split): return None
def none_at_all(split): return []
def no_argument(): return []
letters = str.join
mapping = dict
def raises_late(split):
    yield _prompt("a")
    raise OSError("the download broke")
"""


@pytest.fixture
def _in_folder_of_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prompt_sources.py").write_text(SOURCES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "prompt_sources", raising=False)


@pytest.mark.usefixtures("_in_folder_of_sources")
def test_prompts_of_a_source() -> None:
    """A user's prompts keep their names and fields; without token ids they are encoded as they are."""
    data = Data(source="prompt_sources:rows")
    first, ready = load_prompts(data, _Letters()).prompts
    encoded = (BOS, *map(ord, "3+4"))
    assert Prompt(prompt_id="train:1", text="3+4", token_ids=encoded, answer="7", meta={"n": 1}) == first
    assert (5, 6) == ready.token_ids
    assert ["eval:1"] == [prompt.prompt_id for prompt in load_eval_sets(data, _Letters())["eval"].prompts]
    assert {} == load_eval_sets(Data(source="prompt_sources:train_only"), _Letters())


@pytest.mark.usefixtures("_in_folder_of_sources")
@pytest.mark.parametrize(
    ("error", "reason", "name"),
    [
        (DataError, r"data.source: {}\('train'\): row 2 is dict, expected orz_train.types.Prompt", "wrong_type"),
        (DataError, r"{}\('train'\): row 3 has the prompt_id 'a' of an earlier row", "same_id"),
        (DataError, r"{}: the prompt a has no tokens", "no_tokens"),
        (DataError, r"{}\('train'\) raised TypeError: 'NoneType' object is not iterable", "nothing"),
        (DataError, r"{}: no prompts", "none_at_all"),
        (DataError, r"{}\('train'\) raised OSError: the download broke \(.*prompt_sources.py:\d+\)", "raises_late"),
        (ConfigError, r"{} got the parameters \(\), expected \(split\): too many positional arguments", "no_argument"),
        (ConfigError, r"data.source: prompt_sources has no 'row'", "row"),
        (ConfigError, r"{} got the parameters \(self, iterable, /\)", "letters"),
        (DataError, r"{}\('train'\) raised ValueError: dictionary update sequence", "mapping"),
    ],
)
def test_unusable_sources(error: type[Exception], reason: str, name: str) -> None:
    """Whatever a user's function does wrong is said with its name and the row or line."""
    source = f"prompt_sources:{name}"
    with pytest.raises(error, match=reason.replace("{}", source)):
        load_prompts(Data(source=source), _Letters(bos=False))
