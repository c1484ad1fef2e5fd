"""Findings about shards of ranks, adapters, and conversions: cause and remedy of each."""

from __future__ import annotations

from typing import Final

SHARDS: Final = {
    "ranks_missing": (
        "Each node wrote the shards of its own ranks to its own disk, or a rank died while it saved.",
        "`orz ckpt locate RUN --ray`, then `orz ckpt collect`.",
    ),
    "optimizer_missing": (
        "The 16-bit weights are in one file, which is here; the optimizer's shards are on other nodes.",
        "Nothing for the weights; collect the rest to resume.",
    ),
    "model_states_missing": ("Rank 0 wrote that file to its own node.", "`orz ckpt locate`, then `orz ckpt collect`."),
    "copies_missing": ("Ranks that hold copies of the same numbers are elsewhere.", "Nothing for the weights."),
    "shard_torn": ("The disk became full, or the process was killed while it wrote.", "Copy it again, or save again."),
    "shard_stale": (
        "An earlier save, with more ranks or another precision, left its files in the folder.",
        "Move them away.",
    ),
    "shards_unused": ("Files of an earlier save were left in the folder.", "Remove them."),
    "steps_mixed": (
        "A save over an older one was cut off, or files of two were collected; DeepSpeed's tool merges them silently.",
        "Collect the files of one save, or use another checkpoint.",
    ),
    "worlds_mixed": ("A restart with another number of ranks saved over an older save.", "Move the older files away."),
    "versions_mixed": ("Files of two saves are in one folder.", "Move the older files away."),
    "steps_not_compared": (
        "A file that would tell is broken or was not saved, or does not count; or times lie far apart.",
        "Compare the files' times; copy or collect again what is broken.",
    ),
    "step_counts_differ": (
        "Files of two saves are mixed; or the run went on without its optimizer's state; or DeepSpeed is an old one.",
        "Look at the files' times. ZeRO-3's weights are the optimizers'; buffers and the step are the model files'.",
    ),
    "rank_differs": ("A file was renamed or copied under another rank's name.", "Fetch the right one from its node."),
    "shards_disagree": ("Files are of different models or saves.", "Collect the files of one save."),
    "copies_differ": (
        "Ranks that should hold the same numbers do not: files of different steps, or damage.",
        "Collect the files of one save; where they are, the run itself was inconsistent.",
    ),
    "shapes_derived": ("torch's Hugging Face writer states no shapes.", "Compare the number of shards with the ranks."),
    "names_foreign": ("Megatron has names and shapes of its own.", "Convert it with Megatron's own tools."),
    "elements_differ": ("Shards are of different models or saves.", "Look for the right ones: `orz ckpt locate`."),
    "tensor_hole": ("A shard is missing or cut off.", "Copy the missing files here."),
    "tensor_overlap": ("Shards of different saves are mixed.", "Collect the files of one save."),
    "weights_swapped": (
        "The optimizer was offloaded to NVMe; DeepSpeed saved empty shards.",
        "Load it with DeepSpeed and save 16-bit weights.",
    ),
    "layout_unsupported": (
        "Tensor parallelism, pipelines, experts, compression or flat parameters, which are not put together here.",
        "The message names the tool that does.",
    ),
    "masters_unnamed": ("Without ZeRO, fp32 weights have no names in the file.", "Nothing; 16-bit ones were taken."),
    "master_differs": (
        "The file of the 16-bit weights and the optimizer's shards are of different steps, or one is damaged.",
        "Look at the files' times; use another checkpoint.",
    ),
    "tag_missing": ("`latest` was copied without its tag, or names a save on another node.", "Give `--tag`."),
    "tags_not_judged": (
        "DeepSpeed keeps several checkpoints in one folder, and `latest` names one of them.",
        "`orz ckpt verify PATH --tag TAG` judges another.",
    ),
    "tag_not_read": (
        (
            "A save was cut off, a file is damaged, or this user may not read it; torch loads some files that are "
            "damaged. Of a tag newer than the one that `latest` names it is a warning: its save may be going on."
        ),
        (
            "Verify a newer tag again when its save is done; remove what a killed save left of an older one. "
            "`orz ckpt verify PATH --tag TAG` judges one tag alone."
        ),
    ),
    "latest_missing": ("Rank 0 did not come to the end of its save, or wrote to another node.", "`orz ckpt locate`"),
    "tensor_empty": (
        "ZeRO-3 weights were saved while they were spread over ranks.",
        "Merge them from the shards, or gather them when saving.",
    ),
    "tensors_unclaimed": (
        "Names in the file are damaged, or the model adds tensors of its own to its state dict: quantised layers do.",
        "Compare the file with that of another step; copy it again.",
    ),
    "not_merged": ("It was saved for resuming, not for loading.", "`orz ckpt merge PATH OUT`"),
    "lora_empty": ("ZeRO-3 spread the adapter over ranks when it was saved.", "Gather it, and save it again."),
    "lora_zero": ("It was saved before its first step, or never trained.", "Check learning rate and what is frozen."),
    "lora_alpha_lost": (
        "verl's merger writes 0 where it does not know; others leave it out.",
        "Give the training's: `--lora-alpha N`",
    ),
    "lora_unfit": ("The adapter was trained on another model.", "Name its own base."),
    "lora_inside": ("The checkpoint is of a model that is still wrapped.", "`orz ckpt merge` adds them."),
    "head_reshaped": ("Open-Reasoner-Zero stored it so.", "Nothing."),
    "head_dropped": ("The critic began as a language model.", "Nothing."),
}
