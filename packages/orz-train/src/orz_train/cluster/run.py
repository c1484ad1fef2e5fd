"""The cluster of a run: workers started, models loaded, and all of it gone at the end."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orz_train.backends.vllm.options import transfer_backend
from orz_train.checkpoint import OneNode, require_parts
from orz_train.cluster.connection import connected
from orz_train.cluster.device_transfer import DeviceTransfer
from orz_train.cluster.environment import worker_environment
from orz_train.cluster.errors import ClusterError
from orz_train.cluster.generator import ClusterGenerator
from orz_train.cluster.group import Group, Pending, end
from orz_train.cluster.host_transfer import HostTransfer
from orz_train.cluster.logs import Logs
from orz_train.cluster.models import ClusterCritic, ClusterPolicy, ClusterReference
from orz_train.cluster.node_parts import first_on_each_node, needed_parts, writing_nodes
from orz_train.cluster.nodes import ClusterNodes
from orz_train.cluster.placement import Assignment, Slot, place, plan_bundles, ranks_of
from orz_train.cluster.preflight import NodeFacts, check_nodes, here
from orz_train.cluster.residency import AllResident, ColocatedResidency
from orz_train.cluster.session import LOOPBACK
from orz_train.cluster.watch import Deadline, Member, Watch
from orz_train.cluster.weight_link import ClusterWeightLink, Transfer
from orz_train.cluster.worker import Worker
from orz_train.config.schema import Config
from orz_train.ports import MetricSink, Models, Nodes
from orz_train.signals import ENDING
from orz_train.types import Prompt

RESERVE_TIMEOUT_S = 20.0
MIB = 2**20
CLOSE_TIMEOUT_S = 10.0
FAILED_CLOSE_TIMEOUT_S = 3.0
"""After a failure some ranks wait in vain for others, and never come to close."""
LISTEN = "orz_train.cluster.rendezvous:listen"


@dataclass(frozen=True, kw_only=True, slots=True)
class Factories:
    """Which functions, named `module:function`, make the objects that the workers host, and join them."""

    policy: str = "orz_train.backends.deepspeed.load:load_policy"
    critic: str = "orz_train.backends.deepspeed.load:load_critic"
    reference: str = "orz_train.backends.deepspeed.load:load_reference"
    engine: str = "orz_train.backends.vllm.engine:load_engine"
    join: str = "orz_train.backends.deepspeed.process:join"
    connect: str = "orz_train.backends.weights.cuda:connect"


class Cluster:
    """Runs the models of a run in processes of their own, on one machine or several.

    Made by `Cluster.start`.

    Args:
        config: of the run.
        run_dir: the run folder, absolute.
        sink: is told of progress and of the workers' warnings.
        factories: make the objects.
    """

    def __init__(self, config: Config, *, run_dir: Path, sink: MetricSink, factories: Factories) -> None:
        self.config = config
        self.run_dir = run_dir
        self.sink = sink
        self.factories = factories
        self.watch = Watch()
        self.assignment = Assignment((), ())
        self._close_timeout_s = CLOSE_TIMEOUT_S
        self.nodes: Nodes = OneNode()
        """Those that write checkpoints."""
        self._facts: Mapping[str, NodeFacts] = {}
        self.logs = Logs(run_dir / "logs")

    @classmethod
    @contextmanager
    def start(
        cls, config: Config, *, run_dir: Path, sink: MetricSink, factories: Factories | None = None
    ) -> Iterator[Self]:
        """Connect to Ray and reserve what the run wants; at the end, leave nothing of the run behind.

        Args:
            config: of the run.
            run_dir: the run folder, absolute.
            sink: is told of progress and of the workers' warnings.
            factories: make the objects in the workers.

        Raises:
            ConfigError: an engine option isn't the user's to set.
            PlacementError: the cluster hasn't what the run wants.
            ClusterError: Ray can't be started or reached, or a node doesn't fit.
        """
        cluster = cls(config, run_dir=run_dir, sink=sink, factories=factories or Factories())
        with _leaving_undisturbed() as ignore_interrupts, ExitStack() as stack:
            try:
                cluster._open(stack)
                yield cluster
            except BaseException:
                cluster._close_timeout_s = FAILED_CLOSE_TIMEOUT_S
                raise
            finally:
                ignore_interrupts()

    def _open(self, stack: ExitStack) -> None:
        """Connect, plan and reserve."""
        self.sink.phase("starting Ray", 0, 1)
        nodes = stack.enter_context(connected(self.config, log=self.logs.folder / "ray.log"))
        self.assignment = place(plan_bundles(self.config), nodes)
        if self.config.cluster.address == "local":
            self._facts = {node.node_id: here() for node in nodes}
        else:
            self._facts = check_nodes(list(dict.fromkeys(self.assignment.nodes)))
            self.nodes = writing_nodes(
                self.assignment, address=self.config.cluster.address, watch=self.watch, sink=self.sink
            )
        self.logs.begin(dict.fromkeys(self.assignment.nodes), here=ray.get_runtime_context().get_node_id())
        self._reserved = _reserve(self.assignment)
        stack.callback(remove_placement_group, self._reserved)
        stack.callback(self._end_workers)

    def load(self, *, num_steps: int, checkpoint: Path | None, probe: Prompt) -> Models:
        """Start the workers and load their models: all at once, or where they share GPUs one after the other.

        Args:
            num_steps: of the whole run, for the learning rate schedules.
            checkpoint: a step folder to take weights and optimizer state from.
            probe: a prompt to compare engines and policy on.

        Raises:
            WorkerTimeoutError: it took longer than `cluster.start_timeout_s`.
            OrzError: a worker failed or ended.
        """
        config = self.config
        counts = ranks_of(config)
        if checkpoint is not None and isinstance(self.nodes, ClusterNodes):
            require_parts(checkpoint, needed_parts(self.nodes, self.assignment, counts), self.nodes)
        limit = Deadline(
            config.cluster.start_timeout_s,
            "starting the workers",
            remedy="raise cluster.start_timeout_s, or see in the log what keeps them",
        )
        groups = {role: self._start(role, count) for role, count in counts.items() if role != "engine"}
        groups["engine"] = self._start("engine", counts["engine"], self._devices_of_engines(groups["policy"], limit))
        loading: list[Pending] = groups["engine"].make(
            self.factories.engine, [{"config": config, "index": index} for index in range(counts["engine"])]
        )
        if self._takes_turns:
            groups["engine"].finish(loading, limit)
            groups["engine"].call("sleep", limit=limit)
            loading = []
        trained = {"config": config, "num_steps": num_steps, "checkpoint": checkpoint}
        of_role: dict[str, dict[str, Any]] = {"policy": trained, "critic": trained, "reference": {"config": config}}
        for role, arguments in of_role.items():
            if role in groups:
                loading += self._join(groups[role], limit)
                loading += groups[role].make(getattr(self.factories, role), [arguments] * len(groups[role]))
                if self._takes_turns:
                    groups[role].finish(loading, limit)
                    groups[role].call("offload", limit=limit)
                    loading = []
        groups["engine"].finish(
            loading, limit, progress=lambda done: self.sink.phase("loading the models", done, len(loading))
        )
        return self._wire(groups, probe)

    @property
    def _takes_turns(self) -> bool:
        """Whether models and engines share GPUs."""
        return self.config.cluster.num_gpus > 0 and self.config.cluster.layout == "colocated"

    def _wire(self, groups: Mapping[str, Group], probe: Prompt) -> Models:
        """Put the groups behind the trainer's ports."""
        config = self.config
        reduction = config.loss.reduction
        policy = ClusterPolicy(groups["policy"], reduction=reduction)
        critic = ClusterCritic(groups["critic"], reduction=reduction) if "critic" in groups else None
        reference = ClusterReference(groups["reference"]) if "reference" in groups else None
        if config.checkpoint.storage == "per_node":
            policy.writers = first_on_each_node(groups["policy"], self.assignment)
            if critic is not None:
                critic.writers = first_on_each_node(groups["critic"], self.assignment)
        generator = ClusterGenerator(groups["engine"])
        on_device: AllResident | ColocatedResidency = AllResident()
        if self._takes_turns:
            on_device = ColocatedResidency(
                [model for model in (policy, critic, reference) if model is not None], generator
            )
        for model in (policy, critic, reference, generator):
            if model is not None:
                model.on_device = on_device
        return Models(
            policy=policy,
            critic=critic,
            reference=reference,
            generator=generator,
            nodes=self.nodes,
            weights=ClusterWeightLink(
                policy,
                generator,
                self._transfer(groups["policy"], groups["engine"]),
                config,
                probe=probe,
                on_device=on_device,
            ),
            ran_on=_ran_on(groups),
            check=self.watch.check,
        )

    def _transfer(self, policy: Group, engines: Group) -> Transfer:
        """Choose the weights' way."""
        cluster, way = self.config.cluster, transfer_backend(self.config)
        bucket_bytes = cluster.weights.bucket_mib * MIB
        if way == "host":
            return HostTransfer(policy, engines, bucket_bytes=bucket_bytes)
        return DeviceTransfer(
            policy,
            engines,
            connector=self.factories.connect,
            bucket_bytes=bucket_bytes,
            settings={
                "transfer": way,
                "address": self._address_of_first(policy),
                "num_workers": len(engines) * cluster.tensor_parallel,
            },
        )

    def _start(self, role: str, count: int, devices: Sequence[str | None] | None = None) -> Group:
        """Start the processes of a role; `devices` are the GPUs that each sees, where Ray's choice isn't enough."""
        name = role if role == "engine" else f"{role} rank"
        self.sink.phase(f"starting {count} {name if count == 1 else name + 's'}", 0, 1)
        slots = [Slot(role=role, rank=rank) for rank in range(count)]
        members = [self._start_worker(slot, own) for slot, own in zip(slots, devices or [None] * count, strict=True)]
        return Group(role, members, self.watch, self.sink)

    def _start_worker(self, slot: Slot, devices: str | None) -> Member:
        """Start one process, under a parent that says how it ended."""
        config = self.config
        index = self.assignment.bundle_of(slot)
        bundle, node = self.assignment.bundles[index], self.assignment.nodes[index]
        facts = self._facts[node.node_id]
        log = self.logs.of(slot, node)
        environment = worker_environment(config, slot.role, network=facts.network)
        if devices is not None:
            environment |= {"CUDA_VISIBLE_DEVICES": devices, "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}
        command = [facts.python, "-I", "-S", facts.reaper, str(slot), str(log.path), facts.python]
        actor = (
            ray.remote(concurrency_groups={"watch": 1})(Worker)  # type: ignore[call-overload]  # not in Ray's stubs
            .options(
                num_cpus=bundle.cpu_share,
                num_gpus=bundle.gpu_share,
                max_restarts=0,
                max_task_retries=0,
                runtime_env={"env_vars": environment, "py_executable": shlex.join(command)},
                scheduling_strategy=PlacementGroupSchedulingStrategy(self._reserved, index),
            )
            .remote(
                slot,
                log=log.path,
                num_threads=config.cluster.num_threads,
                address=node.address,
                import_path=[str(Path(folder).absolute()) for folder in sys.path],
            )
        )
        member = Member(
            slot=slot,
            actor=actor,
            ended=actor.watch.options(concurrency_group="watch").remote(),
            address=node.address,
            log=log,
        )
        self.watch.members.append(member)
        return member

    def _join(self, group: Group, limit: Deadline) -> list[Pending]:
        """Let the ranks of a model meet where rank 0 listens."""
        address = self._address_of_first(group)
        listening = Group(group.role, group.members[:1], self.watch, self.sink).run(LISTEN, [{"address": address}])
        port = group.results(listening, limit)[0]
        where = {
            "world_size": len(group),
            "master_address": address,
            "master_port": port,
            "cpu": self.config.cluster.num_gpus == 0,
            "timeout_s": self.config.cluster.start_timeout_s,
        }
        return group.run(self.factories.join, [{"rank": rank, **where} for rank in range(len(group))])

    def _address_of_first(self, group: Group) -> str:
        """Return where the others of a run reach rank 0."""
        first = self.assignment.nodes[self.assignment.bundle_of(group.members[0].slot)]
        return LOOPBACK if self.config.cluster.address == "local" else first.address

    def _devices_of_engines(self, policy: Group, limit: Deadline) -> list[str | None] | None:
        """Name the GPUs of each tensor-parallel engine that shares them with the policy's ranks.

        Ray shows a process the GPUs of its own bundle, and such an engine lies over several.
        """
        cluster = self.config.cluster
        size = cluster.tensor_parallel
        if cluster.num_gpus == 0 or cluster.layout != "colocated" or size == 1:
            return None
        gpus = policy.results(policy.run("orz_train.cluster.worker:visible_gpus", [{}] * len(policy)), limit)
        return [",".join(gpus[engine * size : (engine + 1) * size]) for engine in range(cluster.num_engines)]

    def _end_workers(self) -> None:
        """End every worker of the run."""
        try:
            self.sink.phase("ending the workers", 0, 1)
        finally:  # a display that fails leaves no workers behind
            end(self.watch.members, timeout_s=self._close_timeout_s)


def _reserve(assignment: Assignment) -> PlacementGroup:
    """Reserve every bundle on its node.

    Raises:
        ClusterError: somebody else took the place in the meantime.
    """
    addresses = {node["NodeID"]: f"node:{node['NodeManagerAddress']}" for node in ray.nodes()}  # type: ignore[no-untyped-call]
    group: PlacementGroup = placement_group(
        [
            {"CPU": bundle.cpus, addresses[node.node_id]: 0.001} | ({"GPU": bundle.gpus} if bundle.gpus else {})
            for bundle, node in zip(assignment.bundles, assignment.nodes, strict=True)
        ]
    )
    if not group.wait(RESERVE_TIMEOUT_S):
        remove_placement_group(group)
        raise ClusterError(
            f"Ray didn't reserve what the run wants within {RESERVE_TIMEOUT_S:g} s, though it was free",
            remedy="try again; see `ray status` for who else uses the cluster",
        )
    return group


def _ran_on(groups: Mapping[str, Group]) -> dict[str, str]:
    """Say what runs the models and the processes, as they themselves say."""

    def said(role: str) -> str:
        answers = groups[role].call("ran_on")
        count = f"{len(answers)} {'engine' if role == 'engine' else 'rank'}{'s' if len(answers) > 1 else ''}"
        return "; ".join([*dict.fromkeys(answers), count])

    return {"trainer": said("policy"), "generator": said("engine"), "processes": f"ray {ray.__version__}"}


@contextmanager
def _leaving_undisturbed() -> Iterator[Callable[[], None]]:
    """Yield a function that makes the process ignore further Ctrl-C, until the end of the context.

    Leaving takes seconds; interrupted, it would leave processes behind.
    """
    before = {number: signal.getsignal(number) for number in ENDING}
    ours = threading.current_thread() is threading.main_thread()

    def ignore() -> None:
        for number in ENDING if ours else ():
            signal.signal(number, signal.SIG_IGN)

    try:
        yield ignore
    finally:
        for number in ENDING if ours else ():
            signal.signal(number, before[number])
