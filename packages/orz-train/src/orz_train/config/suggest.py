"""What somebody probably meant by a key that doesn't exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from orz_train.config.fields import all_keys, section_at
from orz_train.config.orz_names import BY_ORZ_NAME
from orz_train.config.problems import Key, dotted

_NEAR = 0.75
_NEAR_PATH = 0.7


def unknown_key(key: Key) -> str:
    """Say that a key is unknown and what it is here: an ORZ name, a misspelling, or in another section."""
    near = nearest_keys(key)
    orz = BY_ORZ_NAME.get(key[-1])
    if orz and (not near or len(near) > 1 or near[0] != (*key[:-1], orz.key)):
        hint = f"this is '{orz.key}' here" if orz.key else "it has no counterpart here"
        return f"unknown key; {hint}{f' ({orz.note})' if orz.note else ''}"
    if near:
        return f"unknown key; did you mean {' or '.join(f'{dotted(found)!r}' for found in near)}?"
    section = section_at(key[:-1])
    listed = f"; expected one of {', '.join(section.model_fields)}" if section else ""
    return f"unknown key{listed}"


def nearest_keys(key: Key) -> list[Key]:
    """Return the keys that a wrong one may stand for, the likeliest first; none where nothing is near."""
    section = section_at(key[:-1])
    if section:
        sibling = difflib.get_close_matches(key[-1], list(section.model_fields), n=1, cutoff=_NEAR)
        if sibling:
            return [(*key[:-1], sibling[0])]
    namesakes = [known for known in all_keys() if known[-1] == key[-1]]
    if namesakes:
        return _best_paths(key, namesakes)
    by_path = difflib.get_close_matches(dotted(key), [dotted(known) for known in all_keys()], n=1, cutoff=_NEAR_PATH)
    if by_path:
        return [tuple(by_path[0].split("."))]
    leaf = difflib.get_close_matches(key[-1], sorted({known[-1] for known in all_keys()}), n=1, cutoff=_NEAR)
    return _best_paths(key, [known for known in all_keys() if leaf and known[-1] == leaf[0]])


def nearest_name(name: str, names: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the nearest of some names, or nothing."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _best_paths(key: Key, candidates: list[Key]) -> list[Key]:
    """Keep the candidates that share the first section with the key, or all where none does; two at most."""
    related = [known for known in candidates if known[0] == key[0]] or candidates
    return sorted(related, key=lambda known: -difflib.SequenceMatcher(None, dotted(key), dotted(known)).ratio())[:2]
