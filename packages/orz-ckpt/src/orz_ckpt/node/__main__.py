"""Answer one request on standard input; see `orz_ckpt.node.agent`."""

from __future__ import annotations

import sys

from orz_ckpt.node.agent import serve

if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
