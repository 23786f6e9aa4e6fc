"""Chat through `AtomaSDK`, whole and as it comes.

Start `atoma-crypto node` first, or give another URL and model:

    python examples/atoma_sdk.py [URL [MODEL]]

The token is taken from ATOMASDK_BEARER_AUTH.
"""

import os
import sys

from atoma_crypto.sdk import APIError, AtomaSDK, BackoffStrategy, RetryConfig

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
model = sys.argv[2] if len(sys.argv) > 2 else "eliza"
token = os.environ.get("ATOMASDK_BEARER_AUTH", "any")
retries = RetryConfig("backoff", BackoffStrategy(initial_interval=200, max_elapsed_time=10_000))
messages = [{"role": "user", "content": "I need a holiday."}]

with AtomaSDK(token, server_url=url, retry_config=retries) as sdk:
    try:
        answer = sdk.confidential_chat.create(messages=messages, model=model, max_tokens=64)
    except APIError as error:
        sys.exit(f"{url} says: {error}")
    print(answer.choices[0].message.content)

    # The answer goes back as it came.
    more = [*messages, answer.choices[0].message, {"role": "user", "content": "My mother says so too."}]
    with sdk.confidential_chat.create_stream(messages=more, model=model) as stream:
        for chunk in stream:
            for choice in chunk.choices:
                print(choice.delta.content or "", end="", flush=True)
            if chunk.usage:
                print(f"\n{chunk.usage.completion_tokens} tokens")
