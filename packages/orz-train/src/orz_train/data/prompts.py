"""Makes the prompts of a run: from files through a template, or from the user's own function."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from orz_train.config import plugins, shipped
from orz_train.config.rollouts import Data
from orz_train.data.rows import BadRowError, RowProblems
from orz_train.data.sources import read_rows
from orz_train.data.templates import Template
from orz_train.errors import ConfigError, DataError
from orz_train.ports import Tokenizer
from orz_train.types import Prompt

Split = Literal["train", "eval"]


@dataclass(frozen=True, slots=True)
class LoadedPrompts:
    """Prompts ready for the policy, and those left out."""

    prompts: tuple[Prompt, ...]
    """At least one, in the order of the files, each with token ids."""
    too_long: tuple[Prompt, ...] = ()
    """Longer than `data.max_prompt_tokens`; never cut, never sampled."""


def load_prompts(data: Data, tokenizer: Tokenizer) -> LoadedPrompts:
    """Load the training prompts: of `data.train`, or of `data.source`.

    Raises:
        ConfigError: neither or both are given, the template or the source's name is wrong.
        DataError: a file or the source has nothing, or something that can't be used.
    """
    if data.source is not None and data.train:
        raise ConfigError("data: got both train and source, expected one of them", remedy="remove the other")
    if data.source is not None:
        return _sorted_out(_prompts_of_source(data.source, "train", tokenizer), data, data.source)
    if not data.train:
        raise ConfigError("data: got neither train nor source", remedy="name prompt files in data.train")
    return _sorted_out(_prompts_of_files(data.train, data, tokenizer), data, ", ".join(data.train))


def load_eval_sets(data: Data, tokenizer: Tokenizer, *, max_prompts: int | None = None) -> dict[str, LoadedPrompts]:
    """Load the held-out sets by name: the files of `data.eval`, else what `data.source` yields for `eval`, if any.

    Args:
        data: the section of the configuration.
        tokenizer: encodes the prompts.
        max_prompts: keep the first so many of each set.

    Raises:
        ConfigError: the template or the source's name is wrong.
        DataError: a file has nothing, or something that can't be used.
    """
    if data.eval:
        sets = {name: _prompts_of_files([path], data, tokenizer, label=name) for name, path in data.eval.items()}
    elif data.source is not None:
        sets = {"eval": _prompts_of_source(data.source, "eval", tokenizer)}
    else:
        sets = {}
    return {name: _sorted_out(prompts[:max_prompts], data, name) for name, prompts in sets.items() if prompts}


def encode_prompt(text: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Encode a prompt with exactly one beginning-of-sequence id, where the tokenizer has one.

    Chat templates write it out, other templates don't; written twice, one goes.
    """
    token_ids = tokenizer.encode(text)
    bos = tokenizer.bos_token_id
    if bos is None:
        return tuple(token_ids)
    written = next((index for index, token in enumerate(token_ids) if token != bos), len(token_ids))
    return (bos, *token_ids[written:])


def _prompts_of_files(
    paths: Iterable[str], data: Data, tokenizer: Tokenizer, *, label: str | None = None
) -> list[Prompt]:
    template = Template.named(data.template)
    prompts: list[Prompt] = []
    origins: dict[str, str] = {}  # prompt_id -> where it was read
    labels: set[str] = set()
    for name in paths:
        path = shipped.resolve(name)
        file_label = _unused(label or path.stem, labels)
        for number, prompt in _prompts_of_file(path, file_label, data, template, tokenizer):
            origin = f"{path}, row {number}"
            if origins.setdefault(prompt.prompt_id, origin) != origin:
                raise DataError(
                    f"{origin}: has the id {prompt.prompt_id!r} of {origins[prompt.prompt_id]}",
                    remedy="make ids unique over all files, or leave data.fields.id out",
                )
            prompts.append(prompt)
    return prompts


def _prompts_of_file(
    path: Path, label: str, data: Data, template: Template, tokenizer: Tokenizer
) -> Iterator[tuple[int, Prompt]]:
    problems = RowProblems(path)
    for row in read_rows(path, data.fields):
        try:
            text = template.render(row.problem, tokenizer)
        except BadRowError as error:
            problems.add(row.number, error)
            continue
        yield (
            row.number,
            Prompt(
                prompt_id=row.name or f"{label}:{row.number}",
                text=text,
                token_ids=encode_prompt(text, tokenizer),
                answer=row.answer,
                meta=row.meta,
            ),
        )
    problems.raise_if_any()


def _unused(label: str, labels: set[str]) -> str:
    """Tell files of one name apart: `train`, `train-2`."""
    candidate, count = label, 1
    while candidate in labels:
        count += 1
        candidate = f"{label}-{count}"
    labels.add(candidate)
    return candidate


def _prompts_of_source(name: str, split: Split, tokenizer: Tokenizer) -> list[Prompt]:
    """Call the user's `rows(split)`; prompts without token ids are encoded as they are, with no template."""
    rows = plugins.resolve(name, key="data.source")
    _check_takes_split(rows, name)
    where = f"data.source: {name}({split!r})"
    prompts: dict[str, Prompt] = {}
    for number, prompt in _raised_as_data_errors(rows, split, where):
        if not isinstance(prompt, Prompt):
            raise DataError(f"{where}: row {number} is {type(prompt).__name__}, expected orz_train.types.Prompt")
        if prompt.prompt_id in prompts:
            raise DataError(f"{where}: row {number} has the prompt_id {prompt.prompt_id!r} of an earlier row")
        token_ids = prompt.token_ids or encode_prompt(prompt.text, tokenizer)
        prompts[prompt.prompt_id] = replace(prompt, token_ids=tuple(token_ids))
    return list(prompts.values())


def _check_takes_split(rows: Callable[..., object], name: str) -> None:
    try:
        signature = inspect.signature(rows)
    except ValueError:  # some functions written in C don't tell
        return
    try:
        signature.bind("train")
    except TypeError as error:
        raise ConfigError(
            f"data.source: {name} got the parameters {signature}, expected (split): {error}",
            remedy="write def rows(split: str) -> Iterable[Prompt]",
        ) from error


def _raised_as_data_errors(
    rows: Callable[[str], Iterable[object]], split: Split, where: str
) -> Iterator[tuple[int, object]]:
    """Iterate over a user's rows; whatever that raises becomes a message with its line."""
    try:
        yield from enumerate(rows(split), start=1)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise DataError(f"{where} raised {type(error).__name__}: {error} ({frame.filename}:{frame.lineno})") from error


def _sorted_out(prompts: list[Prompt], data: Data, where: str) -> LoadedPrompts:
    """Leave out what is too long, and refuse to go on with nothing."""
    if not prompts:
        raise DataError(f"{where}: no prompts")
    if empty := [prompt.prompt_id for prompt in prompts if not prompt.token_ids]:
        raise DataError(f"{where}: the prompt {empty[0]} has no tokens", remedy="give it a text, or remove it")
    fitting = tuple(prompt for prompt in prompts if len(prompt.token_ids) <= data.max_prompt_tokens)
    too_long = tuple(prompt for prompt in prompts if len(prompt.token_ids) > data.max_prompt_tokens)
    if not fitting:
        shortest = min(len(prompt.token_ids) for prompt in prompts)
        raise DataError(
            f"{where}: all {len(prompts)} prompts are longer than data.max_prompt_tokens = {data.max_prompt_tokens}",
            remedy=f"the shortest has {shortest} tokens; raise it, or use a shorter data.template",
        )
    return LoadedPrompts(fitting, too_long)
