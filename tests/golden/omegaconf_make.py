"""Make the golden configuration with the real omegaconf, whose nodes hold their parents.

    pip install omegaconf==2.3.0 && python tests/golden/omegaconf_make.py

Writes `omegaconf_2.3.0.pkl`: a configuration as a trainer puts it into what it saves, with a dictionary, a list, a
reference by name and a missing value in it, and a part of it before the whole. The files never change once released.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import omegaconf

CONFIG = {"model": {"sizes": [4, 8], "name": "tiny"}, "lr": 1e-4, "rate": "${lr}", "seed": "???"}


def main() -> None:
    config = omegaconf.OmegaConf.create(CONFIG)
    path = Path(__file__).parent / f"omegaconf_{omegaconf.__version__}.pkl"
    path.write_bytes(pickle.dumps({"part": config.model, "config": config}, protocol=2))


if __name__ == "__main__":
    main()
