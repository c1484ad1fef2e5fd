"""The policy's weights on their way to the engines, through the memory of the CPU."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from orz_train.backends.weights.bucket import ParamMeta, plan_buckets
from orz_train.cluster.generator import ClusterGenerator
from orz_train.cluster.models import ClusterPolicy
from orz_train.cluster.residency import AllResident, ColocatedResidency
from orz_train.cluster.watch import Deadline
from orz_train.config.schema import Config
from orz_train.data.packing import Packing, pack
from orz_train.errors import WeightTransferError
from orz_train.ports import Sampling
from orz_train.types import Metric, Prompt, Sum

_log = logging.getLogger(__name__)
MIB = 2**20
PROBE_TOKENS = 16
PROBE_GAP = {"float32": 1e-3, "bfloat16": 0.3}
"""Nats, by precision of the policy: a mean log-prob gap of the same weights stays far below, of others far above."""


class ClusterWeightLink:
    """Gathers the policy's weights in buckets and loads each into every engine, while the next is gathered.

    A bucket goes from policy rank 0 straight to the engines' nodes; the driver only holds its ref.

    Args:
        policy: whose weights.
        generator: with the engines.
        config: of the run.
        probe: a prompt; each engine answers it and the policy scores the answers, to see that the weights are equal.
        on_device: makes room for both.
    """

    def __init__(
        self,
        policy: ClusterPolicy,
        generator: ClusterGenerator,
        config: Config,
        *,
        probe: Prompt,
        on_device: AllResident | ColocatedResidency,
    ) -> None:
        self.policy = policy
        self.generator = generator
        self.config = config
        self.probe = probe
        self.on_device = on_device
        self._buckets: list[tuple[ParamMeta, ...]] | None = None

    def push(self, *, version: int) -> list[Metric]:
        """Load the present weights into every engine, as `version`.

        Raises:
            WeightTransferError: afterwards, an engine and the policy disagree about the probe.
            WorkerTimeoutError: it took longer than `cluster.weights.timeout_s`.
            OrzError: a worker failed or ended.
        """
        settings = self.config.cluster.weights
        limit = Deadline(
            settings.timeout_s,
            f"the transfer of weights, version {version},",
            remedy="raise cluster.weights.timeout_s, or see what keeps the worker busy in its log",
        )
        first = self._buckets is None
        began = time.perf_counter()
        with self.on_device.transfer():
            num_bytes = self._transfer(version, limit) * len(self.generator.group)
        seconds = time.perf_counter() - began
        if first or settings.probe == "every":
            self._compare(version)
        _log.info(
            "weights are with the engines",
            extra={"version": version, "seconds": round(seconds, 3), "gb_per_second": num_bytes / 1e9 / seconds},
        )
        return [Metric("sync/bytes", Sum(num_bytes))]

    def _transfer(self, version: int, limit: Deadline) -> int:
        """Move all buckets; return their bytes."""
        policy, engines = self.policy.group, self.generator.group
        if self._buckets is None:
            params: Sequence[ParamMeta] = policy.call("params", limit=limit)[0]
            self._buckets = plan_buckets(params, self.config.cluster.weights.bucket_mib * MIB)
            engines.call("init_transfer", {}, limit=limit)
        names = [[param.name for param in bucket] for bucket in self._buckets]
        loading = engines.submit("start_update")
        gathering = policy.submit("bucket", names[0])
        for following in [*names[1:], None]:
            policy.finish(gathering, limit)
            bucket = gathering[0].value
            gathering = policy.submit("bucket", following) if following is not None else []
            engines.finish(loading, limit)
            loading = engines.submit("load", bucket)
        engines.finish(loading, limit)
        engines.call("finish_update", version, limit=limit)
        return sum(param.nbytes for bucket in self._buckets for param in bucket)

    def _compare(self, version: int) -> None:
        """Let each engine answer the probe and the policy score the answers.

        Raises:
            WeightTransferError: the log-probabilities differ.
        """
        generation = self.config.generation
        sampling = Sampling(
            max_tokens=min(PROBE_TOKENS, generation.max_response_tokens),
            temperature=generation.temperature,
            top_p=1.0,
            top_k=0,
            stop=(),
            stop_token_ids=(),
            num_samples=1,
            seed=self.config.seed,
        )
        engines = self.generator.group
        shares = [([(engine, self.probe)], sampling) for engine in range(len(engines))]
        with self.on_device(self.generator):
            answers = [answer for batch in engines.streams("generate", shares, step=version) for answer in batch]
        answers.sort(key=lambda answer: answer.group_index)
        rows = [pack([answer], Packing(max_tokens=len(answer.token_ids)))[0] for answer in answers]
        limit = PROBE_GAP[self.config.policy.dtype]
        for answer, row, logprobs_T in zip(answers, rows, self.policy.logprobs(rows), strict=True):
            gap = float((logprobs_T - row.sampler_logprobs_T)[row.action_mask_T].abs().mean())
            if not gap <= limit or answer.policy_version != version:
                raise WeightTransferError(
                    f"engine {answer.group_index} doesn't hold the policy's weights of version {version}: over"
                    f" {answer.response_len} tokens that it sampled with version {answer.policy_version}, its log-probs"
                    f" and the policy's are {gap:.3g} nats apart on average, expected at most {limit:g}",
                    remedy="vLLM may not load this model's weights as transformers names them: look at"
                    f" logs/engine-{answer.group_index}.log, and at versions with `orz doctor`",
                )
