"""What one machine finds out about itself: plain functions, run here, over ssh or on each node of a Ray cluster.

None of them knows of another node. `agent` calls them by name with JSON in and JSON out.
"""
