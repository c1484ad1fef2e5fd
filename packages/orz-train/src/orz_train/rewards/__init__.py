"""Rewards: functions of a prompt and a rollout, and the pool of processes that runs them. Imports no torch."""
