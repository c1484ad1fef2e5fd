"""Coverage-guided search for an input that the readers of torch files do not survive. Needs `pip install atheris`.

    python tests/property/ckpt/fuzz_torch.py -max_total_time=60 [CORPUS]

An input is a torch file, or a bare pickle. Anything but a value or an error of ours is a find, and so is more memory or
time than libFuzzer allows (`-rss_limit_mb`, `-timeout`). Finds become cases of `test_torch_property.py`.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["orz_ckpt"]):
    from orz_ckpt.errors import FormatError, HostileError
    from orz_ckpt.formats.inert import BadPickleError, Limits, blocks
    from orz_ckpt.formats.inert_pickle import load_pickle
    from orz_ckpt.formats.torch_contents import contents_of
    from orz_ckpt.formats.torch_file import load

LIMITS = Limits(memory_bytes=16 * 1024 * 1024, instructions=100_000)
SEEDS = (
    (
        b"\x80\x02}q\x00X\x01\x00\x00\x00wq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\x00storage"
        b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQK\x00K\x02\x85K\x01\x85\x89ccollections\n"
        b"OrderedDict\n)RtRs."
    ),
    b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x08argparse\x94\x8c\tNamespace\x94\x93\x94)\x81}b.",
)


def one(data: bytes, path: Path) -> None:
    """Read one input both ways."""
    with contextlib.suppress(BadPickleError, HostileError):
        load_pickle(data, limits=LIMITS)
    path.write_bytes(data)
    try:
        read = load(path, limits=LIMITS)
    except (FormatError, HostileError):
        return
    contents_of(read)
    for _, block in blocks(read.value):
        last = sum((size - 1) * stride for size, stride in zip(block.shape, block.strides, strict=True))
        assert not block.numel or block.offset + (last + 1) * block.itemsize <= len(data)


def main() -> None:
    """Search until libFuzzer's own options say to stop."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(SEEDS):
            (corpus / str(number)).write_bytes(seed)
        path = Path(folder) / "input.pt"
        atheris.Setup([*sys.argv, str(corpus)], lambda data: one(data, path))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
