"""What to do about shards that are missing or do not belong together: the same whoever wrote them."""

from __future__ import annotations

from typing import Final

COLLECT: Final = "they are probably on other nodes: `orz ckpt locate` finds them, `orz ckpt collect` brings them here"
ONE_SAVE: Final = "collect the files of one save; those of an older one were left behind or overwritten in part"
FETCH_RANK: Final = "it was copied or renamed: fetch the right file from the node of that rank"
OTHER_SHARDS: Final = "the shards are of different models or saves; look for the right ones with `orz ckpt locate`"
