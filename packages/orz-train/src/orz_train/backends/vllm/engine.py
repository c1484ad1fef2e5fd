"""One vLLM engine: tokens in, tokens out, and weights when they are new."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from threading import Event
from typing import Any

import torch
import vllm
from pydantic import ValidationError
from vllm import LLM, SamplingParams
from vllm.config import WeightTransferConfig
from vllm.distributed import cleanup_dist_env_and_memory
from vllm.engine.arg_utils import EngineArgs
from vllm.inputs import tokens_input
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind

from orz_cli.installing import install_line
from orz_train.backends import hf
from orz_train.backends.vllm import known_ids
from orz_train.backends.vllm.options import engine_options, transfer_backend
from orz_train.backends.vllm.processes import EndedProcess, watch_processes
from orz_train.backends.vllm.seeds import request_seed
from orz_train.backends.weights import host
from orz_train.backends.weights.bucket import Bucket, ParamMeta, verify
from orz_train.backends.weights.delivery import Delivery
from orz_train.config.schema import Config
from orz_train.config.suggest import nearest_name
from orz_train.errors import BackendMissingError, ConfigError, GenerationError, NonFiniteError
from orz_train.ports import Sampling, Tokenizer
from orz_train.types import FinishReason, Prompt, Rollout

_FINISH = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}


class VLLMEngine:
    """A vLLM engine inside this process; with tensor parallelism its workers are child processes.

    Args:
        llm: with weights of no meaning yet.
        tokenizer: names the ids that end a response, and decodes.
        shapes: of the model's parameters, by their Hugging Face names.
        index: of this engine among those of the run.
    """

    def __init__(self, llm: LLM, tokenizer: Tokenizer, *, shapes: Mapping[str, tuple[int, ...]], index: int) -> None:
        self.llm = llm
        self.tokenizer = tokenizer
        self.shapes = shapes
        self.index = index
        self.policy_version = -1
        """Of the weights; -1 before the first update."""
        self._delivery = Delivery(shapes)
        self._closing = Event()

    # --- generation -------------------------------------------------------------------------------

    def generate(
        self, prompts: Sequence[tuple[int, Prompt]], sampling: Sampling, *, step: int
    ) -> Iterator[list[Rollout]]:
        """Yield rollouts in small batches as they finish, `num_samples` of each prompt.

        All requests are handed over, in order, before the first token is sampled. Samples of a prompt share what is
        computed of it; nothing is kept from one call to the next, so that neither an evaluation nor a resume in
        between changes how a prompt is computed.

        Args:
            prompts: with their group indices.
            sampling: how.
            step: of the training.

        Raises:
            NonFiniteError: a sampled token had no finite log-probability.
            GenerationError: vLLM gave up a request.
        """
        engine = self.llm.llm_engine
        was_reset = self.llm.reset_prefix_cache()
        assert was_reset  # noqa: S101  # only running requests stop it, and a call leaves none
        requests = {}
        for group_index, prompt in prompts:
            for sample in range(sampling.num_samples):
                request_id = f"{step}/{group_index}/{sample}"
                requests[request_id] = (group_index, prompt)
                seed = request_seed(sampling.seed, step, group_index, prompt.prompt_id, sample)
                engine.add_request(request_id, tokens_input(list(prompt.token_ids)), self._params(sampling, seed))
        try:
            while engine.has_unfinished_requests():
                finished: list[Any] = [output for output in engine.step() if output.finished]
                if finished:
                    yield [
                        self._rollout(output.request_id, *requests.pop(output.request_id), output.outputs[0])
                        for output in finished
                    ]
        finally:  # the caller stopped early: the next call starts with an empty engine
            if requests:
                engine.abort_request(list(requests))

    def _params(self, sampling: Sampling, seed: int) -> SamplingParams:
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=seed,
            max_tokens=sampling.max_tokens,
            stop=list(sampling.stop),
            stop_token_ids=[*self.tokenizer.eos_token_ids, *sampling.stop_token_ids],
            include_stop_str_in_output=True,
            detokenize=bool(sampling.stop),
            skip_special_tokens=False,
            spaces_between_special_tokens=False,
            logprobs=0,  # that of the sampled token
            flat_logprobs=True,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _rollout(self, rollout_id: str, group_index: int, prompt: Prompt, output: Any) -> Rollout:
        if output.finish_reason not in _FINISH:
            raise GenerationError(
                f"engine {self.index}, rollout {rollout_id}: vLLM ended it after {len(output.token_ids)} tokens because"
                f" of '{output.finish_reason}', expected one of {', '.join(_FINISH)}",
                remedy=f"look for the cause in logs/engine-{self.index}.log, and at cluster.engine_options; then go on"
                " from the last checkpoint",
            )
        token_ids = tuple(output.token_ids)
        logprobs = tuple(output.logprobs.logprobs)
        if len(logprobs) != len(token_ids) or not all(map(math.isfinite, logprobs)):
            raise NonFiniteError(
                f"engine {self.index}, rollout {rollout_id}: {len(token_ids)} sampled tokens with log-probabilities"
                f" that aren't all finite, under weights of version {self.policy_version}",
                remedy="the policy's weights have overflowed: lower policy.optimizer.lr, go back to a checkpoint",
            )
        return Rollout(
            rollout_id=rollout_id,
            prompt_id=prompt.prompt_id,
            group_index=group_index,
            token_ids=(*prompt.token_ids, *token_ids),
            prompt_len=len(prompt.token_ids),
            sampler_logprobs=logprobs,
            finish=_FINISH[output.finish_reason],
            policy_version=self.policy_version,
            text=self.tokenizer.decode(token_ids),
        )

    # --- weights ----------------------------------------------------------------------------------

    def init_transfer(self, info: Mapping[str, Any]) -> None:
        """Connect with the sender, once; `info` is what its engine says (nothing, for `host`).

        A sender over NCCL counts ranks as if there were one engine; each engine has its own ranks after it.
        """
        mine = dict(info)
        if "rank_offset" in mine:
            mine["rank_offset"] += self.index * self.llm.get_world_size()
        self._rpc("init_weight_transfer_engine", init_info=mine)

    def start_update(self) -> None:
        """Begin to take new weights."""
        self._delivery = Delivery(self.shapes)
        self._rpc("start_weight_update")

    def load(self, bucket: Bucket) -> None:
        """Take one bucket of an update (transfer `host`).

        Raises:
            WeightTransferError: it was damaged on its way, or isn't what this model lacks.
        """
        verify(bucket)
        self._delivery.accept(bucket.params)
        self._rpc("update_weights", update_info={"bucket": bucket})

    def receive(self, info: Mapping[str, Any]) -> None:
        """Take what `info` of the sender describes, on its own way (transfer `nccl` or `ipc`).

        Raises:
            WeightTransferError: it isn't what this model lacks.
        """
        self._delivery.accept(
            ParamMeta(name, dtype, tuple(shape))
            for name, dtype, shape in zip(info["names"], info["dtype_names"], info["shapes"], strict=True)
        )
        self._rpc("update_weights", update_info=dict(info))

    def finish_update(self, version: int) -> None:
        """Sample from the new weights from now on.

        Raises:
            WeightTransferError: a parameter didn't arrive.
        """
        self._delivery.require_complete()
        self._rpc("finish_weight_update")
        self.llm.llm_engine.set_weight_version(str(version))
        self.policy_version = version

    # --- life -------------------------------------------------------------------------------------

    def sleep(self) -> None:
        """Move the weights to the CPU's memory and drop the cache; does nothing where the GPU isn't shared."""
        if self.llm.model_config.enable_sleep_mode:
            self.llm.sleep(level=1)  # level 2 would forget the weights

    def wake(self, tags: Sequence[str] | None = None) -> None:
        """Take device memory again: `weights`, `kv_cache`, or both by default."""
        if self.llm.model_config.enable_sleep_mode:
            self.llm.wake_up(list(tags) if tags is not None else None)

    def ran_on(self) -> str:
        """Say what samples here: `vllm 0.32.0, float32 on cpu`."""
        config = self.llm.llm_engine.vllm_config
        dtype = str(config.model_config.dtype).removeprefix("torch.")
        return f"vllm {vllm.__version__}, {dtype} on {config.device_config.device_type}"

    def watch_processes(self, report: Callable[[EndedProcess], None]) -> None:
        """Report, from another thread, the first worker process that ends before `close`; without any do nothing."""
        workers = getattr(self.llm.llm_engine.model_executor, "workers", ())
        watch_processes([worker.proc for worker in workers], self._closing, report)

    def close(self) -> None:
        """End the engine and its workers; free what they held. A second time does nothing."""
        self._closing.set()
        if hasattr(self, "llm"):
            self.llm.llm_engine.engine_core.shutdown()
            del self.llm
            cleanup_dist_env_and_memory()

    def _rpc(self, method: str, **arguments: Any) -> None:
        self.llm.collective_rpc(method, kwargs=arguments)


def load_engine(config: Config, *, index: int) -> VLLMEngine:
    """Start an engine for the policy's model, without its weights.

    The environment has to be that of `engine_environment` since before vLLM was imported.

    Args:
        config: of the run.
        index: of this engine among those of the run.

    Raises:
        BackendMissingError: this build of vLLM computes on other devices than the run wants.
        ConfigError: vLLM doesn't take an option, or not together with the model.
        DataError: the model's folder can't be used.
    """
    _check_device(wanted="cuda" if config.cluster.num_gpus else "cpu")
    folder = hf.local_folder(config.policy.model)
    trusted = config.policy.trust_remote_code
    tokenizer = hf.load_tokenizer(str(folder), trust_remote_code=trusted)
    skeleton = hf.load_skeleton(str(folder), trust_remote_code=trusted)
    options = engine_options(config, model=str(folder))
    _check_names(config)
    backend = transfer_backend(config)
    if backend == "host":
        options["worker_extension_cls"] = host.WORKER_EXTENSION
    options["weight_transfer_config"] = WeightTransferConfig(backend=host.BACKEND if backend == "host" else backend)
    if skeleton.vocab_size > tokenizer.vocab_size:
        options["logits_processors"] = [f"{known_ids.__name__}:{known_ids.KnownIds.__name__}"]
        options["additional_config"] = {known_ids.KEY: tokenizer.vocab_size}
    torch.set_num_threads(config.cluster.num_threads)
    try:
        llm = LLM(**options)
    except (TypeError, ValidationError) as error:  # any other is no fault of a setting: its traceback is for the log
        raise ConfigError(
            f"vLLM {vllm.__version__} can't serve {config.policy.model}: {_reason(error)}",
            remedy="check data.max_prompt_tokens and generation.max_response_tokens, which the model has to hold"
            " together, and cluster.engine_options",
        ) from error
    if config.cluster.num_gpus == 0 and config.cluster.tensor_parallel > 1:
        llm.collective_rpc(host.HostWorker.unlink_shared_memory.__name__)
    return VLLMEngine(llm, tokenizer, shapes=skeleton.shapes, index=index)


def _check_device(*, wanted: str) -> None:
    found = current_platform.device_type
    if found != wanted:
        raise BackendMissingError(
            f"the engine is to run on {wanted}, but vLLM {vllm.__version__} as it is installed runs on"
            f" {found or 'no device that is here'}",
            remedy=f"in an environment of its own: {install_line(cuda=wanted == 'cuda')}; or set cluster.num_gpus to 0"
            " for CPUs, to at least 1 for GPUs; see `orz doctor`",
        )


def _check_names(config: Config) -> None:
    known = [field.name for field in fields(EngineArgs)]
    for name in config.cluster.engine_options:
        if name not in known:
            raise ConfigError(
                f"cluster.engine_options.{name}: vLLM {vllm.__version__} has no such argument"
                f"{nearest_name(name, known)}",
                remedy="see the arguments of vllm.LLM in vLLM's documentation",
            )


def _reason(error: Exception) -> str:
    """Return what vLLM says is wrong, in one line."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return ": ".join([*map(str, first["loc"]), first["msg"]])
    return str(error).strip().partition("\n")[0] or type(error).__name__
