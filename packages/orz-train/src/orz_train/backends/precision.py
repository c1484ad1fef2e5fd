"""What a precision costs on the device that computes in it."""

from __future__ import annotations

import torch


def precision_note(dtype: str, device: str) -> str:
    """Say that a CPU computes bfloat16 without instructions for it; empty where nothing is to be said.

    Torch then multiplies matrices number by number: on an AVX2 processor 60 times as slowly as in float32 (torch
    2.13, a 512 x 576 by 576 x 1536 product).
    """
    if dtype != "bfloat16" or device != "cpu" or _has_bfloat16():
        return ""
    return (
        f"this CPU has no fast bfloat16 ({torch.backends.cpu.get_cpu_capability()}, no AVX-512): expect updates to take"
        " some 60 times as long as with policy.dtype=float32 (and critic.dtype)"
    )


def _has_bfloat16() -> bool:
    """Ask torch what it asks itself before it hands a product to oneDNN."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001  there is no public name for it
