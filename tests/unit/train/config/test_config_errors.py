"""What a mistake in a recipe or an argument is answered with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from orz_cli.exits import ExitCode
from orz_train.config.load import load
from orz_train.errors import ConfigError

pytestmark = pytest.mark.unit

Write = Callable[..., str]


def message_of(recipe: str, arguments: Sequence[str] = (), overlays: Sequence[str] = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        load(recipe, arguments, overlays)
    assert ExitCode.USAGE == caught.value.exit_code
    return str(caught.value)


def test_all_problems_come_at_once_with_their_lines(write: Write, sound: str) -> None:
    """One error names every problem: misspelt, of the wrong type, out of range, contradictory."""
    del sound
    recipe = write(
        "extends: sound.yaml\n"
        "critic:\n"
        "  updates_per_steps: 12\n"
        "seed: lucky\n"
        "generation:\n"
        "  temperature: 0\n"
        "kl: {reward_coef: 1, loss_coef: 1}\n"
    )
    expected = (
        "5 problems in ./mine.yaml:\n"
        "  mine.yaml:4: seed: got 'lucky', expected a whole number, at least 0 and below 9223372036854775808\n"
        "  mine.yaml:6: generation.temperature: got 0, expected a number, at least 0.01 and at most 100\n"
        "  mine.yaml:3: critic.updates_per_steps: unknown key; did you mean 'critic.updates_per_step'?\n"
        "  argument 'polcy.model=x': polcy: unknown key; did you mean 'policy'?\n"
        "  mine.yaml:7: kl.loss_coef: got 1.0 beside kl.reward_coef 1.0: the KL would count twice; set one of them to 0"
    )
    assert expected == message_of(recipe, ["polcy.model=x"])


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("policy.lr=1", "policy.lr: unknown key; did you mean 'policy.optimizer.lr'?"),
        ("lr=1", "lr: unknown key; did you mean 'policy.optimizer.lr' or 'critic.optimizer.lr'?"),
        ("steps_=3", "steps_: unknown key; did you mean 'steps'?"),
        ("rollout_batch_size=3", "rollout_batch_size: unknown key; this is 'prompts_per_step' here"),
        ("lambd=1", "lambd: unknown key; this is 'advantage.lam' here"),
        ("save_path=x", "save_path: unknown key; it has no counterpart here (the run folder holds the checkpoints"),
        ("qqq=1", "qqq: unknown key; expected one of name, description"),
        ("kl.qqq=1", "kl.qqq: unknown key; expected one of reward_coef, loss_coef, estimator"),
        ("optim.critic.updates_per_step=3", "optim.critic: unknown key; did you mean 'critic'?"),
        ("actor.micro_train_batch_size=3", "actor.micro_train_batch_size: unknown key; this is 'packing.max_tok"),
    ],
)
def test_unknown_keys_lead_to_known_ones(sound: str, argument: str, expected: str) -> None:
    """A misspelt key, one of another section and one of ORZ's are told what they are here."""
    assert message_of(sound, [argument]).startswith(f"argument {argument!r}: {expected}")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("seed=1.5", "seed: got 1.5, expected a whole number, at least 0"),
        ("seed=true", "seed: got true, expected a whole number, at least 0"),
        ("seed='1'", "seed: got '1', expected a whole number, at least 0"),
        ("seed=null", "seed: got null, expected a whole number, at least 0"),
        ("seed=[1]", "seed: got a list of 1, expected a whole number, at least 0"),
        ("steps=0", "steps: got 0, expected a whole number, above 0, or null"),
        ("data.shuffle=yes", "data.shuffle: got 'yes', expected true or false"),
        ("kl.estimator=k4", "kl.estimator: got 'k4', expected one of k1, k2, k3"),
        ("data.train=a.json", "data.train: got 'a.json', expected a list of texts, such as [a, b]"),
        ("data.train=[a, 1]", "data.train[1]: got 1, expected a text"),
        ("policy.optimizer.betas=[0.9]", "policy.optimizer.betas: got a list of 1, expected a list of 2 numbers"),
        ("policy.optimizer.betas=[0.9, x]", "policy.optimizer.betas[1]: got 'x', expected a number"),
        ("policy.optimizer.lr=.nan", "policy.optimizer.lr: got nan, expected a number, above 0"),
        ("data.eval={a: 1}", "data.eval.a: got 1, expected a text"),
        ("data.eval=[a]", "data.eval: got a list of 1, expected a mapping of names to texts"),
        ("policy.optimizer=3", "policy.optimizer: got 3, expected a section with keys such as lr, warmup_steps"),
        ("policy.model=null", "policy.model: got null, expected a text"),
        ("critic={}", ""),
        ("loss.clip_low=1", "loss.clip_low: got 1, expected a number, above 0 and below 1"),
        ("name=a b", "name: got 'a b', expected a text, matching ^[A-Za-z0-9]"),
        ("steps", ": expected KEY=VALUE, such as policy.optimizer.lr=1e-6"),
        ("a..b=1", ": a part of the key is empty"),
        ("=1", ": a part of the key is empty"),
        ("steps=[1", "steps: not a YAML value: expected ',' or ']'"),
        ("steps=!x 1", "steps: the tag !x is not supported"),
    ],
)
def test_wrong_values_are_told_what_is_expected(sound: str, argument: str, expected: str) -> None:
    """The message names the argument, the key, what it got and what it takes; nothing is coerced."""
    if not expected:
        assert load(sound, [argument]).config.critic is not None  # an empty section changes nothing
        return
    wanted = f"argument {argument!r}: {expected.removeprefix(': ')}"
    assert message_of(sound, [argument]).startswith(wanted)


def test_missing_settings_are_named_to_the_last(write: Write) -> None:
    """A recipe that says nothing is told all it needs, with the keys inside sections."""
    message = message_of(write("seed: 1\n"))
    for needed in (
        "mine.yaml: prompts_per_step: missing; expected a whole number, above 0",
        "mine.yaml: policy: missing; it needs policy.optimizer.lr and policy.model",
        "mine.yaml: generation: missing; it needs generation.max_response_tokens",
        "mine.yaml: data: missing",
        "mine.yaml: packing: missing; it needs packing.max_tokens_per_row",
    ):
        assert needed in message


def test_misspelt_key_causes_no_second_problem(sound: str, write: Write) -> None:
    """Where `critic` is misspelt, the message doesn't also say that PPO has no critic."""
    text = Path(sound).read_text(encoding="utf-8").replace("critic:", "crtic:")
    message = message_of(write(text))
    assert "mine.yaml:9: crtic: unknown key; did you mean 'critic'?" == message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steps: [1\n", "mine.yaml:2: not YAML: expected ',' or ']'"),
        ("a:\n\tb: 1\n", "mine.yaml:2: not YAML: found character '\\t'"),
        ("a: 1\n---\nb: 1\n", "mine.yaml:2: not YAML: but found another document"),
        ("a: *x\n", "mine.yaml:1: not YAML: found undefined alias 'x'"),
        ("a: \x00\n", "mine.yaml: not YAML: "),
        ("- 1\n", "mine.yaml: expected `key: value` lines at the top, got a list"),
        ("hello\n", "mine.yaml: expected `key: value` lines at the top, got the text 'hello'"),
        ("extends: [a]\n", "mine.yaml:1: extends: got a list of 1, expected a shipped recipe or a YAML file"),
        ("extends: nope\n", "mine.yaml:1: extends: there is no recipe 'nope'"),
        ("extends: ./nope.yaml\n", "mine.yaml:1: extends: recipe ./nope.yaml: there is no such file"),
        ("extends: mine.yaml\n", "extends goes round in a circle: mine.yaml -> mine.yaml"),
    ],
)
def test_broken_files_are_named_with_the_line(write: Write, text: str, expected: str) -> None:
    """No YAML, no mapping, or a base that isn't there: the file, the line and the reason."""
    assert message_of(write(text)).startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: 1\nsteps: 5\nseed: 2\n", "mine.yaml:4: seed: given twice; it is already in line 2"),
        ("kl: &a\n  loss_coef: *a\n", "mine.yaml:2: kl.loss_coef: an alias contains itself"),
        ("? [a]\n: 1\n", "mine.yaml:2: a key is a list, expected a text"),
        ("seed: !!python/none 1\n", "mine.yaml:2: seed: the tag tag:yaml.org,2002:python/none is not supported"),
    ],
)
def test_yaml_curiosities_are_problems_with_a_line(write: Write, sound: str, text: str, expected: str) -> None:
    """Duplicate keys, recursive aliases, keys that are no texts, and tags are refused."""
    del sound
    assert expected in message_of(write(f"extends: sound.yaml\n{text}"))


def test_circle_of_three_is_drawn(write: Write) -> None:
    """A chain that comes back to itself is an error that shows the way round."""
    write("extends: b.yaml\n", "a.yaml")
    write("extends: c.yaml\n", "b.yaml")
    write("extends: b.yaml\n", "c.yaml")
    assert "extends goes round in a circle: b.yaml -> c.yaml -> b.yaml" in message_of("./a.yaml")


def test_unknown_recipe_names_the_nearest_and_all() -> None:
    """A misspelt recipe is told the nearest shipped one, and the list."""
    message = message_of("quikstart")
    assert message.startswith("there is no recipe 'quikstart'; did you mean 'quickstart'?")
    assert "orz-7b-grpo" in message


@pytest.mark.parametrize("path", ["./none.yaml", "none.yml", "folder/none", "~no-such-user/none.yaml"])
def test_missing_recipe_file_is_named(path: str) -> None:
    """A path that leads nowhere is named, with what exists instead."""
    message = message_of(path)
    assert message.startswith(f"recipe {path}: there is no such file\n  -> give a YAML file or one of: orz-")


def test_folder_is_no_recipe(tmp_path: Path) -> None:
    """A folder is not read as a file."""
    assert f"recipe {tmp_path}: is a folder" in message_of(str(tmp_path))


def test_recipe_without_suffix_is_told_its_path(write: Write) -> None:
    """A file mine.yaml in the current folder is not found as `mine`, but is offered."""
    write("seed: 1\n")
    assert "the file mine.yaml here is recipe ./mine.yaml" in message_of("mine")


def test_binary_file_is_no_recipe(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 text are named with their position."""
    (tmp_path / "weights.yaml").write_bytes(b"ab\xff\xfe")
    assert "byte 2 is not UTF-8 text; is this a YAML file?" in message_of(str(tmp_path / "weights.yaml"))


def test_unreadable_file_is_no_recipe(tmp_path: Path) -> None:
    """What the system says of a file is passed on."""
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    assert "there is no such file" in message_of(str(loop))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("per_recipe: 3\n", "o.yaml:1: per_recipe: got 3, expected recipe names with settings below"),
        ("per_recipe:\n  sound: 3\n", "o.yaml:2: per_recipe.sound: got 3, expected settings"),
        ("extends: quickstart\n", "o.yaml:1: extends: unknown key"),
        ("per_recipe:\n  sound:\n    stpes: 3\n", "o.yaml:3: stpes: unknown key; did you mean 'steps'?"),
    ],
)
def test_overlay_mistakes_are_named(write: Write, sound: str, text: str, expected: str) -> None:
    """An overlay is checked like a recipe, but extends nothing."""
    assert expected in message_of(sound, (), [write(text, "o.yaml")])


def test_unknown_overlay_names_the_shipped_ones(sound: str) -> None:
    """--with takes a shipped name or a path."""
    assert "there is no overlay 'debig'; did you mean 'debug'?" in message_of(sound, (), ["debig"])
