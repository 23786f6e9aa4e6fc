#!/bin/sh
# A confidential node of vLLM: its own server with our middleware before it, in the same process.
#
#     pip install vllm 'atoma-crypto[asgi]'
#     sh examples/vllm_node.sh [MODEL [PORT]]
#
# The key stays the same over restarts if it is made once, with `atoma-crypto keygen node.key`, and named in
# ATOMA_CRYPTO_KEY_FILE; without, one is made at start. ATOMA_CRYPTO_TOKEN is the bearer token that is accepted.
set -eu

exec vllm serve "${1:-Qwen/Qwen3-0.6B}" --port "${2:-8000}" \
  --middleware atoma_crypto.adapters.asgi.ConfidentialMiddleware
