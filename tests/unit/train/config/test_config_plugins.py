"""User code by name, and files that come with the package."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orz_train.config import plugins, shipped
from orz_train.config.load import load
from orz_train.config.preflight import check_names
from orz_train.errors import ConfigError

pytestmark = pytest.mark.unit

Write = Callable[..., str]


@pytest.fixture(autouse=True)
def unchanged_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave sys.path and sys.modules as they were."""
    modules = dict(sys.modules)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder])
    yield
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]


def problem_of(name: str) -> str:
    with pytest.raises(ConfigError) as caught:
        plugins.resolve(name, key="reward.function")
    return str(caught.value)


def test_module_in_the_current_folder_is_found(write: Write) -> None:
    """A file next to where orz starts needs no package."""
    write("def score(prompt, rollout):\n    return 1.0\n", "own_rewards.py")
    assert 1.0 == plugins.resolve("own_rewards:score")(None, None)


def test_nested_attribute_is_found(write: Write) -> None:
    """module:Class.method walks attributes."""
    write("class A:\n    @staticmethod\n    def b():\n        return 3\n", "own_nested.py")
    assert 3 == plugins.resolve("own_nested:A.b")()


def test_current_folder_replaces_no_library(write: Write) -> None:
    """A file called like a library's module doesn't hide the library."""
    write("raise RuntimeError('shadowed')\n", "colorsys.py")
    assert callable(plugins.resolve("colorsys:rgb_to_hsv"))


@pytest.mark.parametrize("name", ["score", ":score", "module:", "a b:c", "a-b:c", "a:b:c", "./x.py:f"])
def test_malformed_names_are_refused(name: str) -> None:
    """Only module:attr, dotted identifiers both, is a name."""
    assert f"reward.function: got {name!r}, expected module:name" in problem_of(name)


def test_missing_module_says_where_it_looked(write: Write, tmp_path: Path) -> None:
    """A module that isn't there is told apart from one that another module needs."""
    assert "reward.function: there is no module 'own_absent'" in problem_of("own_absent:f")
    assert str(tmp_path) in problem_of("own_absent:f")
    assert "there is no module 'own_absent'" in problem_of("own_absent.sub:f")
    assert "there is no module 'json.absent'" in problem_of("json.absent:f")
    write("import own_missing_dependency\n", "own_needs.py")
    message = problem_of("own_needs:f")
    assert "own_needs.py:1 needs the module 'own_missing_dependency', which is not installed" in message


def test_missing_attribute_names_the_nearest(write: Write) -> None:
    """A misspelt function is told the nearest, or what there is."""
    write("def score(): ...\nlimit = 3\n", "own_names.py")
    assert "own_names has no 'scroe'\n  -> did you mean 'score'?" in problem_of("own_names:scroe")
    assert "it has: limit, score" in problem_of("own_names:zzz")
    assert "own_names:limit is int, expected a function or a class" in problem_of("own_names:limit")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1\ny = undefined_name\n", "own_broken.py:2: NameError: name 'undefined_name' is not defined"),
        ("def f(:\n", "own_broken.py:1: SyntaxError"),
        ("raise SystemExit(3)\n", "own_broken.py:1: SystemExit: 3"),
        ("import json\njson.loads('{')\n", "own_broken.py:2: JSONDecodeError"),
        ("raise ValueError\n", "own_broken.py:1: ValueError\n"),
    ],
)
def test_broken_module_shows_the_users_line(write: Write, text: str, expected: str) -> None:
    """Whatever an import raises, even an exit, becomes one line with the user's file and line."""
    write(text, "own_broken.py")
    message = problem_of("own_broken:f")
    assert message.startswith("reward.function: importing own_broken failed in ")
    assert expected in message
    assert "Traceback" not in message


def test_plain_paths_pass_through() -> None:
    """A path without the prefix is the caller's business, existing or not."""
    assert Path("some/where.json") == shipped.resolve("some/where.json")


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "assets"
    (folder / "sums").mkdir(parents=True)
    (folder / "sums" / "train.jsonl").write_text("{}")
    (folder / "sums" / "make.py").write_text("")
    (folder / "base").mkdir()
    (folder / "base" / "config.json").write_text("{}")
    (folder / "base" / "model.safetensors").write_text("")
    monkeypatch.setattr(shipped, "assets_folder", lambda: folder)
    return folder


def test_shipped_names_are_data_files_and_model_folders(assets: Path) -> None:
    """A model counts as its folder; scripts beside the data don't count."""
    assert ["base", "sums/train.jsonl"] == shipped.shipped_names()
    assert assets / "base" == shipped.resolve("shipped:base")
    assert assets / "sums/train.jsonl" == shipped.resolve("shipped:sums/train.jsonl")


@pytest.mark.parametrize("name", ["nothing", "sums", "../assets/base", "/etc/passwd", "sums/make.py", ""])
def test_unknown_shipped_names_list_what_exists(assets: Path, name: str) -> None:
    """A name leads to what ships and nowhere else; the message lists it."""
    with pytest.raises(ConfigError, match="no such file comes with orz-train") as caught:
        shipped.resolve(f"shipped:{name}")
    assert "these do: shipped:base, shipped:sums/train.jsonl" in str(caught.value)


def test_preflight_names_all_that_lead_nowhere(write: Write, sound: str, assets: Path) -> None:
    """User code and shipped files are looked up together, before a run starts."""
    write("def rows(split): ...\n", "own_rows.py")
    arguments = ["reward=own_absent:f", "data.source=own_rows:rows", "policy.model=shipped:bsae"]
    with pytest.raises(ConfigError) as caught:
        check_names(load(sound, arguments).config)
    assert "2 problems in sound" in str(caught.value)
    assert "reward.function: there is no module 'own_absent'" in str(caught.value)
    assert "policy.model: shipped:bsae: no such file comes with orz-train" in str(caught.value)
    check_names(load(sound, ["policy.model=shipped:base", "data.eval.a=shipped:sums/train.jsonl"]).config)
