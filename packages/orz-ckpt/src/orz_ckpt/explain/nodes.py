"""Findings about nodes, their disks, and what was brought from one to another: cause and remedy of each."""

from __future__ import annotations

from typing import Final

NODES: Final = {
    "weights_elsewhere": (
        "Rank 0, or some ranks, ran on another node and wrote to its own disk under the same path.",
        "`orz ckpt locate RUN --ray`, then `orz ckpt collect`.",
    ),
    "node_unreachable": ("The node is down, or the network between is.", "Ask again when it answers."),
    "node_lacks_orz": ("orz-ckpt is not installed in the Python that answers there.", "Install it on every node."),
    "node_failed": ("An error on that node; the message has it.", "See the message."),
    "node_version_differs": ("Nodes were installed at different times.", "Install one version on every node."),
    "users_differ": ("Containers or ssh use different users.", "Use one user, or check that all may read."),
    "single_node": ("Neither `--ray` nor `--hosts` was given, or the cluster has one node.", "Give one of them."),
    "path_relative": (
        "A relative path means the working directory of each process: on other nodes that of `ray start`.",
        "Give an absolute path. Where one node alone was asked, this is a warning.",
    ),
    "path_not_folder": ("A file, or a link to nothing, has that name.", "Move it away, or choose another path."),
    "storage_not_shared": (
        "The path is on a disk of each node's own, or a mount is missing on one.",
        "Mount the shared disk on every node, or save with `checkpoint.storage: per_node`.",
    ),
    "storage_shared": ("The path is shared although `per_node` was expected.", "Expect `shared`."),
    "storage_in_ray_session": ("The working directory was a runtime environment of Ray.", "Give an absolute path."),
    "storage_ephemeral": ("The path is on tmpfs or in a container's layer.", "Choose a disk that stays."),
    "storage_readonly": ("The mount is read-only, or became so after an error.", "Mount it writable."),
    "storage_not_writable": ("Permissions, or root_squash of NFS.", "Give this user the folder."),
    "storage_misbehaves": ("rename, fsync or allocation does not do what POSIX says.", "Use another file system."),
    "storage_slow_to_show": ("NFS caches attributes.", "Shorten `actimeo`, or wait between save and read."),
    "storage_bucket": ("An object store is mounted through FUSE.", "Save to a disk, then `orz ckpt copy`."),
    "low_space": ("The disk or the quota is nearly full.", "Free space, or save elsewhere."),
    "space_unknown": ("The file system does not say, or the probe failed.", "Look with `df`."),
    "low_inodes": ("Too many small files.", "Remove files that nobody needs."),
    "clock_differs": ("No time server is followed.", "Let all nodes follow one."),
    "nothing_located": ("The run saved nothing, or where it is was not looked at.", "Name more roots."),
    "scan_cut_short": ("The search has limits of time and depth.", "Name a folder nearer to the weights."),
    "pieces_incomplete": (
        "A node that holds the rest was not asked, its disk is lost, or a file there is cut off: the message says so.",
        "Ask every node; where a file is cut off on the only node that has it, take an older step.",
    ),
    "piece_in_ray_session": ("A relative path in a runtime environment of Ray.", "Copy the weights away now."),
    "saves_mixed": ("Two attempts saved the same step.", "Collect one of them."),
    "same_name": (
        "Folders of Ray's processes and home directories are looked at, too; another run has the same name there.",
        "Nothing; or name that folder.",
    ),
    "collect_conflict": ("Nodes hold different files under one name.", "See which one is of the save."),
    "collect_differs": ("The network or a disk changed bytes, or a source changed meanwhile.", "Collect again."),
    "collect_left": ("Files lie beside the save that it does not name.", "Nothing."),
    "verified_apart": (
        "A checkpoint lies on several disks. Each file was checked by itself; names, steps and copies were compared.",
        "`orz ckpt collect`, then `orz ckpt verify`, to see how shards fit together.",
    ),
    "apart_not_compared": (
        "Nothing on some node counts steps or names the files of all ranks, or copies on several nodes were not read.",
        "`--level full`; or `orz ckpt collect`, then `orz ckpt verify`, which compares all that lies on one disk.",
    ),
    "collected": ("`orz ckpt collect` brought it together.", "Nothing."),
}
