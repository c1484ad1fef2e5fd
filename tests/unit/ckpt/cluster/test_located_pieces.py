"""What names tell of weights, and how pieces of several nodes make a checkpoint."""

from __future__ import annotations

import pytest

from orz_ckpt.cluster.groups import Group, Located, group_pieces, newest_groups, of_one_run, same_views
from orz_ckpt.node.pieces import LocatedPiece, run_folder
from orz_ckpt.node.signatures import deepspeed_names, recognise
from orz_ckpt.steps import step_named

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("files", "folders", "kind", "ranks", "wants"),
    [
        (["config.json", "tokenizer.json"], [], None, (), None),
        (["model.safetensors"], [], "hf", (), ("model.safetensors",)),
        (
            ["model-00001-of-00003.safetensors"],
            [],
            "hf",
            (),
            tuple(f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)),
        ),
        (["adapter_model.safetensors"], [], "peft", (), ("adapter_config.json", "adapter_model.safetensors")),
        (
            ["model_world_size_3_rank_2.pt", "model_world_size_3_rank_0.pt", "fsdp_config.json"],
            ["huggingface"],
            "fsdp",
            (0, 2),
            tuple(f"model_world_size_3_rank_{rank}.pt" for rank in range(3)),
        ),
        (["bf16_zero_pp_rank_10_mp_rank_00_optim_states.pt"], [], "deepspeed", (10,), None),
        (["mp_rank_00_model_states.pt"], ["zero"], "deepspeed-universal", (), None),
        (["mp_rank_00_model_states.pt"], [], "deepspeed", (), None),
        (["__0_0.distcp", "__1_0.distcp"], [], "dcp", (0, 1), None),
        ([".metadata"], [], "dcp", (), None),
        (["__1.metadata"], [], "dcp", (), None),
        (
            ["shard-00003-model-00001-of-00002.safetensors", "config.json"],
            [],
            "dcp",
            (2,),
            ("shard-00003-model-00001-of-00002.safetensors",),
        ),
        (["model_optim_rng.pt"], [], "megatron", (), None),
        (["iter_0000100_7_local.pt"], [], "nvrx", (7,), None),
        (["model-rank-0-part-0.safetensors"], [], "vllm-sharded", (0,), None),
        (["consolidated.00.pth"], [], "torch", (), ("consolidated.00.pth",)),
    ],
)
def test_recognise(
    files: list[str], folders: list[str], kind: str | None, ranks: tuple[int, ...], wants: tuple[str, ...] | None
) -> None:
    """Each framework is told by its names, with the ranks that are here and all names that have to be."""
    found = recognise(files, folders)
    assert kind == (found.kind if found else None)
    if found is not None:
        assert (ranks, wants) == (found.ranks, found.wants)


def test_dcp_is_committed_by_its_metadata() -> None:
    """`.metadata` is what torch writes last."""
    found = [recognise([*more, "__0_0.distcp"], []) for more in ([], [".metadata"], ["__0.metadata"])]
    assert [False, True, True] == [signature.committed for signature in found if signature]


def test_names_of_all_deepspeed_ranks() -> None:
    """Of some ranks' files those of all follow: ZeRO-3 partitions the model's states too, ZeRO-1 and 2 do not."""
    third = deepspeed_names(
        2, ["zero_pp_rank_1_mp_rank_00_model_states.pt", "zero_pp_rank_1_mp_rank_00_optim_states.pt"]
    )
    assert {
        f"zero_pp_rank_{rank}_mp_rank_00_{what}_states.pt" for rank in (0, 1) for what in ("model", "optim")
    } == set(third)
    second = deepspeed_names(2, ["bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"])
    assert {
        "mp_rank_00_model_states.pt",
        "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt",
        "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt",
    } == set(second)


@pytest.mark.parametrize(
    ("path", "step", "run"),
    [
        ("/root/orz_ckpt/exp/iter100/policy", 100, "/root/orz_ckpt/exp"),
        ("/r/checkpoints/step_000050", 50, "/r"),
        ("/r/checkpoints/step_000050.tmp-ab/policy", 50, "/r"),
        ("/r/global_step_7/actor", 7, "/r"),
        ("/r/checkpoint-20/global_step20", 20, "/r"),
        ("/r/model", None, "/r"),
        ("/model", None, "/"),
    ],
)
def test_step_and_run_of_a_path(path: str, step: int | None, run: str) -> None:
    """The step is the innermost that a name states, the run what lies above the outermost."""
    assert (step, run) == (step_named(path), run_folder(path))


def piece(path: str, base: str, **fields: object) -> LocatedPiece:
    return LocatedPiece(path=path, base=base, **{"kind": "orz", "step": 50, **fields})  # type: ignore[arg-type]


def at(node: str, found: LocatedPiece) -> Located:
    return Located(piece=found, nodes=(node,))


def test_one_folder_seen_twice_is_one_piece() -> None:
    """On a shared disk every node reports the same folder; equal paths on different disks stay apart."""
    shared = piece("/mnt/r/checkpoints/step_000050", "/mnt/r", files={"a": 1}, inode=5, newest=1.0)
    own = piece("/mnt/r/checkpoints/step_000050", "/mnt/r", files={"a": 1}, inode=9, newest=2.0)
    found = same_views({"a": [shared], "b": [shared], "c": [own]})
    assert [("a", "b"), ("c",)] == [located.nodes for located in found]


def test_halves_on_two_nodes_are_one_checkpoint() -> None:
    """What one node lacks another has: complete together, though neither is alone."""
    wants = ["policy/*", "policy/model-1.safetensors", "policy/model-2.safetensors"]
    first = piece("/a/r/checkpoints/step_000050", "/a/r", files={"policy/model-1.safetensors": 3}, wants=wants)
    second = piece("/b/r/checkpoints/step_000050", "/b/r", files={"policy/model-2.safetensors": 4}, wants=wants)
    (group,) = group_pieces([at("n1", first), at("n2", second)])
    assert [False, False] == [first.complete, second.complete]
    assert (True, []) == (group.complete, group.missing)
    assert ["policy/model-2.safetensors"] == group_pieces([at("n1", first)])[0].missing


RANKS = [f"model_world_size_4_rank_{rank}.pt" for rank in range(4)]
ALIKE = [[RANKS[0], RANKS[2]], [RANKS[1], RANKS[3]]]


@pytest.mark.parametrize(
    ("held", "copies", "missing", "complete"),
    [
        ((0, 1), ALIKE, [], True),
        ((0, 3), ALIKE, [], True),
        ((0, 2), ALIKE, [1, 3], False),
        ((0, 1, 2, 3), [], [], True),
        ((0, 1), [], [2, 3], False),
        ((0, 1), None, [2, 3], None),
        ((0, 1, 2, 3), None, [], True),
    ],
)
def test_one_of_equal_files_is_enough(
    held: tuple[int, ...], copies: list[list[str]] | None, missing: list[int], complete: bool | None
) -> None:
    """Of files with the same weights one has to be there; where nobody knows which those are, nobody knows that."""
    found = piece("/r/actor", "/r", kind="fsdp", files={RANKS[rank]: 5 for rank in held}, wants=RANKS, copies=copies)
    (group,) = group_pieces([at("n1", found)])
    for one in (found, group):
        assert ([RANKS[rank] for rank in missing], complete) == (one.missing, one.complete)
        assert [name for rank, name in enumerate(RANKS) if rank not in held] == one.absent


OTHERS = [[RANKS[0], RANKS[1]], [RANKS[2], RANKS[3]]]


@pytest.mark.parametrize(
    ("told", "other", "complete"),
    [(ALIKE, ALIKE, True), (None, ALIKE, None), (ALIKE, None, None), (ALIKE, OTHERS, None), ([], ALIKE, None)],
    ids=["one voice", "the first cannot tell", "the second cannot tell", "two ways", "nobody has copies, or some have"],
)
def test_all_nodes_have_to_agree_which_files_are_equal(
    told: list[list[str]] | None, other: list[list[str]] | None, complete: bool | None
) -> None:
    """Each is sure of its own files alone: where two do not say the same, nobody knows whose copies are here."""
    first = piece("/a/actor", "/a", kind="fsdp", files={RANKS[0]: 5}, wants=RANKS, copies=told)
    second = piece("/b/actor", "/b", kind="fsdp", files={RANKS[1]: 5}, wants=RANKS, copies=other)
    (group,) = group_pieces([at("n1", first), at("n2", second)])
    assert (complete, [RANKS[2], RANKS[3]]) == (group.complete, group.absent)


def test_a_node_without_any_of_the_files_has_no_say() -> None:
    """Of which its own are cut off, or which holds other files of the save, it says nothing of copies."""
    first = piece("/a/actor", "/a", kind="fsdp", files={RANKS[0]: 5, RANKS[1]: 5}, wants=RANKS, copies=ALIKE)
    second = piece("/b/actor", "/b", kind="fsdp", files={"extra_state.pt": 5}, wants=RANKS, copies=[])
    (group,) = group_pieces([at("n1", first), at("n2", second)])
    assert (True, []) == (group.complete, group.missing)


def test_different_runs_stay_apart_where_nobody_named_one() -> None:
    """Equal steps of two runs are one checkpoint only if the user said that both are his run."""
    members = [at(run, piece(f"/{run}/r/checkpoints/step_000050", f"/{run}/r")) for run in ("x", "y")]
    assert [1, 2] == [len(group_pieces(members)), len(group_pieces(members, by_base=True))]


HALVES = ["m-1.safetensors", "m-2.safetensors"]


@pytest.mark.parametrize(
    ("own", "other", "kept"),
    [
        ({"files": {"m-1.safetensors": 3}, "wants": HALVES}, {"files": {"m-2.safetensors": 4}, "wants": HALVES}, True),
        (
            {"files": {"m-1.safetensors": 3}, "wants": HALVES, "attempt": "a"},
            {"files": {"m-2.safetensors": 4}, "wants": HALVES, "attempt": "b"},
            False,
        ),
        ({"files": {"m-1.safetensors": 3}, "wants": HALVES}, {"files": {"m-1.safetensors": 4}, "wants": HALVES}, False),
        ({"files": dict.fromkeys(HALVES, 3), "wants": HALVES}, {"files": {"m-3.safetensors": 4}}, False),
        ({"files": {"m.pt": 3}}, {"files": {"m.pt": 4}}, False),
        ({"files": {"m.pt": 3}}, {"files": {"n.pt": 4}}, True),
        ({"files": {"m.pt": 3}, "wants": ["m.pt"], "perhaps_more": True}, {"files": {"n.pt": 4}}, True),
        ({"files": {"m.pt": 3}, "wants": ["m.pt"], "perhaps_more": True}, {"files": {"m.pt": 4}}, False),
        ({"files": {"m.pt": 3}, "step": 40}, {"files": {"n.pt": 4}}, False),
    ],
    ids=[
        "the other half",
        "the other half of another save",
        "the same half",
        "nothing is missing",
        "nothing tells what is missing, and a file is there twice",
        "nothing tells what is missing",
        "nothing tells whether more is missing",
        "nothing tells whether more is missing, and a file is there twice",
        "a step that is not at the path",
    ],
)
def test_a_folder_of_the_same_name(own: dict[str, object], other: dict[str, object], kept: bool) -> None:
    """It is of the run that lies at the path itself only if it has what a checkpoint there lacks, of the same save."""
    step = own.get("step", 50)
    first = at("n1", piece(f"/data/r/iter{step}", "/data/r", **{"kind": "hf", **own}))
    second = at("n2", piece("/home/r/iter50", "/home/r", **{"kind": "hf", "by_name": True, **other}))
    expected = ([first, second], []) if kept else ([first], [second])
    assert expected == of_one_run([first, second])


def test_a_name_is_all_there_is() -> None:
    """Where the path itself holds records alone, on whatever node, folders of its name are the run."""
    records = at("n1", piece("/data/r/checkpoints/step_000050", "/data/r", files={"policy/config.json": 2}))
    named = at("n2", piece("/home/r/iter40", "/home/r", kind="hf", by_name=True, files={"m.safetensors": 4}))
    assert ([records, named], []) == of_one_run([records, named])


@pytest.mark.parametrize(
    ("own", "joined"),
    [
        (None, False),
        ({"attempt": "x"}, True),
        ({"attempt": "other", "committed": True}, False),
        ({"attempt": ""}, True),
        ({"attempt": "", "committed": True}, False),
    ],
    ids=["nothing else", "same save", "another save", "a stub that says nothing", "committed without a word"],
)
def test_a_save_in_flight_joins_its_own(own: dict[str, object] | None, joined: bool) -> None:
    """A temporary folder belongs to the step folder of the same save, and never to another's."""
    flying = piece("/r/checkpoints/step_000050.tmp-x", "/r", attempt="x", in_flight=True, files={"a": 1})
    members = [at("n2", flying)]
    if own is not None:
        members.append(at("n1", piece("/r/checkpoints/step_000050", "/r", **own)))
    groups = group_pieces(members)
    assert joined == (len(groups) == 1 and len(groups[0].members) == 2)
    if not joined:
        assert "checkpoints/step_000050.tmp-x" in {group.rel for group in groups}


def test_the_newest_settled_step_decides() -> None:
    """The highest step counts; a save in flight does not, unless there is nothing else."""

    def made(step: int | None, *, flying: bool = False) -> Group:
        member = at("n", piece(f"/r/s{step}", "/r", step=step, in_flight=flying))
        return Group(rel=f"s{step}", kind="orz", step=step, members=(member,))

    assert [20] == [group.step for group in newest_groups([made(10), made(20), made(30, flying=True)])]
    assert [30] == [group.step for group in newest_groups([made(30, flying=True)])]
    assert [None, None] == [group.step for group in newest_groups([made(None), made(None)])]
