"""What a precision costs on the device that computes in it, and how the cost is kept down."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")
"""All that matrix products of a transformer and of its gradients come down to."""


def precision_note(dtype: str, device: str) -> str:
    """Say that a CPU computes bfloat16 without instructions for it; empty where nothing is to be said."""
    if dtype != "bfloat16" or device != "cpu" or _has_bfloat16():
        return ""
    return (
        f"this CPU has no fast bfloat16 ({torch.backends.cpu.get_cpu_capability()}, no AVX-512): products are computed"
        " in float32 and rounded, so policy.dtype=float32 (and critic.dtype) is faster, and more exact"
    )


def multiply_bfloat16_in_float32() -> None:
    """Let this process compute bfloat16 matrix products on the CPU in float32, where the CPU has no better way.

    Torch then multiplies number by number: a gradient with respect to the input of SmolLM2's head, 512 x 49152 by
    49152 x 576, takes a minute on two AVX2 cores, and a second in float32. The result is the same up to the last
    rounding: a bfloat16 product is summed in float32 and rounded once, here and there.
    """
    if not _has_bfloat16():
        _widen()


@lru_cache(maxsize=1)  # once a process
def _widen() -> Any:
    """Put a function before torch's own products on the CPU; they keep all other precisions."""
    library: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*Overriding a previously registered kernel", UserWarning)
        for name in _PRODUCTS:
            library.impl(name, _widened(torch.library.get_kernel(f"aten::{name}", "CPU")), "CPU", with_keyset=True)
    return library  # dropped, it would take its functions with it


def _widened(kernel: Any) -> Any:
    """Return a product that takes bfloat16 matrices to `kernel` as float32, and its result back."""

    def product(keys: Any, *matrices: Tensor, **scales: float) -> Tensor:
        if matrices[0].dtype is not torch.bfloat16:
            return kernel.call_boxed(keys, *matrices, **scales)  # type: ignore[no-any-return]
        return kernel.call_boxed(keys, *[matrix.float() for matrix in matrices], **scales).bfloat16()  # type: ignore[no-any-return]

    return product


def _has_bfloat16() -> bool:
    """Ask torch what it asks itself before it hands a product to oneDNN."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001  there is no public name for it
