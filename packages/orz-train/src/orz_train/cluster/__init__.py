"""Ray: which process runs where, and what happens when one dies. The only `import ray`.

Read `run.py` for the whole, `group.py` for how workers are called, `watch.py` for what happens when one fails.
"""
