"""Which role runs where, as far as the configuration says."""

from __future__ import annotations

from dataclasses import dataclass

from orz_train.config.schema import Config


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Roles that share devices, and which: numbers count through the run's GPUs."""

    roles: tuple[str, ...]
    first: int
    count: int

    @property
    def devices(self) -> str:
        """Name the devices: `GPU 0-31`."""
        last = self.first + self.count - 1
        return f"GPU {self.first}" if self.count == 1 else f"GPU {self.first}-{last}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where the roles of a run are."""

    layout: str
    """`local`, `processes` (a cluster on CPUs), `colocated` or `split`."""
    groups: tuple[Group, ...]
    """Empty without GPUs."""
    policy_ranks: int
    """D of the policy."""
    critic_ranks: int
    engines: int
    tensor_parallel: int


def plan_placement(config: Config) -> Placement:
    """Lay out a run's roles; a role that the run doesn't need takes no device."""
    cluster = config.cluster
    trained = ["policy", *(["critic"] if config.critic else []), *(["reference"] if config.needs_reference else [])]
    if config.backend == "local":
        return Placement(layout="local", groups=(), policy_ranks=1, critic_ranks=1, engines=1, tensor_parallel=1)
    engines, parallel = cluster.num_engines, cluster.tensor_parallel
    if cluster.layout == "colocated":
        together = Group(roles=(*trained, "generator"), first=0, count=cluster.num_gpus)
        return Placement(
            layout="colocated" if cluster.num_gpus else "processes",
            groups=(together,) if cluster.num_gpus else (),
            policy_ranks=config.policy_ranks,
            critic_ranks=config.critic_ranks,
            engines=engines,
            tensor_parallel=parallel,
        )
    shares = [
        (tuple(role for role in trained if role != "critic"), cluster.policy_gpus or 0),
        (("critic",) if config.critic else (), cluster.critic_gpus or 0),
        (("generator",), engines * parallel),
    ]
    split: list[Group] = []
    for roles, count in shares:
        if roles and count:
            split.append(Group(roles=roles, first=sum(group.count for group in split), count=count))
    return Placement(
        layout="split",
        groups=tuple(split) if cluster.num_gpus else (),
        policy_ranks=config.policy_ranks,
        critic_ranks=config.critic_ranks,
        engines=engines,
        tensor_parallel=parallel,
    )
