"""Generation with vLLM, on CPUs and GPUs. The only `import vllm`, beside the transfer of weights to it."""
