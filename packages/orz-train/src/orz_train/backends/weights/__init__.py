"""How weights get from the policy to the engines: in buckets, through vLLM's weight-transfer interface."""
