"""Which worker runs where: pure."""

from __future__ import annotations

import pytest

from orz_train.cluster.errors import PlacementError
from orz_train.cluster.placement import Node, Slot, place, plan_bundles
from orz_train.config.schema import Config

pytestmark = pytest.mark.unit


def config(*, critic: bool = True, reference: bool = False, **cluster: object) -> Config:
    return Config.model_validate(
        {
            "name": "test",
            "steps": 1,
            "prompts_per_step": 4,
            "samples_per_prompt": 2,
            "data": {"source": "unused:unused"},
            "generation": {"max_response_tokens": 12},
            "policy": {"model": "unused", "optimizer": {"lr": 1e-3}},
            "packing": {"max_tokens_per_row": 64},
            "cluster": cluster,
        }
        | ({"critic": {"optimizer": {"lr": 1e-3}}} if critic else {})
        | ({"kl": {"loss_coef": 0.1}} if reference else {})
    )


def node(name: str, cpus: float, gpus: float = 0) -> Node:
    return Node(node_id=name, address=name, cpus=cpus, gpus=gpus)


@pytest.mark.parametrize("cores", [1, 2])
def test_the_quickstart_fits_on_a_small_machine(cores: int) -> None:
    """Two policy ranks, two critic ranks and two engines fit on one core, and on two."""
    bundles = plan_bundles(config(num_gpus=0, num_ranks=2, num_engines=2))
    assignment = place(bundles, [node("laptop", cores)])
    assert 6 == len(bundles)
    assert {"laptop"} == {chosen.node_id for chosen in assignment.nodes}
    assert [0.1] * 6 == [bundle.cpu_share for bundle in bundles]


def test_a_role_that_the_run_does_not_need_takes_no_place() -> None:
    """Without critic and reference only policy ranks and engines are placed."""
    bundles = plan_bundles(config(critic=False, num_gpus=0, num_ranks=2))
    assert ["policy rank 0", "policy rank 1", "engine 0"] == [str(bundle.slots[0]) for bundle in bundles]


def test_colocated_roles_share_each_gpu() -> None:
    """Every role has a rank on each GPU, an engine on as many as there are, each with an equal share."""
    bundles = plan_bundles(config(reference=True, num_gpus=2, num_engines=1))
    assert [("policy", "critic", "reference", "engine"), ("policy", "critic", "reference")] == [
        tuple(slot.role for slot in bundle.slots) for bundle in bundles
    ]
    assert [0.25, 0.3333] == [bundle.gpu_share for bundle in bundles]
    assert all(bundle.gpu_share * len(bundle.slots) <= bundle.gpus for bundle in bundles)


def test_a_tensor_parallel_engine_has_its_gpus_on_one_node() -> None:
    """Colocated, bundles come in groups of the engine's size, and a group isn't torn over two nodes."""
    bundles = plan_bundles(config(num_gpus=4, num_engines=2, tensor_parallel=2))
    assignment = place(bundles, [node("odd", 8, 3), node("even", 8, 2)])
    assert ["odd", "odd", "even", "even"] == [chosen.node_id for chosen in assignment.nodes]
    assert 2 == assignment.bundle_of(Slot(role="engine", rank=1))
    with pytest.raises(PlacementError, match="2 of its GPUs have to be on one node"):
        place(bundles, [node("a", 8, 1), node("b", 8, 3)])


def test_split_roles_have_their_own_gpus() -> None:
    """Policy and reference share theirs, the critic and each engine have others."""
    bundles = plan_bundles(
        config(
            reference=True,
            num_gpus=6,
            layout="split",
            policy_gpus=2,
            critic_gpus=2,
            num_engines=1,
            tensor_parallel=2,
        )
    )
    assert [(1, 2), (1, 2), (1, 1), (1, 1), (2, 1)] == [(bundle.gpus, len(bundle.slots)) for bundle in bundles]
    assert [0.5, 0.5, 1, 1, 2] == [bundle.gpu_share for bundle in bundles]


def test_a_shortage_of_gpus_shows_a_table_and_the_settings_to_change() -> None:
    """The error names what is wanted, what is free on each node, and what to lower."""
    with pytest.raises(PlacementError) as caught:
        place(plan_bundles(config(num_gpus=4)), [node("10.0.0.1", 8, 2), node("10.0.0.2", 16, 0)])
    assert (
        "the run doesn't fit: it wants 4 policy ranks, 4 critic ranks, 1 engine\n"
        "                      CPUs    GPUs\n"
        "  wanted               0.9       4\n"
        "  free on 10.0.0.1       8       2\n"
        "  free on 10.0.0.2      16       0"
    ) == caught.value.message
    assert "cluster.num_gpus" in caught.value.remedy
    assert 2 == caught.value.exit_code


def test_a_shortage_of_cpus_names_the_settings_of_cpus() -> None:
    """Where CPUs are short, the error doesn't speak of GPUs."""
    with pytest.raises(PlacementError) as caught:
        place(plan_bundles(config(num_gpus=0, num_ranks=2, cpus_per_worker=1)), [node("laptop", 2)])
    assert "cluster.cpus_per_worker" in caught.value.remedy
    assert "num_gpus" not in caught.value.remedy


def test_fractions_add_up_without_rounding_errors() -> None:
    """Ten workers of a tenth fill one CPU exactly."""
    bundles = plan_bundles(config(critic=False, num_gpus=0, num_ranks=8, num_engines=2))
    assert 10 == len(place(bundles, [node("laptop", 1)]).nodes)
