"""Objects that lead back to themselves are read, with stubs where they do; lists and dictionaries alone are refused."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path
from typing import Any

import pytest

from orz_ckpt.formats.circles import BACK_REFERENCE
from orz_ckpt.formats.inert import BadPickleError, Inert, Limits, check_tree
from orz_ckpt.formats.inert_pickle import load_pickle

pytestmark = pytest.mark.unit

GOLDEN = Path(__file__).parents[2] / "golden" / "omegaconf_2.3.0.pkl"
PROTOCOLS = range(6)


def read(value: Any, protocol: int = 2, **options: Any) -> Any:
    """Return what is read of `value`, which plain recursion can walk."""
    found = load_pickle(pickle.dumps(value, protocol), **options).value
    check_tree(found)
    return found


def back(value: object) -> bool:
    """Return whether a stub stands for what holds it."""
    return isinstance(value, Inert) and value.name == BACK_REFERENCE


def node(**fields: Any) -> argparse.Namespace:
    return argparse.Namespace(**fields)


def test_configuration_of_omegaconf() -> None:
    """What omegaconf 2.3.0 wrote holds every setting, below the part that comes first and below the whole."""
    value: Any = load_pickle(GOLDEN.read_bytes()).value
    check_tree(value)
    assert "omegaconf.dictconfig.DictConfig" == value["config"].name
    whole, part = value["config"].state["_content"], value["part"].state["_content"]
    assert (1e-4, "${lr}", "???") == tuple(whole[key].state["_val"] for key in ("lr", "rate", "seed"))
    assert [4, 8] == [item.state["_val"] for item in part["sizes"].state["_content"]]
    assert "tiny" == part["name"].state["_val"]
    assert all(back(whole[key].state["_parent"]) for key in ("lr", "rate", "seed"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_child_that_knows_its_parent(protocol: int) -> None:
    """The stub stands in the child where the parent was read first, and in the parent where the child was."""
    parent = node(name="parent", children=[])
    parent.children = [node(name=name, parent=parent) for name in ("a", "b")]

    whole = read(parent, protocol)
    assert ["a", "b"] == [child.state["name"] for child in whole.state["children"]]
    assert [True, True] == [back(child.state["parent"]) for child in whole.state["children"]]

    child = read(parent.children[0], protocol)
    first, second = child.state["parent"].state["children"]
    assert (True, "b") == (back(first), second.state["name"])


def test_object_that_holds_itself() -> None:
    """Directly, in a list, in a dictionary and in a tuple, whose other parts stay."""
    own = node(name="own")
    own.itself, own.listed, own.named, own.paired = own, [1, own], {"own": own}, (own, ["beside"])
    state = read([own])[0].state

    assert back(state["itself"])
    assert (1, True) == (state["listed"][0], back(state["listed"][1]))
    assert back(state["named"]["own"])
    assert (True, ["beside"]) == (back(state["paired"][0]), state["paired"][1])


def test_dictionary_that_an_object_holds() -> None:
    """What is saved may be what an object in it refers to; a tuple that two hold is the same for both."""
    saved: dict[str, Any] = {"step": 7, "trainer": node(lr=0.5)}
    saved["trainer"].saved = saved
    pair = (saved, "beside")
    saved["trainer"].pair = saved["pair"] = pair
    value = read(saved)

    assert (7, 0.5) == (value["step"], value["trainer"].state["lr"])
    assert back(value["trainer"].state["saved"])
    assert value["pair"] is value["trainer"].state["pair"]
    assert (True, "beside") == (back(value["pair"][0]), value["pair"][1])


def test_object_with_pairs_that_knows_its_parent() -> None:
    """A dictionary of a type of its own, as addict makes it, read from one of its values on."""
    own = b"cmine\nOwn\n)\x81"
    data = b"\x80\2" + own + b"q\0}X\6\0\0\0parent" + own + b"X\5\0\0\0childh\0ssb."
    child: Any = load_pickle(data, inert=frozenset({"mine.Own"})).value
    ((key, value),) = child.state["parent"].items

    assert ("child", True) == (key, back(value))


def circle_of_plain() -> Any:
    plain: list[Any] = []
    plain.append({"again": (plain,)})
    return plain


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(circle_of_plain(), id="alone"),
        pytest.param([node(plain=circle_of_plain())], id="in an object"),
        pytest.param([circle_of_plain(), (own := node()), setattr(own, "itself", own)], id="beside an object"),
    ],
)
def test_plain_containers_that_hold_themselves(value: Any) -> None:
    """A circle that no object is a part of is nothing that anybody saves."""
    with pytest.raises(BadPickleError, match="a value holds itself"):
        load_pickle(pickle.dumps(value))


def test_key_that_leads_back() -> None:
    """A key is found by what it is, such as an object in a dictionary of its own: no stub can stand for it."""
    data = b"\x80\2cargparse\nNamespace\n)\x81q\0}X\2\0\0\0by}h\0Nssb."
    with pytest.raises(BadPickleError, match="a key holds itself"):
        load_pickle(data)


def test_limits_hold_behind_a_circle() -> None:
    """A chain of 21 objects and their attributes ends in a stub of two levels, and every reference back is counted."""
    first = last = node()
    for _ in range(20):
        last.next = node(before=last)
        last = last.next
    read(first, limits=Limits(depth=21 * 2 + 2))
    with pytest.raises(BadPickleError, match="nested 44 deep"):
        read(first, limits=Limits(depth=43))
    with pytest.raises(BadPickleError, match="nested more than 41 deep"):
        read(first, limits=Limits(depth=41))

    own = node()
    own.many = [own] * 1000
    read(own)
    with pytest.raises(BadPickleError, match="values"):
        read(own, limits=Limits(items=1000))
