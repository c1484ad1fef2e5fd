"""A checkpoint against the model that its training began with: did anything change, and only what should have?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orz_ckpt.checks.files import READ_AGAIN
from orz_ckpt.diff.run import diff
from orz_ckpt.diff.summary import rounds_to
from orz_ckpt.errors import HostileError, MissingPathError, SeveralError
from orz_ckpt.findings import CkptFinding, Level, conclude, finding
from orz_ckpt.layouts import is_sharded
from orz_ckpt.lora import with_adapter
from orz_ckpt.quoting import brief
from orz_ckpt.report.words import count, listed
from orz_ckpt.sources import POLICIES, detect, open_source, roles_in
from orz_ckpt.tensors.names import EMBEDDINGS, HEADS
from orz_cli.errors import OrzError, UsageError
from orz_cli.findings import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from orz_ckpt.diff.summary import Diff
    from orz_ckpt.examine.files import How
    from orz_ckpt.tensors.source import Source

_MAX_NAMED: Final = 5
_MATRIX: Final = 2
"""Dimensions; what has fewer is often kept in fp32 whatever the type of the model."""
_UNIVERSAL: Final = "deepspeed-universal"
"""The format of what DeepSpeed's own tool makes of a checkpoint, to go on from."""
_TRAIN: Final = "check the learning rate, what is frozen, and which copy of the model was saved"


def check_against(path: Path, base: Path, how: How) -> list[CkptFinding]:
    """Compare the weights at `path` with those at `base`, both read once or twice from end to end in constant memory.

    `Level.QUICK` compares names and shapes alone.

    Raises:
        MissingPathError: there is nothing at `base`.
        NoWeightsError: `base` holds no weights.
        FormatError: `base` is of a format and cannot be read.
        UsageError: `base` holds several models.
    """
    try:
        before = open_source(model_in(base), inert=how.inert)
    except SeveralError as error:
        raise UsageError(f"--against: {error.message}", remedy=error.remedy) from error
    except MissingPathError:
        raise
    except OSError as error:
        message = f"{base} cannot be read: {error.strerror or error}"
        return [finding("not_compared", message, remedy=READ_AGAIN, path=path)]
    try:
        after = open_source(model_in(path), tag=how.tag, inert=how.inert)
        if after.format == "peft":
            return list(_adapter(after, before))
        if how.level is Level.QUICK:
            message = f"names and shapes were compared with {base}, and no numbers: --level quick reads none"
            remedy = "whether anything was trained needs the numbers: leave out --level quick"
            return [*_names(after, before), finding("numbers_not_compared", message, remedy=remedy, path=path)]
        found = diff(before, after, progress=how.progress)
    except HostileError:
        return []  # verify itself refuses it
    except (OrzError, OSError) as error:
        reason, remedy = (error.message, error.remedy) if isinstance(error, OrzError) else (str(error), "")
        message = f"it was not compared with {base}: {reason}"
        return [finding("not_compared", message, remedy=remedy or "verify both of them first", path=path)]
    return [*_judge(found), *_differences(found)]


def model_in(path: Path) -> Path:
    """Return the folder of the policy where `path` holds several models, else `path`.

    Raises:
        MissingPathError: nothing is there.
        OSError: it cannot be listed.
    """
    if detect(path) is not None:
        return path
    roles = roles_in(path)
    return next((roles[name] for name in POLICIES if name in roles), path)


def _judge(found: Diff) -> Iterator[CkptFinding]:
    """Conclude from how many tensors differ."""
    total, changed = len(found.tensors), {tensor.name for tensor in found.changed}
    path, base = found.b.path, found.a.path
    sharded = is_sharded(found.a)
    if not changed and _is_rounded(found, sharded=sharded):
        message = (
            f"0 of {count(total, 'tensor')} differ from {base} after rounding ({_types(found)}): it is"
            " what a copy of it in that type should be; if the training began with it, nothing was trained"
        )
        yield finding("rounded_base", message, path=path)
    elif not changed and any(tensor.hidden for tensor in found.tensors):
        share = sum(tensor.hidden for tensor in found.tensors) / sum(tensor.numel for tensor in found.tensors)
        message = (
            f"0 of {count(total, 'tensor')} differ from {base} after rounding to its type ({_types(found)}), and"
            f" {share:.2%} of the numbers do before: whoever computes with the rounded ones has the base"
        )
        yield finding("change_rounds_away", message, remedy=_TRAIN, path=path)
    elif not changed and _is_made_of(found.b, found.a):
        message = f"0 of {count(total, 'tensor')} differ from {base}: it is a copy of its weights, bit for bit"
        yield finding("copy_of_base", message, path=path)
    elif not changed:
        message = f"0 of {count(total, 'tensor')} differ from {base}: the weights never changed"
        yield finding("unchanged", message, remedy=_TRAIN, path=path)
    else:
        share = sum(tensor.changed for tensor in found.tensors) / sum(tensor.numel for tensor in found.tensors)
        message = f"{len(changed):,} of {count(total, 'tensor')} and {share:.2%} of the numbers differ from {base}"
        yield finding("compared", message, path=path)
        others = any(not _is_embedding(tensor.name) for tensor in found.tensors)
        if others and all(map(_is_embedding, changed)):
            message = f"only embeddings differ from {base}: {listed(sorted(changed), _MAX_NAMED)}"
            yield finding("only_embeddings_changed", message, remedy=_TRAIN, path=path, tensor=min(changed))
    frozen = [name for name in found.b.frozen if name in changed]
    if frozen:
        message = (
            f"{len(frozen)} of {len(found.b.frozen)} frozen tensors differ from {base}: {listed(frozen, _MAX_NAMED)}"
        )
        remedy = "the training began with another model than this, or what was frozen was not from its first step on"
        yield finding("frozen_changed", message, remedy=remedy, path=path, tensor=frozen[0])


def _is_made_of(after: Source, base: Source) -> bool:
    """Return whether weights may have been merged or converted from the shards `base`; a trainer's shards are not."""
    converted = after.format == _UNIVERSAL != base.format
    return is_sharded(base) and (converted or not is_sharded(after))


def _is_rounded(found: Diff, *, sharded: bool) -> bool:
    """Return whether matrices became narrower, and none stayed wider than these; of shards, whether any became so.

    Frozen weights are narrow already where a trainer keeps them in 16 bits, and so they are in what is merged of it.
    """
    matrices = [tensor for tensor in found.tensors if len(tensor.shape) >= _MATRIX]
    narrowed = {tensor.dtype_b for tensor in matrices if tensor.narrowed}
    left = {tensor.dtype_b for tensor in matrices if not tensor.narrowed}
    uneven = any(rounds_to(wide, narrow) for wide in left for narrow in narrowed)
    return bool(narrowed) and (sharded or not uneven)


def _types(found: Diff) -> str:
    pairs = {f"{tensor.dtype_a} -> {tensor.dtype_b}" for tensor in found.tensors if tensor.dtype_a != tensor.dtype_b}
    return ", ".join(sorted(pairs))


def _differences(found: Diff) -> Iterator[CkptFinding]:
    for names, where in ((found.only_a, "only in the base"), (found.only_b, "only in the checkpoint")):
        if names:
            message = _alone(names, where)
            remedy = "right for another head; else the base is of another model"
            yield finding("names_differ", message, remedy=remedy, path=found.b.path, tensor=names[0])
    if found.unlike:
        message = (
            f"{count(len(found.unlike), 'tensor')} of another shape or type: {'; '.join(found.unlike[:_MAX_NAMED])}"
        )
        yield finding("names_differ", message, remedy="the base is of another model", path=found.b.path)


def _names(after: Source, before: Source) -> Iterator[CkptFinding]:
    """Compare names and shapes."""
    mine, theirs = ({*source.tensors, *source.aliases} for source in (after, before))
    for names, where in ((theirs - mine, "only in the base"), (mine - theirs, "only in the checkpoint")):
        if names:
            message = _alone(sorted(names), where)
            yield finding("names_differ", message, path=after.path, tensor=min(names))
    unlike = [
        f"{brief(name)}: {list(before.tensors[name].shape)} -> {list(after.tensors[name].shape)}"
        for name in after.tensors.keys() & before.tensors.keys()
        if before.tensors[name].shape != after.tensors[name].shape
    ]
    if unlike:
        message = f"{count(len(unlike), 'tensor')} of another shape: {'; '.join(sorted(unlike)[:_MAX_NAMED])}"
        yield finding("names_differ", message, path=after.path)


def _alone(names: Sequence[str], where: str) -> str:
    """Return what to say of tensors that only one of the two has."""
    return f"{count(len(names), 'tensor')} {'is' if len(names) == 1 else 'are'} {where}: {listed(names, _MAX_NAMED)}"


def _adapter(adapter: Source, base: Source) -> Iterator[CkptFinding]:
    """Say whether an adapter fits the base, and what it changes of it; of its numbers its reader speaks."""
    told = {*adapter.findings, *base.findings}
    try:
        merged = with_adapter(base, adapter)
    except UsageError as error:
        yield finding("lora_unfit", error.message, remedy=error.remedy, path=adapter.path)
        return
    found = [entry for entry in merged.findings if entry not in told]
    yield from found
    if conclude(found) is Status.OK:
        changed = sum(tensor is not base.tensors[name] for name, tensor in merged.tensors.items())
        message = f"it fits {base.path}: it changes {changed:,} of {count(len(base.tensors), 'tensor')}"
        yield finding("compared", message, path=adapter.path)


def _is_embedding(name: str) -> bool:
    return name.endswith((*EMBEDDINGS, *HEADS))
