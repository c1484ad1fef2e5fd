"""A resolved configuration as text, and its fingerprint."""

from __future__ import annotations

import hashlib
import io
import json

from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from orz_train.config.schema import Config


class _Exact(RoundTripRepresenter):
    """Write what reads back the same: `null` in full, and escapes for what ruamel would write as it is, as NEL."""

    def represent_none(self, _value: None) -> ScalarNode:
        node: ScalarNode = self.represent_scalar("tag:yaml.org,2002:null", "null")
        return node

    def represent_text(self, value: str) -> ScalarNode:
        style = None if value.isprintable() else '"'
        node: ScalarNode = self.represent_scalar("tag:yaml.org,2002:str", value, style=style)
        return node


_Exact.add_representer(type(None), _Exact.represent_none)
_Exact.add_representer(str, _Exact.represent_text)


def dump(config: Config) -> str:
    """Write every setting, defaults included, as YAML that `load` reads back to an equal configuration."""
    yaml = YAML(typ="rt", pure=True)
    yaml.Representer = _Exact
    yaml.width = 1000
    yaml.default_flow_style = False
    text = io.StringIO()
    yaml.dump(config.model_dump(mode="json"), text)
    return text.getvalue()


def config_sha256(config: Config) -> str:
    """Return the SHA-256 of all settings, in hexadecimal; equal configurations have equal ones."""
    canonical = json.dumps(config.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
