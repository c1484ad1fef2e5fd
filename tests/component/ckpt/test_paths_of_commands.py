"""What a command is given as a path: a URL, nothing at all, a file, a folder that looks like no checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from orz_ckpt.cluster.collect.run import collect
from orz_ckpt.cluster.collect.text import collect_text
from orz_ckpt.cluster.fleet import Here
from orz_cli.main import main

pytestmark = pytest.mark.component

URL = "s3://user:secret@bucket/run"


@pytest.mark.parametrize(
    "command",
    [
        ("inspect", "URL"),
        ("verify", "URL"),
        ("verify", "model", "--against", "URL"),
        ("verify", "model", "URL"),
        ("manifest", "URL"),
        ("merge", "model", "URL"),
        ("merge", "URL", "out"),
        ("merge", "model", "out", "--config", "URL"),
        ("merge", "model", "out", "--lora", "URL"),
        ("convert", "model", "URL", "--to", "hf"),
        ("diff", "model", "URL"),
        ("diff", "model", "model", "--plot", "URL"),
        ("prune", "URL", "--keep-last", "1"),
        ("preflight", "URL"),
        ("locate", "URL"),
        ("collect", "URL", "--to", "out"),
    ],
)
@pytest.mark.parametrize("given", [URL, ""])
def test_no_path_of_this_machine(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    given: str,
) -> None:
    """A URL is no folder of that name below this one, and nothing is not the current folder: exit 2, nothing made."""
    monkeypatch.chdir(tmp_path)
    before = sorted(entry.name for entry in tmp_path.iterdir())
    code = main(["ckpt", *(given if word == "URL" else word for word in command)])
    said = capsys.readouterr()

    assert (2, "", before) == (code, said.out, sorted(entry.name for entry in tmp_path.iterdir()))
    assert model.is_dir()
    assert ("orz ckpt copy" if given else "a path is empty") in said.err
    assert "secret" not in said.err


@pytest.mark.parametrize(
    "command", ["merge {} {}-out", "convert {} {}-out --to hf", "inspect {}", "verify {}", "manifest {}"]
)
def test_an_empty_tag(model: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A variable that is not set is not taken for no tag, which would be the one that `latest` names."""
    words = command.format(model, model).split()
    before = sorted(model.parent.rglob("*"))
    code = main(["ckpt", *words, "--tag", ""])
    assert 2 == code
    assert "--tag: the name is empty" in capsys.readouterr().err
    assert before == sorted(model.parent.rglob("*"))


def test_a_file_url_is_a_path(model: Path, tmp_path: Path) -> None:
    """file:// names a folder of this machine."""
    assert 0 == main(["ckpt", "merge", f"file://{model}", f"file://{tmp_path}/out"])
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.parametrize("command", ["locate RUN", "collect RUN --to OUT", "preflight RUN"])
def test_a_file_url_is_a_path_on_nodes(
    command: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commands that ask nodes ask for the path, too, and not for a folder `file:`."""
    places = {"RUN": f"file://{run}", "OUT": str(tmp_path / "out")}
    code = main(["ckpt", *(places.get(word, word) for word in command.split()), "--json"])
    document = json.loads(capsys.readouterr().out)

    assert (0, str(run)) == (code, document["path"])


def test_the_head_of_a_run_that_saved_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is left where a run was driven from, records, a config.json or nothing at all, leads to `locate`."""
    run = tmp_path / "exp"
    (run / "dumped_replay_buffer").mkdir(parents=True)
    (run / "dumped_replay_buffer" / "0.jsonl").write_text("{}\n", encoding="utf-8")
    (run / "iter10_generation_results.json").write_text("{}", encoding="utf-8")
    (run / "tensorboard").mkdir()
    (run / "tensorboard" / "events.out.tfevents.1.host").write_bytes(b"\1")
    policy = tmp_path / "policy"
    policy.mkdir()
    (policy / "config.json").write_text('{"architectures": ["Qwen2ForCausalLM"]}', encoding="utf-8")

    for path in (run, policy, tmp_path / "nothing-there"):
        for command in ("verify", "inspect"):
            assert main(["ckpt", command, str(path)]) in {1, 2, 3}
            captured = capsys.readouterr()
            assert f"orz ckpt locate {path}" in captured.out + captured.err


def test_no_output_inside_a_checkpoint(run: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A step that verifies still does after every command that was told to write into it."""
    step = run / "checkpoints" / "step_000010"
    commands = [
        ("merge", step / "policy", step / "m"),
        ("merge", model, step / "deep" / "m"),
        ("convert", step / "critic", step / "m", "--to", "hf"),
        ("copy", model, step / "m"),
        ("collect", run, "--to", step),
        ("collect", run, "--to", step / "m"),
        ("collect", run, "--to", run / "x"),
        ("collect", run, "--to", model),
    ]
    for command in commands:
        assert main(["ckpt", *map(str, command)]) in {1, 2}, command
        captured = capsys.readouterr()
        assert "inside" in captured.err or "is a folder of weights" in captured.err
    assert 0 == main(["ckpt", "verify", str(run), "--fail-on", "warn"])
    assert ["checkpoints"] == [entry.name for entry in run.iterdir()]


def test_prune_leaves_what_is_not_of_the_save(run: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An old step with a merged model in it is not deleted along with that, and the plan says why."""
    step = run / "checkpoints" / "step_000010"
    model.rename(step / "merged")
    assert 0 == main(["ckpt", "prune", str(run), "--keep-last", "1", "--yes"])
    said = " ".join(capsys.readouterr().out.split())

    assert (step / "merged").is_dir()
    assert not (run / "checkpoints" / "step_000020").exists()
    assert "holds merged/config.json, which its manifest does not name" in said


@pytest.mark.parametrize(
    ("name", "expected", "said"),
    [
        ("empty", 3, "is empty"),
        ("records", 3, "only records"),
        ("configuration", 1, "there is no safetensors file"),
        ("cut", 1, "model-00001-of-00002.safetensors"),
        ("hostile", 4, "system"),
    ],
)
def test_copy_of_what_is_no_checkpoint(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, expected: int, said: str
) -> None:
    """What `verify --level quick` fails is not copied, with the same finding; a copy would be as broken."""
    source = tmp_path / name
    source.mkdir()
    if name == "records":
        (source / "metrics.jsonl").write_text("{}", encoding="utf-8")
    elif name == "configuration":
        (source / "config.json").write_bytes((model / "config.json").read_bytes())
    elif name == "cut":
        source.rmdir()
        model.rename(source)
        file = source / "model-00001-of-00002.safetensors"
        file.write_bytes(file.read_bytes()[:-9])
    elif name == "hostile":
        (source / "pytorch_model.bin").write_bytes(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    code = main(["ckpt", "copy", str(source), str(tmp_path / "copy")])

    assert expected == code
    assert said in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "copy").exists()
    assert expected == main(["ckpt", "verify", str(source), "--level", "quick"])


@pytest.mark.parametrize("output", ["--json", "--format=junit", "--format=sarif"])
def test_what_ends_a_command_is_told_to_programs(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], output: str
) -> None:
    """A program that reads stdout gets a report of every error that ends a command, with the exit code's meaning."""
    empty = tmp_path / "empty"
    empty.mkdir()
    commands = [
        (("merge", empty, tmp_path / "o"), 3, "inconclusive"),
        (("verify", tmp_path / "nothing-there"), 2, "inconclusive"),
        (("merge", model, model / "o"), 2, "inconclusive"),
        (("copy", "http://user:secret@127.0.0.1:9/x", tmp_path / "o"), 3, "inconclusive"),
    ]
    for command, code, status in commands:
        assert code == main(["ckpt", *map(str, command), output])
        captured = capsys.readouterr()
        assert "not_judged" in captured.out
        assert "error: " in captured.err
        assert "secret" not in captured.out + captured.err
        if output == "--json":
            document = json.loads(captured.out)
            assert ({"not_judged"}, status) == ({e["code"] for e in document["findings"]}, document["status"])
            assert str(command[1]).replace("user:secret", "***") in document["path"]


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (("verify", "model", "--level", "fulll"), "did you mean --level full?"),
        (("merge", "model", "out", "--dtype", "bf16"), "did you mean --dtype bfloat16?"),
        (("merge", "model", "out", "--dtype", "xyz"), "give one of them: --dtype keep"),
    ],
)
def test_mistyped_value(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], remedy: str
) -> None:
    """What was meant is proposed."""
    monkeypatch.chdir(model.parent)
    assert 2 == main(["ckpt", *words])
    said = capsys.readouterr().err

    assert remedy in said
    assert "Value error" not in said


def test_a_file_beside_the_weights(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """config.json is no checkpoint; its folder is."""
    assert 3 == main(["ckpt", "verify", str(model / "config.json")])
    assert f"give its folder: {model}" in " ".join(capsys.readouterr().out.split())


def test_two_that_cannot_be_compared(model: Path, tmp_path: Path) -> None:
    """Whatever is wrong with one of them, `diff` could not decide."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "pytorch_model.bin").write_bytes(b"PK\x03\x04 cut off")
    (tmp_path / "cut.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")

    for broken in ("torch", "cut.safetensors"):
        assert 3 == main(["ckpt", "diff", str(tmp_path / broken), str(model)])


def test_manifest_of_a_part_of_an_uncommitted_step(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is told from a part that a manifest covers: here there is none, and the part can be described as a copy."""
    step = run / "checkpoints" / "step_000030"
    assert 2 == main(["ckpt", "manifest", str(step / "policy")])
    assert "whose manifest covers it" in capsys.readouterr().err
    (step / "manifest.json").unlink()
    assert 1 == main(["ckpt", "manifest", str(step / "policy")])
    assert "it has no manifest" in capsys.readouterr().err


def test_collect_that_brought_nothing_names_no_next_command(run: Path, tmp_path: Path) -> None:
    """`orz ckpt verify` of a folder where nothing was written would be no help."""
    shutil.rmtree(run / "checkpoints" / "step_000010")
    shutil.rmtree(run / "checkpoints" / "step_000020")
    file = run / "checkpoints" / "step_000030" / "policy" / "model-00001-of-00002.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    for dest, expected in ((tmp_path / "out", 1), (tmp_path / "sound", 0)):
        done = collect(Here(), [str(run)], dest)
        console = Console(width=200, record=True)
        console.print(collect_text(done))
        assert (expected, not expected) == (
            done.status().exit_code,
            "orz ckpt verify" in console.export_text().rpartition("\n  next")[2],
        )
        data[-1] ^= 1
        file.write_bytes(data)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("verify", "model", "--sample", "50%"), "--level sample"),
        (("verify", "model", "--tag", "x"), "has no tags"),
        (("merge", "model", "out", "--tag", "x"), "has no tags"),
        (("inspect", "model", "--tag", "x"), "has no tags"),
        (("verify", "model", "--inert", "foo"), "MODULE.NAME"),
        (("merge", "model", "out", "--max-memory", "1"), "--max-memory 6MiB"),
        (("merge", "model", "out", "--max-shard-size", "5"), "5GB"),
    ],
)
def test_no_option_is_passed_over(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    """An option that means nothing here, or cannot be meant, is refused and not ignored."""
    monkeypatch.chdir(model.parent)
    assert 2 == main(["ckpt", *words])
    assert said in capsys.readouterr().err
    assert ["model"] == [entry.name for entry in model.parent.iterdir()]


@pytest.mark.parametrize("words", [("merge", "run", "out"), ("diff", "run", "run"), ("merge", "step", "out")])
def test_the_policy_is_proposed_first(
    words: tuple[str, ...], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of several models the policy is the one that is meant most often, though critic comes first by name."""
    step = run / "checkpoints" / "step_000030"
    places = {"run": run, "step": step, "out": tmp_path / "out"}
    assert 2 == main(["ckpt", *(str(places.get(word, word)) for word in words)])
    said = capsys.readouterr().err

    assert f": {step / 'policy'}" in said


def test_a_command_that_is_printed_can_be_pasted(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder with a control character in its name is written as a shell reads it."""
    out = tmp_path / "out\x1b[31m"
    assert 0 == main(["ckpt", "merge", str(model), str(out)])

    assert f"orz ckpt verify $'{tmp_path}/out\\x1b[31m'" in capsys.readouterr().out


def test_a_command_that_is_printed_takes_no_folder_for_an_option(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The name of the folder may begin as options do."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, "-dash")
    assert 1 == main(["ckpt", "verify", "./-dash", "--require-manifest"])
    assert "orz ckpt manifest ./-dash\n" in capsys.readouterr().out

    assert 0 == main(["ckpt", "manifest", "./-dash"])


LONG = "x" * 300


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("verify", "file/x"), 2, "file/x does not exist"),
        (("inspect", "file/x"), 2, "file/x does not exist"),
        (("verify", "a::b"), 2, "a::b does not exist"),
        (("verify", "loop"), 3, "loop cannot be read"),
        (("copy", "model", "loop/x"), 1, "loop is no folder: name another place"),
        (("collect", "run", "--to", "loop/x"), 1, "loop/x cannot be written"),
        (("collect", "run", "--to", LONG), 1, f"{LONG} cannot be written"),
        (("merge", "model", LONG), 1, f"{LONG} cannot be written"),
        (("merge", "model", "file/x"), 1, "file is no folder: name another place"),
        (("merge", "model", "nowhere/x"), 2, "/not-there, and nothing is there on this machine; nothing was written"),
        (("diff", "model", "model", "--plot", "file/x.svg"), 2, "name another place"),
        (("diff", "model", "model", "--plot", "folder.svg"), 2, "that is a folder"),
        (("convert", "model", "out"), 2, "Missing option '--to'. Choose from: hf, orz-critic\n"),
    ],
)
def test_places_that_cannot_be(
    model: Path,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    """A file or a link in a circle on the way, a name that is too long: what is in the way is said, and no more."""
    monkeypatch.chdir(model.parent)
    Path("file").touch()
    Path("folder.svg").mkdir()
    Path("loop").symlink_to("loop")
    Path("nowhere").symlink_to("not-there")
    before = sorted(Path.cwd().iterdir())
    assert code == main(["ckpt", *(str(run) if word == "run" else word for word in words)])
    shown = "".join(capsys.readouterr())

    assert said in shown
    assert "Traceback" not in shown
    assert before == sorted(Path.cwd().iterdir())


@pytest.mark.parametrize("command", ["verify", "locate"])
def test_an_error_as_json_names_what_was_given(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """Of an argument of several words, too, and without the secret of a URL."""
    main(["ckpt", command, URL if command == "locate" else "nope", "--json"])
    said = capsys.readouterr().out

    assert ("s3://***@bucket/run" if command == "locate" else "nope") == json.loads(said)["path"]
    assert "secret" not in said
