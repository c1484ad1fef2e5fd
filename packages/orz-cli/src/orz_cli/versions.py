"""The installed versions of the orz packages, read from metadata without importing them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ORZ_PACKAGES = ("orz-cli", "orz-ckpt", "orz-monitor", "orz-train")
"""The packages of this workspace; they share one version."""


def installed_versions(packages: Iterable[str] = ORZ_PACKAGES) -> dict[str, str | None]:
    """Return the version of each package, None where it is not installed."""
    return {package: installed_version(package) for package in packages}


def installed_version(package: str) -> str | None:
    """Return the version of one package, None where it is not installed."""
    from importlib import metadata  # noqa: PLC0415  every command loads this module, and few ask for a version

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
