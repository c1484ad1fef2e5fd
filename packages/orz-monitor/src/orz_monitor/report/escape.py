"""Text that came from logs, made safe for a page."""

from __future__ import annotations

import html
import re
from typing import Final

from orz_monitor.printable import printable

_CODE: Final = re.compile(r"`([^`]+)`")


def escaped(text: str) -> str:
    """Return text for HTML content or a quoted attribute, without control and direction characters."""
    return html.escape(printable(text))


def with_code(text: str) -> str:
    """Escape text and turn its `quoted` parts into code elements."""
    return _CODE.sub(r"<code>\1</code>", escaped(text))


def markdown_escaped(text: str) -> str:
    """Return text for a Markdown table or paragraph: no markup, no line breaks, no HTML."""
    return re.sub(r"([\\*_\[\]<>|#])", r"\\\1", printable(text).replace("\n", " "))
