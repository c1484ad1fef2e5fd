"""A run as one page: HTML for people, Markdown for comments, JSON for programs."""

from __future__ import annotations
