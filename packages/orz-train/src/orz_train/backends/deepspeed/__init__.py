"""Training over several processes: DeepSpeed ZeRO. The only `import deepspeed`.

Plain classes, an instance in each process (rank); all ranks call the same methods in the same order, and none
knows who called. Read `engine.py` for how a step runs, `models.py` for what is computed.
"""
