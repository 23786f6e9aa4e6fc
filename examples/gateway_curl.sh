#!/bin/sh
# Chat with a confidential node by curl alone, whole and as it comes: the gateway seals and opens.
#
# Start a node and a gateway first, or give another URL and model:
#
#     atoma-crypto node &
#     atoma-crypto gateway --nodes http://127.0.0.1:8080 &
#     sh examples/gateway_curl.sh [URL [MODEL]]
#
# The token is taken from TOKEN.
set -eu

url=${1:-http://127.0.0.1:8081/v1}
model=${2:-eliza}

ask() {
    curl --fail-with-body --silent --show-error --no-buffer "$url/chat/completions" \
        --header "Content-Type: application/json" --header "Authorization: Bearer ${TOKEN:-any}" \
        --data "{\"model\":\"$model\",\"stream\":$1,\"messages\":[{\"role\":\"user\",\"content\":\"I need a holiday.\"}]}"
}

ask false
echo
# A stream that was cut is an error to curl (18), so this ends with 0 only where the answer is whole.
ask true
