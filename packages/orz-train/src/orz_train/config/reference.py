"""The configuration's reference page and JSON Schema, made from the docstrings of its fields.

`python -m orz_train.config.reference docs/reference` writes both; a test keeps them current.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from orz_train.config.base import Section
from orz_train.config.fields import describe, field_at, is_optional, section_of
from orz_train.config.layers import ALTERNATIVES
from orz_train.config.load import EXTENDS
from orz_train.config.orz_names import ORZ_NAMES
from orz_train.config.problems import Key, dotted, shown
from orz_train.config.schema import Config

PAGE = "config.md"
SCHEMA = "recipe.schema.json"

_HEAD = """\
# Configuration

Made by `python -m orz_train.config.reference docs/reference` from the docstrings in `orz_train/config`.

A recipe is a YAML file (YAML 1.2) with the keys below; most have a default. Settings are laid over each other,
later ones winning:

1. the defaults below;
2. what `extends:` names, a shipped recipe or a file relative to this one, which may extend another;
3. the recipe itself;
4. overlays, in the order of `--with NAME` or `--with FILE`; their key `per_recipe` maps recipe names to settings
   for them and the recipes that extend them;
5. `key=value` on the command line: `policy.optimizer.lr=1e-6`, `critic=null`, `generation.stop=[a, b]`.

Sections merge key by key; lists, and the names in `data.eval`, are replaced whole, except that
`data.eval.NAME=FILE` on the command line adds a set. Setting one of two alternatives in a later layer unsets the
other: {alternatives}. `name` and `description` are not taken over from what a recipe extends. Relative paths of models
and data start at the folder in which `orz` is started. For completion and checks in an editor, begin a recipe with

```yaml
# yaml-language-server: $schema=recipe.schema.json
```
"""

_ORZ_HEAD = """\
## Names of Open-Reasoner-Zero

| in ORZ | here | |
|---|---|---|
"""


def page() -> str:
    """Return the reference page, as Markdown."""
    alternatives = ", ".join(f"`{dotted(one)}` or `{dotted(other)}`" for one, other in ALTERNATIVES)
    parts = [_HEAD.format(alternatives=alternatives), *_sections(Config, (), "The run"), _orz_names()]
    return "\n".join(parts)


def recipe_schema() -> str:
    """Return the JSON Schema of a recipe file: every key may be missing, because a recipe may extend another."""
    schema = Config.model_json_schema()
    _relax(schema)
    for section in schema.get("$defs", {}).values():
        _relax(section)
    for name, field in Config.model_fields.items():
        inner = section_of(field)
        if inner and inner.shorthand:
            schema["properties"][name] = {"anyOf": [{"type": "string"}, {"$ref": f"#/$defs/{inner.__name__}"}]}
    schema["properties"] = {
        EXTENDS: {"type": "string", "description": "A shipped recipe, or a YAML file relative to this one."},
        **schema["properties"],
    }
    schema["title"] = "orz recipe"
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def write(folder: Path) -> list[Path]:
    """Write both files into a folder and return their paths."""
    written = []
    for name, text in ((PAGE, page()), (SCHEMA, recipe_schema())):
        path = folder / name
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _sections(section: type[Section], key: Key, title: str) -> Iterator[str]:
    """Yield a table of the section's values, then the sections below it."""
    yield f"## {title}\n"
    if key:
        field = field_at(key)
        absent = " Not there by default; `null` takes it away." if field and is_optional(field) else ""
        yield f"{_one_line(section.__doc__ or '')}{absent}\n"
    yield "| key | takes | default | |\n|---|---|---|---|"
    below = []
    for name, field in section.model_fields.items():
        inner = section_of(field)
        if inner:
            below.append(((*key, name), inner))
            continue
        default = f"`{_default(field)}`" if not field.is_required() else "required"
        default = "the file's name" if (*key, name) == ("name",) else default
        meaning = _one_line(field.description or "")
        yield f"| `{dotted((*key, name))}` | {_cell(describe(field))} | {default} | {_cell(meaning)} |"
    yield ""
    for path, inner in below:
        yield from _sections(inner, path, f"`{dotted(path)}`")


def _orz_names() -> str:
    rows = (f"| `{name.orz}` | {f'`{name.key}`' if name.key else '-'} | {_cell(name.note)} |" for name in ORZ_NAMES)
    return _ORZ_HEAD + "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if isinstance(value, tuple):
        return f"[{', '.join(str(item) for item in value)}]"
    if isinstance(value, dict):
        return "{}"
    return value if isinstance(value, str) and value else shown(value)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _relax(section: dict[str, Any]) -> None:
    section.pop("required", None)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
