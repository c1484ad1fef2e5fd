"""Make the golden manifests with the standard library alone: a second opinion on the contract's digests.

Run it from anywhere: `python tests/golden/manifest_make.py`. The files never change once released.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def sha256(value: object) -> str:
    compact = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(compact.encode("ascii")).hexdigest()


def sealed(document: dict[str, Any]) -> dict[str, Any]:
    root = {path: [file["size"], file["algo"], file["digest"]] for path, file in document["files"].items()}
    document = {**document, "root_sha256": sha256(root)}
    return {**document, "manifest_sha256": sha256(document)}


def base() -> dict[str, Any]:
    return {
        "v": 1,
        "created": "2026-11-22T12:00:00Z",
        "writer": "orz-train 0.1.0",
        "step": 50,
        "attempt": "20261122T115959-0a1b2c3d",
        "config_sha256": "c" * 64,
        "roles": {"policy": "policy", "critic": "critic"},
        "files": {
            "policy/model.safetensors": {
                "size": 108,
                "algo": "blake3",
                "digest": "1" * 64,
                "chunks": ["6" * 64],
                "sha256": "7" * 64,
                "tensors": {
                    "w": {"dtype": "BF16", "shape": [2, 2], "offset": 96, "nbytes": 8, "digest": "2" * 64},
                    "scalar": {"dtype": "F32", "shape": [], "offset": 104, "nbytes": 4, "digest": "3" * 64},
                },
            },
            "critic/config.json": {"size": 2, "algo": "sha256", "digest": "4" * 64},
            "state/Schlüssel.bin": {"size": 0, "algo": "blake3", "digest": "5" * 64},
        },
        "meta": {"seed": 1, "reward": "0.85", "nested": {"list": [1, None, True, "ä"]}},
    }


def minimal() -> dict[str, Any]:
    keep = ("v", "created", "writer", "step", "attempt")
    return {**{key: base()[key] for key in keep}, "roles": {}, "files": {}, "meta": {}}


def with_unknown_keys() -> dict[str, Any]:
    document = base()
    document["later"] = {"ratio": 0.5}
    document["files"]["critic/config.json"]["mode"] = "0644"
    document["files"]["policy/model.safetensors"]["tensors"]["w"]["absmax"] = "0.5"
    return document


def main() -> None:
    for name, document in (("", base()), ("_minimal", minimal()), ("_unknown_keys", with_unknown_keys())):
        text = json.dumps(sealed(document), sort_keys=True, indent=2) + "\n"
        (HERE / f"manifest_v1{name}.json").write_text(text, encoding="ascii", newline="\n")


if __name__ == "__main__":
    main()
