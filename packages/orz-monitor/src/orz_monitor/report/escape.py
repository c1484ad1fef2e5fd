"""Text that came from logs, made safe for a page."""

from __future__ import annotations

import html
import re
from typing import Final

_CONTROL: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
_CODE: Final = re.compile(r"`([^`]+)`")


def escaped(text: str) -> str:
    """Return text for HTML content or a quoted attribute, without control and direction characters."""
    return html.escape(_CONTROL.sub("", text))


def with_code(text: str) -> str:
    """Escape text and turn its `quoted` parts into code elements."""
    return _CODE.sub(r"<code>\1</code>", escaped(text))


def markdown_escaped(text: str) -> str:
    """Return text for a Markdown table or paragraph: no markup, no line breaks, no HTML."""
    plain = _CONTROL.sub("", text).replace("\n", " ")
    return re.sub(r"([\\*_\[\]<>|#])", r"\\\1", plain)
