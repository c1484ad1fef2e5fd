"""Make the golden adapter with the real peft: what it saves, and what it merges itself.

    pip install torch==2.13.0 peft==0.21.2 safetensors && python tests/golden/peft_make.py

Writes `peft_0.21.2/`: `base.safetensors`, `adapter/` as `save_pretrained` writes it, and `merged.safetensors`, the
state dict after `merge_and_unload`. Ranks, scales and a turned matrix differ between the modules; a head is trained as
a whole. The files never change once released.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import peft
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

FOLDER = Path(__file__).parent / f"peft_{peft.__version__}"


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(6, 10)
        self.down_proj = nn.Linear(10, 6, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.down_proj(self.q_proj(hidden))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(11, 6)
        self.layers = nn.ModuleList([Layer(), Layer()])
        self.lm_head = nn.Linear(6, 11, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.embed_tokens(ids)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.lm_head(hidden)


def main() -> None:
    torch.manual_seed(0)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    model = Model()
    save_file(model.state_dict(), FOLDER / "base.safetensors")
    config = peft.LoraConfig(
        r=4,
        lora_alpha=10,
        use_rslora=True,
        target_modules=["q_proj", "down_proj", "embed_tokens"],
        modules_to_save=["lm_head"],
        rank_pattern={"down_proj": 3},
        alpha_pattern={"layers.1.q_proj": 5},
    )
    adapted = peft.get_peft_model(model, config)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter)
    adapted.save_pretrained(FOLDER / "adapter")
    (FOLDER / "adapter" / "README.md").unlink()
    merged = adapted.merge_and_unload().state_dict()
    save_file({name: tensor.contiguous() for name, tensor in merged.items()}, FOLDER / "merged.safetensors")


if __name__ == "__main__":
    main()
