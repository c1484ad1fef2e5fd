"""Findings about files, manifests, models and numbers: cause and remedy of each."""

from __future__ import annotations

from typing import Final

FILES: Final = {
    "path_escapes": (
        "A link, an index, a manifest, `latest` or `.metadata` names what lies outside: made by hand, or to do harm.",
        "Do not load it. Copy the files themselves into the folder if you made the link.",
    ),
    "pickle_calls": (
        "A pickle calls what does more than hold data. `torch.load` would run it; this reader ran nothing.",
        "Do not load it. If you know the name and trust it, `--inert MODULE.NAME` reads the rest; it is still not run.",
    ),
    "unreadable": (
        "No permission, a disk error, or the file became shorter while it was read.",
        "Check the permissions and the disk, then verify again.",
    ),
    "nothing_recognised": (
        "No checkpoint; an empty folder or one of JSON: the weights went to another node or folder, or a save goes on.",
        "After the save, verify again; `orz ckpt locate PATH --ray` searches every node.",
    ),
    "beside_weights": (
        "A manifest, a configuration, a tokenizer or a scheduler was given, not the folder that it lies in.",
        "`orz ckpt verify FOLDER`",
    ),
    "not_judged": (
        "A path is missing, a file breaks its format, a store does not answer: the message says what.",
        "Do what the finding says; the exit code is that of the error: 1, 2, 3 or 4. Other paths are judged as ever.",
    ),
    "weights_not_read": (
        "Tensors are sparse, quantised, or of a type of which several numbers share a byte.",
        "Load them with torch, and save them dense.",
    ),
    "manifest_newer": ("A newer orz-train saved it.", "`python -m pip install --upgrade orz-ckpt`"),
    "no_checkpoint": ("The run has not come to its first save, or saves elsewhere.", "`orz ckpt locate RUN --ray`"),
    "uncommitted": (
        "A crash or a full disk cut off a save or a merge, it goes on, or other nodes wrote to disks of their own.",
        "Use an older checkpoint (`orz ckpt verify RUN` names it), collect from other nodes, or merge again.",
    ),
    "manifest_torn": (
        "The manifest was cut off, edited, or damaged on the disk.",
        "Use an older checkpoint, or copy the manifest again.",
    ),
    "manifest_invalid": ("A program wrote a manifest that breaks its rules.", "Save again with a current orz-train."),
    "manifest_required": ("`--require-manifest` was given for a folder without one.", "`orz ckpt manifest PATH`"),
    "step_differs": ("The folder was renamed.", "Rename it back."),
    "file_missing": (
        "A file was deleted, left out when the checkpoint was copied, or saved on another node's disk.",
        "Copy the checkpoint again, or use another one.",
    ),
    "file_extra": (
        "Something was put into the folder after the save; a loader may pick it up.",
        "Remove it if nothing needs it.",
    ),
    "name_not_portable": (
        "A backslash, a control character, a drive such as `C:`, or bytes that are no UTF-8 are in the name of a file.",
        "Rename the file.",
    ),
    "not_a_file": ("A pipe, a socket or a device lies in the folder.", "Remove it."),
    "size_differs": (
        "The disk became full while it was written or copied, or it was changed.",
        "Copy the file again from where it was saved.",
    ),
    "digest_differs": (
        "Bytes changed after they were hashed: a faulty disk, network or memory, or somebody edited the file.",
        "Copy the file again. The message names the tensors that changed.",
    ),
    "tensor_differs": ("The file was replaced by another one.", "Copy or save it again."),
    "header_invalid": (
        "The file is cut off, or was not written by a safetensors library.",
        "Copy or save it again.",
    ),
    "torch_invalid": ("The file is cut off, damaged or none of torch's.", "Copy or save it again."),
    "names_collide": (
        "A key with a dot in it reads like a key below another one: `a.b`, and `b` below `a`.",
        "Save the file again under other names.",
    ),
    "record_crc_differs": (
        "Bytes of a record changed after `torch.save`. torch itself does not look at these checksums.",
        "Copy the file again from where it was saved.",
    ),
    "checksums_off": (
        "It was written with `torch.serialization.set_crc32_options(False)`, or in the container of torch before 1.6.",
        "Nothing; `orz ckpt manifest` lets later changes be told.",
    ),
    "file_holes": (
        "A crash or a full disk left parts unwritten; they read as zeros. `rsync -S` makes holes of real zeros, too.",
        "Copy the file again; compare a space-saving copy with its source: `orz ckpt diff`.",
    ),
    "index_invalid": ("The save was cut off, or the index was edited.", "Save the model again."),
    "index_differs": ("Shards of two saves are mixed, or the index was edited.", "Save the model again."),
    "shard_orphan": (
        "An earlier save with another number of shards was left in the folder.",
        "Remove the file.",
    ),
    "total_size_differs": ("The index was edited, or its writer counted otherwise.", "Save the model again."),
    "no_weights": (
        "Another rank or node wrote the weights, or an empty state dict was saved; or this is configuration alone.",
        "`orz ckpt locate`; with ZeRO-3, gather the weights when saving or merge the shards.",
    ),
    "role_missing": (
        "Its save goes on, was cut off, or wrote elsewhere; Open-Reasoner-Zero leaves the critic out of its last save.",
        "Right for the last step of Open-Reasoner-Zero; else `orz ckpt locate`, or use an earlier step.",
    ),
    "config_missing": ("The folder was made by hand, or the save was cut off.", "Copy that of the base model."),
    "config_invalid": ("A file of settings was cut off, edited, or is of another model.", "Restore it."),
    "settings_invalid": ("It was cut off when it was written or copied.", "Copy it from the base model."),
    "tensor_missing": (
        "Frozen or tied weights were left out, or the configuration is of another model.",
        "Save again; take missing frozen weights from the base model.",
    ),
    "tensor_unexpected": ("The model has parts of its own, or the configuration is of another one.", "Look at it."),
    "shape_differs": (
        "Padding or copies of ranks were merged as if they were rows, or the configuration is of another model.",
        "Merge the shards again with `orz ckpt merge`, or restore config.json.",
    ),
    "shapes_not_checked": ("The architecture is not one that this package knows.", "Nothing."),
    "dtype_differs": (
        "fp32 weights were saved beside a configuration for bf16: twice the size that is expected. Or the reverse.",
        "`orz ckpt merge --dtype`, if a loader is not to cast them.",
    ),
    "tie_differs": (
        "Head and embedding were trained apart, and the configuration still ties them.",
        "Set `tie_word_embeddings` to false.",
    ),
    "vocabulary_small": (
        "Tokens were added to the tokenizer and not to the model, or the tokenizer is of another model.",
        "Take the tokenizer that belongs to the model, or resize the embedding.",
    ),
    "value_head": ("It is a critic.", "Nothing."),
    "no_tokenizer": ("It was not saved with the weights.", "Copy it from the base model if a server is to load this."),
    "custom_code": ("The model came with Python files; loaders that trust remote code run them.", "Read them first."),
    "no_state": ("Only weights were saved, or `state/` was left out of a copy.", "Nothing, unless you want to resume."),
    "not_finite": (
        "Training diverged, or a 16-bit type overflowed.",
        "Use an older checkpoint; look at losses and gradient norms before this step.",
    ),
    "number_overflows": (
        "The model has a number beyond the range of the type: float16 ends at 65504, far below float32 and bfloat16.",
        "Write it in another type: `--dtype bfloat16`.",
    ),
    "all_zero": ("A layer was never trained or never filled.", "Right for a new layer; else save again."),
    "constant": (
        "A buffer was filled and nothing copied into it; a norm weight of zeros lets nothing through.",
        "Save again. Right for a norm that adds one to its weight (Gemma) and was never trained.",
    ),
    "outlier": (
        "A bit of an exponent flipped in memory, or one update went wrong. Looked for at `--level deep`.",
        "Compare with an older checkpoint: `orz ckpt diff`.",
    ),
    "all_zero_model": (
        "The writer saved buffers that nothing was copied into (DeepSpeed 0.16.0 merged such files).",
        "Save or merge again.",
    ),
    "numbers_not_checked": (
        (
            "The numbers are of a type of 4, 6 or 8 bits in which no NaN is looked for; or `--level sample` met a"
            " tensor with gaps between its numbers that lies in several parts."
        ),
        "Of a type, nothing; of gaps, `--level full` searches them.",
    ),
    "no_manifest": ("Another program saved it.", "`orz ckpt manifest PATH` lets later changes be told."),
    "sampled": ("`--level sample` reads a part.", "`--level full` reads every byte."),
    "unchanged": (
        "The learning rate was 0, everything was frozen, or another copy than the trained one was saved.",
        "Check learning rate, what is frozen, and which model is saved.",
    ),
    "not_compared": ("One of the two is not whole, or they are of different models.", "Verify both of them first."),
    "only_embeddings_changed": ("All other weights were frozen, or got no gradient.", "Check what is frozen."),
    "frozen_changed": ("The base is not the model that the training began with.", "Name the right base."),
    "names_differ": ("Another head, or another model.", "Right for a critic; else name the right base."),
    "step_unchanged": (
        "The learning rate was 0, or a stale copy of the weights was saved. Looked for at `--level deep` of a run.",
        "Check learning rate, what is frozen, and which copy is saved.",
    ),
    "drift_jumps": (
        "The training diverged, the learning rate jumped, or other weights were loaded in between.",
        "Look at losses and gradient norms between the two steps; use the earlier one.",
    ),
    "drift": ("`--level deep` compares each step of a run with the one before.", "Nothing."),
    "compared": ("`--against` was given.", "Nothing."),
    "copy_of_base": ("The folder was merged from those shards.", "Nothing: it is as it should be."),
    "rounded_base": (
        "The folder is a 16-bit copy of the fp32 weights that it is compared with.",
        "Nothing; if these are the weights before training, training changed nothing.",
    ),
    "change_rounds_away": (
        "The steps were smaller than the 16-bit numbers around the weights are apart.",
        "Check the learning rate; serve and compare the fp32 weights.",
    ),
    "numbers_not_compared": ("`--level quick` reads no numbers.", "`--level full` compares them, too."),
    "one_copy": (
        "Only DeepSpeed without ZeRO-3 (fp32 and 16-bit weights) and HSDP (the same shards of several ranks) save two.",
        "Nothing.",
    ),
    "newest_good": ("The newest checkpoint of a run is not good.", "Use the one that is named."),
    "latest_behind": (
        "A save is going on, or was cut off before it was named the latest.",
        "After the save, verify again; else verify the newer one by its own path or tag.",
    ),
    "in_flight": (
        "A save or a collection is going on, or was cut off.",
        "Wait; the next save cleans up, and the same `orz ckpt collect` goes on.",
    ),
    "path_ephemeral": ("The folder is on tmpfs or in a container's own layer.", "Copy it to a disk that stays."),
    "no_room_for_next": (
        "The disk is nearly full: the next save would be cut off.",
        "Free space; `orz ckpt prune RUN --keep-last 2` lists the old steps that could go.",
    ),
    "prune_not_good": ("It was damaged after its save, or was saved broken.", "See what `orz ckpt verify` says of it."),
    "prune_nothing_good": (
        "Every committed step has an error; deleting would leave less to save what can be saved.",
        "`orz ckpt verify RUN`",
    ),
    "prune_no_such_step": ("`--keep` names a step that this run does not have.", "Check the number."),
    "prune_failed": ("No permission, or a read-only disk.", "Check the permissions, then prune again."),
    "pruned": ("`orz ckpt prune --yes` deleted it.", "Nothing."),
}
