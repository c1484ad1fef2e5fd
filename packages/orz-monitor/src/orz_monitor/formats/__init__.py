"""Verdicts in the formats that people and build systems read."""

from __future__ import annotations

from enum import StrEnum


class Format(StrEnum):
    """An output format of a judging command."""

    TEXT = "text"
    JSON = "json"
    JUNIT = "junit"
    SARIF = "sarif"
    GITHUB = "github"
