"""Names that messages and pages send people to."""

from __future__ import annotations

from collections import Counter

import pytest

from orz_train.config.fields import all_keys, describe, field_at, section_of
from orz_train.config.orz_names import ORZ_NAMES
from orz_train.config.problems import dotted

pytestmark = pytest.mark.unit


def test_every_orz_name_leads_to_a_key_that_exists() -> None:
    """A name of ORZ's is there once, and its counterpart is a setting of ours or nothing."""
    known = {dotted(key) for key in all_keys()}
    assert set() == {name.key for name in ORZ_NAMES if name.key} - known
    assert set() == {name for name, count in Counter(name.orz for name in ORZ_NAMES).items() if count > 1}
    assert all(name.note for name in ORZ_NAMES if not name.key)


def test_every_field_is_explained() -> None:
    """Each value has a docstring for the reference page and words for what it takes; each section has a docstring."""
    for key in all_keys():
        field = field_at(key)
        assert field is not None
        section = section_of(field)
        assert section.__doc__ if section else field.description, dotted(key)
        assert describe(field)
