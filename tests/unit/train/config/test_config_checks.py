"""Settings that contradict each other, and remarks on those that don't."""

from __future__ import annotations

import pytest

from orz_train.config import checkpoint_checks, checks, cluster_checks
from orz_train.config.checks import ALGORITHMS, CHECKS, REWARDS, check, find_conflicts
from orz_train.config.load import load
from orz_train.config.notes import notes
from orz_train.errors import ConfigError
from orz_train.rewards.registry import SHIPPED

pytestmark = pytest.mark.unit

NO_GPUS = ["cluster.num_gpus=0"]
GRPO = ["algorithm=grpo", "critic=null"]


def problem_of(sound: str, *arguments: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(sound, arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["steps=null"], "steps: missing; give steps or episodes"),
        (["data.train=[]"], "data.train: missing; give data.train"),
        (["data.train=[a]", "data.source=m:f"], "data.source: got data.train as well, expected one of the two"),
        (["data.source=rows"], "data.source: got 'rows', expected module:function"),
        (["algorithm=gppo"], "algorithm.kind: got 'gppo', expected ppo or grpo, or your own as module:name"),
        (["reward=maths"], "reward.function: got 'maths', expected math or boxed or exact"),
        (["data.template=r1zero"], "contains {problem}; did you mean 'r1-zero'?"),
        ([*GRPO, "samples_per_prompt=1"], "samples_per_prompt: got 1, expected at least 2: GRPO"),
        (["critic=null"], "critic: missing; PPO trains a critic: add critic.optimizer.lr"),
        (["algorithm=grpo"], "critic: GRPO uses no critic; say critic: null (critic=null)"),
        (["policy.updates_per_step=9"], "policy.updates_per_step: got 9, expected at most prompts_per_step x"),
        (["critic.updates_per_step=9"], "critic.updates_per_step: got 9, expected at most"),
        (["packing.max_tokens_per_row=15"], "packing.max_tokens_per_row: got 15, expected at least 16: data."),
        ([*GRPO, "advantage.truncation=bootstrap"], "advantage.truncation: got bootstrap, which needs PPO's critic"),
        (["kl.reward_coef=0.1", "kl.loss_coef=0.2"], "kl.loss_coef: got 0.2 beside kl.reward_coef 0.1"),
        ([*GRPO, "policy.freeze_steps=1"], "policy.freeze_steps: got 1, expected 0: without a critic"),
        (["policy.freeze_steps=5"], "policy.freeze_steps: got 5, expected fewer than steps 5"),
        (["generation.stop=['']"], "generation.stop: got an empty text in the list"),
        (["generation.stop_token_ids=[-1]"], "generation.stop_token_ids: got -1, expected token ids"),
        (["generation.top_k=0"], "generation.top_k: got 0, expected -1 (keep all)"),
        (["policy.optimizer.betas=[0.9, 1]"], "policy.optimizer.betas: got 1.0, expected numbers from 0 to below 1"),
        (["critic.optimizer.betas=[-0.1, 0]"], "critic.optimizer.betas: got -0.1"),
        (["backend=local", "policy.dtype=bfloat16"], "policy.dtype: got bfloat16, but backend: local keeps one copy"),
        (["backend=local", "critic.dtype=bfloat16"], "set critic.dtype=float32"),
        (["cluster.num_engines=2"], "cluster.num_engines: cluster.num_engines 2 x cluster.tensor_parallel 1 = 2 GPUs"),
        (["cluster.policy_gpus=1"], "cluster.policy_gpus: is for cluster.layout: split"),
        (["cluster.critic_gpus=1"], "cluster.critic_gpus: is for cluster.layout: split"),
        (["cluster.num_ranks=2"], "cluster.num_ranks: is for cluster.num_gpus: 0"),
        ([*NO_GPUS, "cluster.layout=split"], "cluster.layout: got split, which divides GPUs, and num_gpus is 0"),
        ([*NO_GPUS, "cluster.offload=all"], "cluster.offload: got all, which moves what is on GPUs"),
        (
            ["cluster.offload=all", "cluster.zero_stage=2"],
            "cluster.offload: got all, expected cluster.zero_stage of at least 3",
        ),
        (
            ["cluster.offload=optimizer", "cluster.zero_stage=0"],
            "cluster.offload: got optimizer, expected cluster.zero_stage of at least 1",
        ),
        (
            ["cluster.zero_stage=0", "policy.dtype=bfloat16"],
            "cluster.zero_stage: got 0, expected at least 1 with policy.dtype bfloat16",
        ),
        (
            ["cluster.zero_stage=0", "policy.dtype=float32", "critic.dtype=bfloat16"],
            "set cluster.zero_stage=2 (one rank loses nothing by it) or critic.dtype=float32",
        ),
        (
            ["cluster.zero_stage=1", "policy.dtype=float32", "critic.dtype=bfloat16"],
            "cluster.zero_stage: got 1 with critic.dtype bfloat16 and cluster.layout colocated",
        ),
        ([*NO_GPUS, "cluster.weights.transfer=nccl"], "cluster.weights.transfer: got nccl, which needs GPUs"),
        (["cluster.weights.transfer=nccl"], "cluster.weights.transfer: got nccl, which is for layout split"),
        (
            ["checkpoint.storage=s3://bucket/run"],
            "checkpoint.storage: got a URL (s3://...), expected shared or per_node: a run saves to disks; checkpoint.c",
        ),
        (
            ["checkpoint.copy_to=/mnt/archive"],
            "checkpoint.copy_to: got '/mnt/archive', expected a URL such as file:///mnt/archive",
        ),
        (["checkpoint.copy_to=bucket"], "checkpoint.copy_to: got 'bucket', expected a URL such as s3://bucket/runs"),
        (
            ["checkpoint.copy_to=s3://bucket/run", "checkpoint.storage=per_node"],
            "checkpoint.copy_to: is copied from the driver's node, and with checkpoint.storage: per_node",
        ),
        (
            ["checkpoint.storage=pernode"],
            "checkpoint.storage: got 'pernode', expected shared or per_node; did",
        ),
    ],
)
def test_conflicts_name_key_and_fix(sound: str, arguments: list[str], expected: str) -> None:
    """Every check answers its mistake with the key, what it got, and what to change."""
    assert expected in problem_of(sound, *arguments)


@pytest.mark.parametrize(
    "settings",
    [
        ["policy.dtype=float32", "critic.dtype=float32"],
        ["cluster.offload=optimizer"],
        ["cluster.layout=split", "cluster.num_gpus=3", "cluster.policy_gpus=1", "cluster.critic_gpus=1"],
        NO_GPUS,
    ],
)
def test_zero_1_is_refused_only_where_models_take_turns(sound: str, settings: list[str]) -> None:
    """In float32, with the optimizer on the CPU, on GPUs of its own and on CPUs a model can stay as it is."""
    load(sound, ["cluster.zero_stage=1", "policy.dtype=bfloat16", "critic.dtype=bfloat16", *settings])


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:hunter2@bucket/run",
        "s3://key:hunter2/plus@bucket/run",
        "s3://key:and@hunter2@bucket/run",
        "s3://hunter2@bucket/run",
        "abfs://c:hunter2@a.example/x",
        "abfs://c@a.example/x?sig=hunter2",
        "s3://b#hunter2",
    ],
)
def test_no_secret_is_part_of_the_place_for_copies(sound: str, url: str) -> None:
    """The run folder keeps its configuration; the refusal doesn't repeat the password."""
    problem = problem_of(sound, f"checkpoint.copy_to={url}")
    assert "://...) with a user, a password, a query or a fragment" in problem
    assert "hunter2" not in problem


def test_an_account_in_the_place_for_copies_is_no_secret(sound: str) -> None:
    """Azure writes `container@account`; a folder may be called so, too."""
    for url in ("abfs://runs@account.example/folder", "s3://bucket/me@example.org", "file:///mnt/a:b/me@example.org"):
        load(sound, [f"checkpoint.copy_to={url}"])


@pytest.mark.parametrize("url", ["s3://", "s3:///run", "gs:///", "file:///", "file://", "hdfs:///", "abfs://runs@/x"])
def test_the_place_for_copies_is_named(sound: str, url: str) -> None:
    """`s3://$BUCKET` without its variable would else become the relative path `s3:/`."""
    problem = problem_of(sound, f"checkpoint.copy_to={url}")
    assert f"checkpoint.copy_to: got '{url}', which names no place, expected a URL such as {url[:3]}" in problem


def test_a_folder_alone_is_a_place_where_there_is_a_default_host(sound: str) -> None:
    """This machine, and Hadoop's name node."""
    for url in ("file:///mnt/archive", "hdfs:///runs", "hdfs://name-node:9000/"):
        load(sound, [f"checkpoint.copy_to={url}"])


def test_half_an_address_in_brackets_is_no_place(sound: str) -> None:
    """Python's own parser raises there."""
    assert "got 's3://[b/x', which names no place" in problem_of(sound, "checkpoint.copy_to=s3://[b/x")


def test_split_layout_counts_every_role(sound: str) -> None:
    """Split needs the GPUs of each role, and enough of them in all; a critic that isn't there reserves none."""
    problem = problem_of(sound, "cluster.layout=split")
    assert "cluster.policy_gpus: missing; layout split gives the policy its own GPUs" in problem
    assert "cluster.critic_gpus: missing" in problem
    split = ["cluster.layout=split", "cluster.policy_gpus=2", "cluster.num_engines=2", "cluster.tensor_parallel=2"]
    wanted = "cluster.num_gpus: got 8, expected at least 9: cluster.policy_gpus 2 + cluster.critic_gpus 3"
    assert wanted in problem_of(sound, *split, "cluster.critic_gpus=3", "cluster.num_gpus=8")
    assert 9 == load(sound, [*split, "cluster.critic_gpus=3", "cluster.num_gpus=9"]).config.cluster.num_gpus
    assert load(sound, [*split, *GRPO, "cluster.num_gpus=6"]).config.critic is None
    unused = problem_of(sound, *split, *GRPO, "cluster.critic_gpus=1", "cluster.num_gpus=8")
    assert "cluster.critic_gpus: this run has no critic" in unused


def test_conflict_points_at_what_was_written(sound: str) -> None:
    """A problem between two settings carries the place of the first of them that somebody wrote."""
    assert problem_of(sound, "generation.max_response_tokens=100").startswith("sound.yaml:11: packing.max_tokens_per")
    assert problem_of(sound, "kl.reward_coef=1", "kl.loss_coef=1").startswith("argument 'kl.loss_coef=1': kl.loss_coef")


def test_all_conflicts_come_at_once(sound: str) -> None:
    """Three independent contradictions are three problems."""
    problem = problem_of(sound, "critic=null", "generation.top_k=0", "packing.max_tokens_per_row=1")
    assert problem.startswith(f"3 problems in {sound}:")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        GRPO,
        ["algorithm=mine:Algo"],
        ["algorithm=mine:Algo", "critic=null"],
        ["backend=local", "cluster.num_engines=8"],
        ["backend=cluster", "policy.dtype=bfloat16", "critic.dtype=bfloat16"],
        ["cluster.num_gpus=0", "cluster.num_engines=2"],
        ["policy.updates_per_step=8", "critic.updates_per_step=8"],
        ["packing.max_tokens_per_row=16"],
        ["policy.freeze_steps=4"],
        ["data.template=Q {problem}"],
        ["advantage.truncation=bootstrap"],
        ["generation.top_k=-1", "generation.stop=[' ']"],
    ],
)
def test_sound_settings_pass(sound: str, arguments: list[str]) -> None:
    """The limits themselves are allowed, and user algorithms may have a critic or none."""
    assert [] == find_conflicts(load(sound, arguments).config)


def test_check_serves_configurations_made_in_python(sound: str) -> None:
    """Check raises for a Config that no file stands behind."""
    config = load(sound).config
    check(config)
    with pytest.raises(ConfigError, match="critic: missing"):
        check(config.model_copy(update={"critic": None}))


def test_the_list_of_checks_is_complete() -> None:
    """Each function of the modules that yields conflicts is in the list, and says in a docstring what holds."""
    found = {
        value
        for module in (checks, checkpoint_checks, cluster_checks)
        for value in vars(module).values()
        if callable(value) and getattr(value, "__annotations__", {}).get("return") == "Iterator[Conflict]"
    }
    assert found == set(CHECKS)
    assert all(function.__doc__ for function in CHECKS)


def test_names_of_rewards_are_those_of_the_registry() -> None:
    """A reward that ships is a name that the configuration knows, and no other is."""
    assert set(SHIPPED) == set(REWARDS)
    assert ("ppo", "grpo") == ALGORITHMS


@pytest.mark.parametrize(
    ("arguments", "codes"),
    [
        ([], []),
        (["generation.top_p=0.9"], ["truncated_sampling"]),
        (["generation.top_k=5"], ["truncated_sampling"]),
        (["policy.trust_remote_code=true"], ["remote_code"]),
        (["advantage.lam=0.95"], ["discounted"]),
        (["advantage.gamma=0.99"], ["discounted"]),
        ([*GRPO, "advantage.lam=0.95"], ["discounted_group"]),
        ([*GRPO, "advantage.gamma=0.99", "advantage.lam=0.95"], ["discounted_group"]),
        (GRPO, []),
        (["loss.reduction=row_mean"], ["row_mean"]),
        (["kl.loss_coef=0.1", "kl.estimator=k1"], ["k1_in_loss"]),
        (["kl.reward_coef=0.1", "kl.estimator=k1"], []),
        (["policy.updates_per_step=4", "policy.epochs_per_step=2"], ["off_policy"]),
        (["policy.updates_per_step=7"], []),
        (["eval.temperature=0", "eval.samples_per_prompt=4"], ["equal_eval_samples"]),
        (["eval.temperature=0"], []),
        (["policy.optimizer.warmup_steps=5"], ["endless_warmup"]),
        (["policy.optimizer.warmup_steps=4"], []),
        (["critic.optimizer.warmup_steps=20", "critic.updates_per_step=4"], ["endless_warmup"]),
    ],
)
def test_notes_remark_without_refusing(sound: str, arguments: list[str], codes: list[str]) -> None:
    """What is allowed but worth a word becomes a note, and nothing else does."""
    assert codes == [note.code for note in notes(load(sound, arguments).config)]
