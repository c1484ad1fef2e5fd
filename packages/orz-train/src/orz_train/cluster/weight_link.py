"""The policy's weights on their way to the engines: when, within which time, and whether they have arrived."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Protocol

from orz_train.backends.weights.bucket import ParamMeta
from orz_train.cluster.generator import ClusterGenerator
from orz_train.cluster.models import ClusterPolicy
from orz_train.cluster.residency import AllResident, ColocatedResidency
from orz_train.cluster.watch import Deadline
from orz_train.config.schema import Config
from orz_train.data.packing import Packing, pack
from orz_train.errors import WeightTransferError
from orz_train.mismatch import GAPS
from orz_train.ports import Sampling
from orz_train.types import Metric, Prompt, Sum

_log = logging.getLogger(__name__)
PROBE_TOKENS = 16


class Transfer(Protocol):
    """A way from the policy's ranks to the engines."""

    def connect(self, params: Sequence[ParamMeta], limit: Deadline) -> None:
        """Prepare to move these parameters, once before the first `move`."""
        ...

    def move(self, version: int, limit: Deadline) -> None:
        """Bring the present weights to all engines, as `version`."""
        ...


class ClusterWeightLink:
    """Brings the policy's weights to the engines, and sees that they are there.

    Args:
        policy: whose weights.
        generator: with the engines.
        transfer: from the one to the others.
        config: of the run.
        probe: a prompt; each engine answers it and the policy scores the answers, to see that the weights are equal.
        on_device: makes room for both.
    """

    def __init__(
        self,
        policy: ClusterPolicy,
        generator: ClusterGenerator,
        transfer: Transfer,
        config: Config,
        *,
        probe: Prompt,
        on_device: AllResident | ColocatedResidency,
    ) -> None:
        self.policy = policy
        self.generator = generator
        self.transfer = transfer
        self.config = config
        self.probe = probe
        self.on_device = on_device
        self._model_bytes: int | None = None
        self._usual: list[float] = []
        """Gaps of the first probe by engine, in nats a token."""

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
        first = self._model_bytes is None
        with self.on_device.transfer(limit=limit):
            if self._model_bytes is None:
                params: Sequence[ParamMeta] = self.policy.group.call("params", limit=limit)[0]
                self.transfer.connect(params, limit)
                self._model_bytes = sum(param.nbytes for param in params)
            began = time.perf_counter()
            self.transfer.move(version, limit)
            seconds = time.perf_counter() - began
        num_bytes = self._model_bytes * len(self.generator.group)
        if first or settings.probe == "every":
            self._compare(version, limit)
        _log.info(
            "weights are with the engines",
            extra={
                "version": version,
                "bytes": num_bytes,
                "seconds": round(seconds, 3),
                "gb_per_second": round(num_bytes / 1e9 / seconds, 3),
            },
        )
        return [Metric("sync/bytes", Sum(num_bytes))]

    def _compare(self, version: int, limit: Deadline) -> None:
        """Let each engine answer the probe and the policy score the answers.

        What is too far apart depends on the precision and on the first probe. In bfloat16 this finds weights that are
        wrong; weights that are a step old differ by less than rounding, there the version tells.

        Raises:
            WeightTransferError: the log-probabilities differ.
            WorkerTimeoutError: the limit has passed.
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
        with self.on_device(self.generator, limit=limit):
            batches = engines.streams("generate", shares, limit=limit, step=version)
            answers = [answer for batch in batches for answer in batch]
        answers.sort(key=lambda answer: answer.group_index)
        rows = [pack([answer], Packing(max_tokens=len(answer.token_ids)))[0] for answer in answers]
        largest = GAPS[self.config.policy.dtype].probe.limit(self._usual)
        gaps: list[float] = []
        scored = self.policy.logprobs(rows, limit=limit)
        for answer, row, logprobs_T in zip(answers, rows, scored, strict=True):
            gap = float((logprobs_T - row.sampler_logprobs_T)[row.action_mask_T].abs().mean())
            gaps.append(gap)
            if not gap <= largest or answer.policy_version != version:
                raise WeightTransferError(
                    f"engine {answer.group_index} doesn't hold the policy's weights of version {version}: over"
                    f" {answer.response_len} tokens that it sampled with version {answer.policy_version}, its log-probs"
                    f" and the policy's are {gap:.3g} nats apart on average, expected at most {largest:g}",
                    remedy="vLLM may not load this model's weights as transformers names them: look at"
                    f" logs/engine-{answer.group_index}.log, and at versions with `orz doctor`",
                )
        self._usual = self._usual or gaps
