"""What `verify` can find: the rules, their findings, and the report they add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from orz_cli.findings import Finding, Severity, Status, to_json

if TYPE_CHECKING:
    from pathlib import Path

    from orz_ckpt.errors import FormatError, HostileError
    from orz_ckpt.tensors.statistics import TensorStatistics


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of finding."""

    severity: Severity
    summary: str
    """What it means, in one sentence."""
    status: Status = Status.FAILED
    """What an error of this kind makes of the whole."""


def _error(summary: str) -> Rule:
    return Rule(Severity.ERROR, summary)


def _unknown(summary: str) -> Rule:
    return Rule(Severity.ERROR, summary, Status.INCONCLUSIVE)


def _warn(summary: str) -> Rule:
    return Rule(Severity.WARN, summary)


def _info(summary: str) -> Rule:
    return Rule(Severity.INFO, summary)


RULES: Final = {
    "path_escapes": Rule(Severity.ERROR, "A path leads out of the checkpoint.", Status.REFUSED),
    "pickle_calls": Rule(Severity.ERROR, "A pickle would run code when it is loaded.", Status.REFUSED),
    "unreadable": _unknown("A file cannot be read."),
    "nothing_recognised": _unknown("The path holds nothing that this command knows."),
    "beside_weights": _unknown("What was asked for is none of the weights, so nothing is said of them."),
    "not_judged": _unknown("The command, or a node, could not judge what it was given."),
    "weights_not_read": _unknown("The weights are in a format that this command does not read."),
    "layout_unsupported": _unknown("The weights are laid out in a way that this command does not put together."),
    "manifest_newer": _unknown("The manifest is of a newer version than this reader."),
    "no_checkpoint": _unknown("The run has no checkpoint yet."),
    "uncommitted": _error("The save of this checkpoint never came to its end."),
    "manifest_torn": _error("The manifest is cut off or was altered."),
    "manifest_invalid": _error("The manifest holds a wrong value."),
    "manifest_required": _error("There is no manifest, and one was asked for."),
    "step_differs": _error("The folder's name and the manifest state different steps."),
    "file_missing": _error("A file is missing."),
    "file_extra": _error("A file is there that the manifest does not name."),
    "name_not_portable": _warn("A file has a name that no manifest can state, and not every system takes."),
    "not_a_file": _error("Something is neither a plain file nor a folder."),
    "size_differs": _error("A file is longer or shorter than the manifest says."),
    "digest_differs": _error("A file has other bytes than the manifest says."),
    "tensor_differs": _error("A header describes a tensor otherwise than the manifest."),
    "header_invalid": _error("A safetensors file breaks a rule of its format."),
    "torch_invalid": _error("A torch file is damaged, or breaks a rule of its format."),
    "names_collide": _error("Tensors of a torch file have one name, so that all but one would be hidden."),
    "record_crc_differs": _error("A record of a torch file has other bytes than its checksum says."),
    "index_invalid": _error("The index of the shards cannot be read."),
    "index_differs": _error("Index and shards do not hold the same tensors."),
    "shard_orphan": _error("A file of weights is there that the index does not name."),
    "file_holes": _error("Parts of a file were never written."),
    "settings_invalid": _error("A JSON file that a loader reads beside the weights is cut off or is none."),
    "total_size_differs": _warn("The index states another total size than the shards have."),
    "no_weights": _error("There are no weights."),
    "role_missing": _warn("A step of a run lacks a model that an earlier one has."),
    "config_missing": _warn("There is no config.json."),
    "config_invalid": _error("config.json cannot be used."),
    "tensor_missing": _error("A tensor that the configuration promises is missing."),
    "tensor_unexpected": _warn("A tensor is there that the configuration does not know."),
    "shape_differs": _error("A tensor has another shape than the configuration says."),
    "tensor_hole": _error("Elements of a tensor are in no file."),
    "tensor_overlap": _error("Elements of a tensor are in two places."),
    "ranks_missing": _error("Shards of some ranks are missing."),
    "optimizer_missing": _warn("Shards of the optimizer are missing; the weights are here without them."),
    "model_states_missing": _error("The file that names the weights is missing."),
    "shard_torn": _error("A shard is cut off or broken."),
    "shard_stale": _error("A shard is there that belongs to another save."),
    "steps_mixed": _error("Shards of different steps are mixed."),
    "worlds_mixed": _error("Shards of runs with different numbers of ranks are mixed."),
    "versions_mixed": _error("Shards of different versions of the framework are mixed."),
    "rank_differs": _error("A file holds another rank's shard than its name says."),
    "shards_disagree": _error("Ranks describe one tensor in different ways."),
    "copies_differ": _error("Copies of the same numbers differ between ranks."),
    "shards_unused": _warn("Files of another save lie beside those of this one."),
    "copies_missing": _warn("Some ranks are missing; others hold the same numbers."),
    "steps_not_compared": _warn("Whether all ranks are of one step could not be told."),
    "step_counts_differ": _warn("The model's file counts other steps than its optimizer took."),
    "shapes_derived": _warn("The shapes of tensors are stated nowhere; they are what the shards that are here give."),
    "names_foreign": _warn("The weights have names and shapes that no Hugging Face loader knows."),
    "elements_differ": _error("Shards do not hold each element of the weights exactly once."),
    "weights_swapped": _error("Weights were on NVMe when the checkpoint was saved, and are not in its shards."),
    "masters_unnamed": _warn("There are fp32 weights, but which is which cannot be told; the others were taken."),
    "master_differs": _error("A weight is not what rounding its fp32 copy gives."),
    "tag_missing": _error("Which checkpoint of the folder is meant cannot be told, or it is not there."),
    "tags_not_judged": _info("Whether other checkpoints in the folder are whole was not judged."),
    "tag_not_read": _unknown("What loading another checkpoint of the folder would run could not be told."),
    "latest_missing": _warn("There is no `latest` file beside the only tag."),
    "tensor_empty": _error("A weight has no elements: it was saved while it was spread over ranks."),
    "tensors_unclaimed": _warn("A file of DeepSpeed holds numbers that it calls neither a parameter nor a buffer."),
    "lora_empty": _error("An adapter has no factors, or factors without elements."),
    "lora_zero": _error("An adapter changes nothing: its factors B are all zeros."),
    "lora_alpha_lost": _error("The alpha of an adapter, which gives its scale, is 0 or not stated."),
    "lora_unfit": _error("An adapter does not fit the weights that it is to be added to."),
    "lora_inside": _warn("LoRA factors stand beside the weights, and are written as they are."),
    "head_reshaped": _info("A value head was stored in another shape, and is written as one row."),
    "head_dropped": _info("The head of a language model was left out of a critic."),
    "not_finite": _error("A tensor holds NaN or infinity."),
    "number_overflows": _error("A number is too large for the type that the weights are to be written in."),
    "all_zero": _warn("A weight is all zeros."),
    "constant": _warn("All numbers of a weight are equal."),
    "outlier": _warn("A weight has a number that is far away from all others."),
    "all_zero_model": _error("All weights are zero."),
    "no_manifest": _info("There is no manifest, so bytes cannot be compared with what was written."),
    "checksums_off": _info("A torch file was written without checksums."),
    "shapes_not_checked": _info("Names and shapes could not be derived from the configuration."),
    "numbers_not_checked": _info("These tensors are not searched for NaN and infinity."),
    "dtype_differs": _warn("The weights are of another type than the configuration says."),
    "vocabulary_small": _warn("The tokenizer has tokens that the model has no embedding for."),
    "latest_behind": _warn("A newer checkpoint is there than the one that is named the latest."),
    "unchanged": _error("The weights are those of the base: training changed nothing."),
    "not_compared": _unknown("The weights could not be compared with the base."),
    "change_rounds_away": _warn("What training changed is lost when the weights are rounded to the base's type."),
    "numbers_not_compared": _info("Names and shapes were compared with the base, and no numbers."),
    "only_embeddings_changed": _warn("Nothing but embeddings differs from the base."),
    "frozen_changed": _warn("Weights that were frozen differ from the base."),
    "names_differ": _warn("Checkpoint and base do not have the same tensors."),
    "step_unchanged": _error("The weights are those of the step before: nothing was trained in between."),
    "drift_jumps": _warn("From one step to the next the weights moved many times as far as before."),
    "drift": _info("How far the weights moved from step to step."),
    "compared": _info("How much of the weights differs from the base."),
    "copy_of_base": _info("The weights are those of the sharded checkpoint that they are compared with."),
    "rounded_base": _info("The weights are those of the base, rounded to a narrower type."),
    "one_copy": _info("There are no two copies of the weights to compare with each other."),
    "sampled": _info("How much was read, and how likely damage was to be found."),
    "not_merged": _info("The weights are shards of ranks, which no Hugging Face loader reads."),
    "no_state": _info("There is nothing to resume the training from."),
    "path_ephemeral": _info("The checkpoint lies where files are lost when a machine or a container ends."),
    "no_room_for_next": _warn("The disk has less room than the newest checkpoint of a run takes once more."),
    "tie_differs": _warn("The configuration ties two weights that differ."),
    "value_head": _info("The model is a critic."),
    "no_tokenizer": _info("There is no tokenizer."),
    "custom_code": _info("The folder holds Python code; it was not run."),
    "newest_good": _info("Which checkpoint of the run to use."),
    "weights_elsewhere": _error("The weights were written by another node, to a disk that is not this one."),
    "node_unreachable": _unknown("A node gave no answer."),
    "node_lacks_orz": _unknown("A node cannot answer: orz-ckpt, or what it needs, is not installed there."),
    "node_failed": _unknown("A node could not answer."),
    "node_version_differs": _warn("A node runs another version of orz-ckpt."),
    "users_differ": _warn("Nodes answer as different users, so permissions may differ."),
    "single_node": _info("Only one node was asked."),
    "path_relative": _error("The path is relative: on each node it means another folder."),
    "path_not_folder": _error("The path, or a part of it, is something else than a folder."),
    "storage_not_shared": _error("Nodes see different disks under the same path."),
    "storage_shared": _error("Nodes see one disk, where each was to have its own."),
    "storage_in_ray_session": _error("The folder is one that Ray made and removes again."),
    "storage_ephemeral": _warn("The folder is gone when the machine or the container ends."),
    "storage_readonly": _error("The folder is on a file system that is mounted read-only."),
    "storage_not_writable": _error("This user may not write to the folder."),
    "storage_misbehaves": _error("The file system does not do what a save relies on."),
    "storage_slow_to_show": _warn("What one node writes shows late on another."),
    "storage_bucket": _warn("The folder is an object store seen through FUSE, where renaming copies."),
    "low_space": _error("There is not enough room."),
    "space_unknown": _warn("Whether there is enough room could not be found out."),
    "low_inodes": _error("There is hardly room for more files, whatever their size."),
    "clock_differs": _warn("A node's clock differs from this machine's."),
    "nothing_located": _error("No weights were found on any node."),
    "scan_cut_short": _unknown("The search ended before everything was looked at."),
    "pieces_incomplete": _error("What all nodes hold together is not a whole checkpoint."),
    "piece_in_ray_session": _warn("Weights lie in a folder that Ray removes when it likes."),
    "saves_mixed": _error("Pieces of one step come from different saves."),
    "same_name": _info("Weights of another run lie in a folder of the same name."),
    "collect_conflict": _error("Two files of one name have different bytes."),
    "collect_differs": _error("What arrived is not what was sent, or not what the manifest says."),
    "collect_left": _info("Files that no record of the save names were left where they are."),
    "prune_not_good": _warn("A committed checkpoint is not good, so nothing older is deleted on its account."),
    "prune_nothing_good": _error("No committed checkpoint is good, so none is deleted."),
    "prune_no_such_step": _warn("A step that was to be kept is not there."),
    "prune_failed": _error("An old checkpoint could not be deleted."),
    "pruned": _info("An old checkpoint was deleted."),
    "apart_not_compared": _unknown("Whether weights on several nodes are of one save could not be told."),
    "verified_apart": _info("Files of a checkpoint on several nodes were verified where they lie."),
    "collected": _info("What was brought together, and where."),
    "in_flight": _info("A save or a collection is going on, or was cut off."),
}
"""Code -> rule. Codes are stable: scripts match them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CkptFinding(Finding):
    """A finding about a file, and a tensor in it where that is known."""

    path: str = ""
    tensor: str = ""
    status: Status = Status.FAILED
    """What this finding makes of the whole if it is an error."""

    def to_json(self) -> dict[str, str]:
        """Return the finding in the shape of its JSON object."""
        return {**Finding.to_json(self), "path": self.path, "tensor": self.tensor}


def finding(code: str, message: str, *, remedy: str = "", path: object = "", tensor: str = "") -> CkptFinding:
    """Return a finding of the rule `code`.

    Args:
        code: a key of `RULES`.
        message: what was found, expected and got; it need not name `path` and `tensor`.
        remedy: what to do next.
        path: the file or folder.
        tensor: the tensor's name, where it is about one.
    """
    rule = RULES[code]
    return CkptFinding(
        code=code,
        severity=rule.severity,
        message=message,
        remedy=remedy,
        path=str(path),
        tensor=tensor,
        status=rule.status,
    )


def of_error(error: FormatError | HostileError, path: Path) -> CkptFinding:
    """Return the finding that the reader of a file raised, which names the file itself."""
    return finding(error.code, error.message.removeprefix(f"{path}: "), remedy=error.remedy, path=path)


def conclude(findings: Sequence[CkptFinding], fail_on: Severity = Severity.ERROR) -> Status:
    """Conclude: refused before failed before inconclusive before ok; `fail_on` WARN counts warnings, too."""
    errors = {entry.status for entry in findings if entry.severity is Severity.ERROR}
    if Status.REFUSED in errors:
        return Status.REFUSED
    warned = fail_on is Severity.WARN and any(entry.severity is Severity.WARN for entry in findings)
    if warned or Status.FAILED in errors:
        return Status.FAILED
    return Status.INCONCLUSIVE if errors else Status.OK


class Level(StrEnum):
    """How much of a checkpoint is read."""

    QUICK = "quick"
    """Names, sizes, headers, index, shapes."""
    SAMPLE = "sample"
    """Some of the bytes, chosen by chance, too."""
    FULL = "full"
    """Every byte."""
    DEEP = "deep"
    """Every byte, statistics of each tensor, and copies of the same weights, and steps of a run, compared."""

    @property
    def reads_all(self) -> bool:
        """Whether every byte is read."""
        return self in {Level.FULL, Level.DEEP}


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What one verification found."""

    path: str
    kind: str
    """A `subject.Kind`, or `paths` for several."""
    level: Level
    findings: tuple[CkptFinding, ...] = ()
    checked: tuple[str, ...] = ()
    """The files that were looked at."""
    bytes: int = 0
    """Of those files together."""
    tensors: int = 0
    statistics: tuple[TensorStatistics, ...] = ()
    """Of each tensor in each file, at `Level.DEEP`."""
    seconds: float = 0.0
    subject: str = ""
    """Whose weights: writer, step and time, where a manifest says."""
    newest_good: str = ""
    """Of a run: its newest checkpoint without an error."""
    parts: tuple[Report, ...] = field(default=())
    """Of a run: the reports of its checkpoints. Of several paths: theirs."""

    @property
    def command(self) -> str:
        """What was run, as it stands behind `orz ckpt`."""
        return f"verify {self.level.value}"

    @property
    def files(self) -> int:
        """How many files were looked at."""
        return len(self.checked)

    def status(self, fail_on: Severity = Severity.ERROR) -> Status:
        """Conclude: refused before failed before inconclusive before ok; `fail_on` WARN counts warnings, too."""
        return conclude(self.findings, fail_on)

    def to_json(self, fail_on: Severity = Severity.ERROR) -> dict[str, Any]:
        """Return the JSON object that all judging commands share, with this command's own keys behind."""
        return to_json(
            self.status(fail_on),
            self.findings,
            path=self.path,
            kind=self.kind,
            level=self.level.value,
            files=self.files,
            bytes=self.bytes,
            tensors=self.tensors,
            seconds=round(self.seconds, 3),
            newest_good=self.newest_good,
            statistics=[entry.to_json() for entry in self.statistics],
            parts=[{"path": part.path, "kind": part.kind, "status": part.status(fail_on).value} for part in self.parts],
        )


def softened(report: Report) -> Report:
    """Return `report` of an older checkpoint, which no longer decides: errors as warnings, and no notes."""
    return replace(
        report,
        findings=tuple(milder(entry) for entry in report.findings if entry.severity is not Severity.INFO),
    )


def milder(found: CkptFinding) -> CkptFinding:
    """Return an error as a warning, but for one of what nobody should open."""
    soft = found.severity is Severity.ERROR and found.status is not Status.REFUSED
    return replace(found, severity=Severity.WARN) if soft else found
