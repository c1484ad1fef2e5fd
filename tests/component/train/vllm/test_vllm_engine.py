"""Sampling with an engine: whose tokens, how many, and where they end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from torch import nn

from orz_train.errors import BackendMissingError, ConfigError, GenerationError
from orz_train.ports import Sampling
from orz_train.types import FinishReason, Prompt, Rollout

pytestmark = pytest.mark.component

TEXTS = ("1+2=", "12+34=", "hello world", "5")


@pytest.fixture(scope="module")
def engine(write_model: Any, engine_config: Any, start_engine: Any) -> Any:
    engine = start_engine(engine_config(write_model()))
    engine.push(engine.model(), version=0)
    return engine


@pytest.fixture
def model(engine: Any) -> nn.Module:
    return engine.model()


@pytest.fixture
def prompts(engine: Any) -> list[tuple[int, Prompt]]:
    return engine.prompts(TEXTS)


def responses(rollouts: list[Rollout]) -> dict[str, tuple[int, ...]]:
    """Return the response of each rollout."""
    return {rollout.rollout_id: rollout.token_ids[rollout.prompt_len :] for rollout in rollouts}


def test_every_sample_of_every_prompt_comes_once(engine: Any, prompts: Any) -> None:
    """P prompts with G samples give P * G rollouts, each on its own prompt's tokens."""
    rollouts = engine.rollouts(prompts, step=9, num_samples=20)  # more than run at a time
    assert {f"9/{p}/{g}" for p in range(4) for g in range(20)} == {rollout.rollout_id for rollout in rollouts}
    assert len(rollouts) == 80
    for rollout in rollouts:
        prompt = prompts[rollout.group_index][1]
        assert prompt.token_ids == rollout.token_ids[: rollout.prompt_len]
        assert prompt.prompt_id == rollout.prompt_id
        assert 1 <= rollout.response_len <= 24
        assert rollout.response_len == len(rollout.sampler_logprobs)
        assert all(-100 < logprob <= 0 for logprob in rollout.sampler_logprobs)


def test_more_prompt_tokens_than_one_step_takes(engine: Any, model: nn.Module) -> None:
    """Twelve long prompts: vLLM cuts none of them in two, which on a CPU it can't do with seeds."""
    prompts = engine.prompts([f"{index:02}" + "a" * 390 for index in range(12)])
    assert sum(len(prompt.token_ids) for _, prompt in prompts) > 4096
    rollouts = engine.rollouts(prompts, num_samples=1)
    assert len(rollouts) == 12
    assert engine.gap(rollouts, model) < 1e-4


def test_nothing_is_kept_from_one_call_to_the_next(engine: Any) -> None:
    """A long prompt is computed as a whole, to the same bits, though an earlier call had it, as an evaluation has."""
    prompts = engine.prompts(["".join(f"{number}+{number * 7}=" for number in range(99))[:390]])
    settings = Sampling(
        max_tokens=4, temperature=1.0, top_p=1.0, top_k=-1, stop=(), stop_token_ids=(), num_samples=4, seed=1
    )
    first = engine.call("cached_tokens", prompts, settings, step=2)
    assert [0, 384, 384, 384] == sorted(first), "samples share three blocks of 128"
    assert sorted(first) == sorted(engine.call("cached_tokens", prompts, settings, step=2))
    expected = [rollout.sampler_logprobs for rollout in engine.rollouts(prompts, step=2)]
    assert expected == [rollout.sampler_logprobs for rollout in engine.rollouts(prompts, step=2)]


def test_seed_step_prompt_and_sample_decide_the_tokens(engine: Any, prompts: Any) -> None:
    """Two runs agree; another seed or step doesn't, nor do two samples, nor two prompts of one text."""
    expected = responses(engine.rollouts(prompts, step=3))
    assert expected == responses(engine.rollouts(prompts, step=3))
    for other in (engine.rollouts(prompts, step=4), engine.rollouts(prompts, step=3, seed=2**63 - 1)):
        assert not set(responses(other).values()) >= set(expected.values())
    twins = engine.prompts(("7-", "7-"))
    assert len(set(responses(engine.rollouts(twins, num_samples=8)).values())) > 12


def test_company_never_changes_a_response(engine: Any, prompts: Any) -> None:
    """Another order, or half of the prompts on another engine: the same rollouts.

    vLLM rounds differently in another batch, about 1e-6, so a token may flip once in many thousands.
    """
    expected = responses(engine.rollouts(prompts, num_samples=16))
    reordered = responses(engine.rollouts(prompts[::-1], num_samples=16))
    divided = {
        **responses(engine.rollouts(prompts[:2], num_samples=16)),
        **responses(engine.rollouts(prompts[2:], num_samples=16)),
    }
    for other in (reordered, divided):
        assert expected.keys() == other.keys()
        assert sum(expected[key] != other[key] for key in expected) <= 2


def test_sampler_logprobs_are_of_the_distribution_sampled_from(engine: Any, prompts: Any, model: nn.Module) -> None:
    """At a temperature other than 1."""
    assert engine.gap(engine.rollouts(prompts, temperature=0.5), model, temperature=0.5) < 1e-5


def test_temperature_0_takes_the_likeliest_token(engine: Any, prompts: Any, model: nn.Module) -> None:
    """As does top-k 1, and a top-p that only one token fits."""
    greedy = engine.rollouts(prompts, temperature=0.0, num_samples=2)
    for rollout in greedy:
        with torch.inference_mode():
            logits_LV = model(torch.tensor([rollout.token_ids])).logits[0, :, : engine.tokenizer.vocab_size]
        likeliest = logits_LV.argmax(-1)[rollout.prompt_len - 1 : -1].tolist()
        assert tuple(likeliest) == rollout.token_ids[rollout.prompt_len :]
    expected = responses(greedy)
    assert expected == responses(engine.rollouts(prompts, top_k=1, num_samples=2))
    assert expected == responses(engine.rollouts(prompts, top_p=1e-6, num_samples=2))


def test_responses_end_where_they_should(engine: Any, prompts: Any) -> None:
    """At the first stop id, end-of-sequence or stop text, which stays in the response; else at the limit."""
    tokenizer = engine.tokenizer
    stop_id = tokenizer.encode("7")[0]
    ends = {stop_id, *tokenizer.eos_token_ids}
    finishes = set()
    for rollout in engine.rollouts(prompts, stop_token_ids=(stop_id,), stop=("z", "xy", "2"), num_samples=16):
        finishes.add(rollout.finish)
        response = rollout.token_ids[rollout.prompt_len :]
        assert tokenizer.decode(response) == rollout.text
        assert not ends & set(response[:-1])
        before = tokenizer.decode(response[:-1])
        assert not any(text in before for text in ("z", "xy", "2"))
        stopped = response[-1] in ends or rollout.text.endswith(("z", "xy", "2"))
        assert (FinishReason.STOP if stopped else FinishReason.LENGTH) is rollout.finish
        assert stopped or rollout.response_len == 24
        assert rollout.response_len == len(rollout.sampler_logprobs)
    assert set(FinishReason) == finishes


def test_ids_beyond_the_tokenizer_are_never_sampled(engine: Any, prompts: Any, model: nn.Module) -> None:
    """Even where the model puts all its mass on them; the others share the probability."""
    num_ids = engine.tokenizer.vocab_size
    head = model.get_output_embeddings().weight  # type: ignore[operator]
    assert head.shape[0] > num_ids
    with torch.no_grad():
        head[num_ids:] = head[: head.shape[0] - num_ids] * 50
    engine.push(model, version=1)
    for temperature in (0.0, 1.0):
        rollouts = engine.rollouts(prompts, temperature=temperature)
        assert max(max(rollout.token_ids) for rollout in rollouts) < num_ids
        assert engine.gap(rollouts, model) < 1e-5


@pytest.mark.parametrize("reason", ["abort", "error", "repetition"])
def test_a_request_that_vllm_gives_up_is_named(engine: Any, prompts: Any, reason: str) -> None:
    """By rollout and reason: it isn't a sample of the policy."""
    given_up = SimpleNamespace(finish_reason=reason, token_ids=[5, 6])
    with pytest.raises(GenerationError, match=rf"engine 0, rollout 7/0/1: .* after 2 tokens because of '{reason}'"):
        engine.call("_rollout", "7/0/1", 0, prompts[0][1], given_up)


def test_a_caller_that_stops_early_leaves_nothing_behind(engine: Any, prompts: Any) -> None:
    """The next call gives its own rollouts, all of them."""
    expected = responses(engine.rollouts(prompts, step=5))
    settings = Sampling(
        max_tokens=24, temperature=1.0, top_p=1.0, top_k=-1, stop=(), stop_token_ids=(), num_samples=9, seed=1
    )
    batches = engine.call("first_batch", prompts, settings, step=4)
    assert 0 < len(batches[0]) < 36
    assert expected.keys() == responses(engine.rollouts(prompts, step=5)).keys()


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        ({"engine_options": {"dtype": "float16"}}, r"engine_options\.dtype: policy\.dtype decides it"),
        ({"engine_options": {"max_num_seq": 3}}, r"max_num_seq: vLLM .* no such argument; did you mean 'max_num_seqs'"),
        ({"engine_options": {"block_size": "big"}}, r"can't serve .*: block_size: Input should be a valid integer"),
        ({"engine_options": {"hf_overrides": {"max_position_embeddings": 100}}}, "max_model_len"),
    ],
)
def test_wrong_engine_options_are_refused(
    engine: Any, engine_config: Any, cluster: dict[str, Any], message: str
) -> None:
    """By name, with the way out, before the engine starts."""
    with pytest.raises(ConfigError, match=message):
        engine.call("load_engine", engine_config(engine.config.policy.model, **cluster), index=1)


def test_a_build_for_other_devices_is_refused(engine: Any, engine_config: Any) -> None:
    """An engine that is to use a GPU never samples on a CPU instead."""
    with pytest.raises(BackendMissingError, match=r"to run on cuda, but vLLM .* runs on cpu\n  -> .*orz-train\[cuda\]"):
        engine.call("load_engine", engine_config(engine.config.policy.model, num_gpus=1), index=1)


def test_closing_leaves_nothing(engine: Any) -> None:
    """No process, no shared memory, exit code 0; a second time does nothing. The last test: it ends the engine."""
    family, shared = engine.belongings()
    engine.call("close")
    engine.call("close")
    engine.connection.close()
    assert engine.process.wait(timeout=120) == 0
    assert not psutil.wait_procs(family, timeout=10)[1]
    assert not any(path.exists() for path in shared)
