"""Nouns from JSON that another machine sent, perhaps of another version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from orz_ckpt.errors import CkptError

Noun = TypeVar("Noun")


def from_wire(kind: type[Noun], document: Mapping[str, Any]) -> Noun:
    """Make a `kind`, a dataclass, of a JSON object; keys that it does not have are left out.

    Raises:
        CkptError: a key that it needs is missing.
    """
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # they are dataclasses
    try:
        return kind(**{key: value for key, value in document.items() if key in known})
    except (TypeError, AttributeError) as error:
        raise CkptError(
            f"a node answers in other words than this orz-ckpt knows: {error}",
            remedy="install the same version of orz-ckpt on all nodes",
        ) from error
