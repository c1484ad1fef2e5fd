"""How long nodes may search for a run, and the command that a search which ended early names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orz_ckpt.cluster.fleet import Fleet, Here
from orz_ckpt.cluster.locate import locate
from orz_ckpt.cluster.located_findings import Search
from orz_ckpt.unfinished import go_on_collecting
from orz_cli.findings import Status
from orz_cli.main import main

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("alone")]

SEARCH = Search(runs=["/data/my run", "exp"], everywhere=False, alone=False, flags="--ray", cut=[], silent=False)


@pytest.mark.parametrize(
    ("flags", "budget_s", "expected"),
    [
        ("--ray", 20.0, "orz ckpt locate '/data/my run' exp --seconds 120 --ray"),
        ("", 20.0, "orz ckpt locate '/data/my run' exp --seconds 120"),
        ("--hosts a,b", 120.0, "orz ckpt locate '/data/my run' exp --seconds 240 --hosts a,b"),
        ("--ray", 3000.0, "orz ckpt locate '/data/my run' exp --seconds 3600 --ray"),
        ("--ray", 3600.0, ""),
    ],
)
def test_the_longer_search(flags: str, budget_s: float, expected: str) -> None:
    """The same runs and nodes, longer than before, and no longer than the option allows."""
    assert expected == replace(SEARCH, flags=flags, budget_s=budget_s).longer


def test_a_search_cut_short_names_run_and_nodes(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typed as it stands, the remedy asks the same nodes for the same run."""
    (alone / "work" / "run" / "iter1").mkdir(parents=True)
    monkeypatch.setattr(Here, "flags", "--hosts n1")
    (found,) = [one for one in locate(Here(), ["run"], budget_s=-1.0).findings if one.code == "scan_cut_short"]

    assert found.remedy.endswith(": orz ckpt locate run --seconds 120 --hosts n1")


def test_a_search_cut_short_is_not_followed_by_one_of_all_folders(alone: Path) -> None:
    """That would come to its end, say, and nothing would tell any more that the first did not."""
    (alone / "work" / "run").mkdir()
    found = locate(Here(), [str(alone / "work" / "run")], budget_s=-1.0)
    assert (Status.INCONCLUSIVE, False) == (found.status(), found.everywhere)


@pytest.mark.parametrize(
    ("flags", "budget_s", "listing", "elsewhere"),
    [
        ("--hosts a,b", 120.0, "--seconds 120 --hosts a,b", "--seconds 120 --ray"),
        ("", 7.5, "--seconds 7.5", "--seconds 7.5 --ray"),
        ("--ray", 20.0, "--ray", "--ray"),
    ],
)
def test_other_searches_take_as_long(flags: str, budget_s: float, listing: str, elsewhere: str) -> None:
    """A command that asks again, or asks other nodes, searches as long as this one could, where that was said."""
    search = replace(SEARCH, flags=flags, budget_s=budget_s)

    assert f"orz ckpt locate {listing}" == search.listing
    assert f"orz ckpt locate '/data/my run' exp {elsewhere}" == search.elsewhere.split("    #")[0]


@pytest.mark.parametrize(
    ("seconds", "options"), [([], "--hosts n1"), (["--seconds", "120"], "--seconds 120 --hosts n1")]
)
def test_the_command_that_collects_searches_as_long(
    seconds: list[str],
    options: str,
    model: Path,
    disks: Callable[..., Fleet],
    alone: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A search that needed two minutes finds as much when it is collected, and when a collection goes on."""
    shutil.copytree(model, alone / "n1" / "run" / "checkpoint-7")
    fleet: Any = disks(alone, "n1")
    fleet.flags = "--hosts n1"
    monkeypatch.setattr("orz_ckpt.cluster.connect.HostsFleet", lambda *_, **__: fleet)
    code = main(["ckpt", "locate", "/run", "--hosts", "n1", "--json", *seconds])
    assert (0, f"orz ckpt collect /run --to /run-collected {options}") == (
        code,
        json.loads(capsys.readouterr().out)["command"],
    )

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("orz_ckpt.cluster.collect.run.fetch_all", killed)
    dest = alone / "home" / "run"
    main(["ckpt", "collect", "/run", "--to", str(dest), "--hosts", "n1", *seconds])
    assert f"orz ckpt collect /run --to {dest} {options}" == go_on_collecting(dest)


@pytest.mark.parametrize("command", ["locate", "verify", "collect", "collect to a store"])
def test_commands_search_as_long_as_they_are_told(
    command: str,
    model: Path,
    disks: Callable[..., Fleet],
    alone: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`--seconds` reaches each node, and is 20 where it is not given."""
    shutil.copytree(model, alone / "n1" / "run" / "checkpoint-7")
    fleet = disks(alone, "n1")
    told: list[float] = []
    ask = fleet.ask

    def listen(call: str, arguments: Any, **options: Any) -> Any:
        told.extend(one["budget_s"] for one in arguments.values() if call == "locate")
        return ask(call, arguments, **options)

    monkeypatch.setattr(fleet, "ask", listen)
    monkeypatch.setattr("orz_ckpt.cluster.connect.HostsFleet", lambda *_, **__: fleet)
    name, _, store = command.partition(" ")
    to = ["--to", "memory://bucket/run" if store else str(alone / "home")] if name == "collect" else []
    for seconds in ([], ["--seconds", "7"]):
        main(["ckpt", name, "/run", *to, "--hosts", "n1", *seconds])

    assert [20.0, 7.0] == told, capsys.readouterr()


@pytest.mark.parametrize("seconds", ["0", "-1", "3601", "nan"])
@pytest.mark.parametrize("command", ["locate", "verify", "collect"])
def test_times_that_are_refused(command: str, seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    """More than nothing, and an hour at most: said before a node is asked."""
    to = ["--to", "home"] if command == "collect" else []

    assert 2 == main(["ckpt", command, "run", *to, "--hosts", "n1", "--seconds", seconds])
    assert "expected more than 0, at most 3600" in capsys.readouterr().err


def test_one_machine_verifies_without_a_search(capsys: pytest.CaptureFixture[str]) -> None:
    """There `--seconds` would change nothing."""
    assert 2 == main(["ckpt", "verify", "run", "--seconds", "7"])
    assert "give --ray or --hosts" in capsys.readouterr().err
