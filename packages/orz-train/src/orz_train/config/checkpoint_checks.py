"""Settings of checkpoints that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from orz_ckpt.urls import is_url, user_in
from orz_train.config.checkpoint import STORAGES
from orz_train.config.conflict import Check, Conflict
from orz_train.config.problems import shown
from orz_train.config.schema import Config
from orz_train.config.suggest import nearest_name

_WITH_USER = frozenset({"abfs", "abfss", "az"})
"""Protocols that write `container@account`, where others have a user."""
_WITHOUT_PLACE = frozenset({"file", "hdfs"})
"""Protocols where a path alone says where: this machine's, and the name node of Hadoop's own configuration."""


def storage_is_known(config: Config) -> Iterator[Conflict]:
    """A run saves to disks, under its folder's path; copies go elsewhere."""
    storage = config.checkpoint.storage
    if "://" in storage:
        yield Conflict(
            ("checkpoint.storage",),
            f"got a URL ({storage.partition('://')[0]}://...), expected {' or '.join(STORAGES)}: a run saves to disks;"
            " checkpoint.copy_to takes the URL that every committed checkpoint is copied to",
        )
    elif storage not in STORAGES:
        yield Conflict(
            ("checkpoint.storage",),
            f"got {storage!r}, expected {' or '.join(STORAGES)}{nearest_name(storage, STORAGES)}",
        )


def copies_go_to_a_url(config: Config) -> Iterator[Conflict]:
    """The place for copies is a URL that can be written into a run's records: it holds no secret."""
    copy_to = config.checkpoint.copy_to
    if copy_to is None:
        return
    if not is_url(copy_to):
        example = f"file://{copy_to}" if copy_to.startswith("/") else "s3://bucket/runs or file:///mnt/archive"
        yield Conflict(("checkpoint.copy_to",), f"got {shown(copy_to)}, expected a URL such as {example}")
        return
    protocol = copy_to.partition("://")[0].lower()
    user = user_in(copy_to)
    if "?" in copy_to or "#" in copy_to or (user and (protocol not in _WITH_USER or ":" in user)):
        yield Conflict(
            ("checkpoint.copy_to",),
            f"got a URL ({protocol}://...) with a user, a password, a query or a fragment, which the run folder would"
            " keep for all to read; put credentials into the environment, where the library of the store looks for"
            " them (AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, ...), and leave PROTOCOL://PLACE/FOLDER",
        )
    elif not _names_a_place(copy_to, protocol):
        example = f"{protocol}:///mnt/archive" if protocol in _WITHOUT_PLACE else f"{protocol}://bucket/runs"
        yield Conflict(
            ("checkpoint.copy_to",),
            f"got {shown(copy_to)}, which names no place, expected a URL such as {example}; where a variable was to"
            " fill it in, it is not set",
        )


def _names_a_place(url: str, protocol: str) -> bool:
    """Return whether a URL has a bucket or host; a folder will do where there is a default one."""
    try:
        parts = urlsplit(url)
    except ValueError:  # half an address in brackets
        return False
    host = parts.netloc.rpartition("@")[2]
    return bool(host.strip() or (protocol in _WITHOUT_PLACE and parts.path.strip("/")))


def copies_are_made_from_one_disk(config: Config) -> Iterator[Conflict]:
    """What is copied is what the driver's node can read."""
    if config.checkpoint.copy_to is not None and config.checkpoint.storage == "per_node":
        yield Conflict(
            ("checkpoint.copy_to", "checkpoint.storage"),
            "is copied from the driver's node, and with checkpoint.storage: per_node each node keeps its own part;"
            " remove it, and bring all parts there with `orz ckpt collect RUN --to URL --ray`",
        )


CHECKPOINT_CHECKS: tuple[Check, ...] = (storage_is_known, copies_go_to_a_url, copies_are_made_from_one_disk)
