"""What is said of a precision before it costs hours."""

from __future__ import annotations

import subprocess
import sys

import pytest

from orz_train.backends import precision

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("dtype", "device", "supported", "said"),
    [
        ("bfloat16", "cpu", False, True),
        ("bfloat16", "cpu", True, False),
        ("bfloat16", "cuda", False, False),
        ("float32", "cpu", False, False),
    ],
)
def test_a_cpu_without_bfloat16_is_told_of(
    monkeypatch: pytest.MonkeyPatch, dtype: str, device: str, said: bool, supported: bool
) -> None:
    """Only where bfloat16 is computed on a CPU that lacks it, and with the setting to use instead."""
    monkeypatch.setattr(precision, "_has_bfloat16", lambda: supported)
    assert said is ("policy.dtype=float32" in precision.precision_note(dtype, device))


def test_torch_answers() -> None:
    """The question that torch asks itself has an answer on this machine, too."""
    assert precision._has_bfloat16() in {True, False}


PRODUCTS = """
import sys, warnings, torch
from orz_train.backends import precision
warnings.simplefilter("error")
torch.manual_seed(0)
a, b, c = torch.randn(2, 33, 65), torch.randn(2, 65, 17), torch.randn(2, 33, 17)
cases = {
    "mm": lambda a, b, c: a[0] @ b[0],
    "linear": lambda a, b, c: torch.nn.functional.linear(a, b[0].T, c[0, 0]),
    "addmm": lambda a, b, c: torch.addmm(c[0], a[0], b[0], beta=0.5, alpha=2),
    "bmm": lambda a, b, c: a @ b,
    "baddbmm": lambda a, b, c: torch.baddbmm(c, a, b, beta=0.25, alpha=3),
}
def results(dtype):
    inputs = [tensor.detach().to(dtype).clone().requires_grad_() for tensor in (a, b, c)]
    found = {}
    for name, product in cases.items():
        out = product(*inputs)
        out.float().square().sum().backward()
        found[name] = [out.detach(), *(i.grad for i in inputs if i.grad is not None)]
        for i in inputs:
            i.grad = None
    return found
exact = results(torch.float32)
precision._has_bfloat16 = lambda: sys.argv[1] == "has"
precision.multiply_bfloat16_in_float32()
precision.multiply_bfloat16_in_float32()
for name, tensors in results(torch.float32).items():
    assert all(torch.equal(x, y) for x, y in zip(tensors, exact[name], strict=True)), name
for name, tensors in results(torch.bfloat16).items():
    for x, y in zip(tensors, exact[name], strict=True):
        assert x.dtype is torch.bfloat16
        assert float((x.float() - y).norm() / y.norm()) < 2**-6, name
print(precision._widen.cache_info().currsize)
"""


@pytest.mark.parametrize(("cpu", "widened"), [("lacks", "1"), ("has", "0")])
def test_products_of_a_cpu_without_bfloat16_are_those_of_float32_rounded(cpu: str, widened: str) -> None:
    """Every product and its gradients, in a process of its own; float32 stays bit for bit what it was."""
    done = subprocess.run([sys.executable, "-c", PRODUCTS, cpu], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, widened), done.stderr
