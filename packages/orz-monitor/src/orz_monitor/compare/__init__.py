"""Runs side by side: aligned, and their differences in units of their own noise."""
