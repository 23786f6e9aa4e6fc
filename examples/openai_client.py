"""Chat through the `openai` package, whole and as it comes, and let no server but the node read it.

Start `atoma-crypto node` first, or give another URL and model:

    python examples/openai_client.py [URL [MODEL]]

The token is taken from OPENAI_API_KEY. Before its version 3 the package stands on httpx: write `httpx` for `httpx2`.
"""

import os
import sys

import httpx2
from openai import OpenAI

import atoma_crypto as ac
from atoma_crypto.adapters.httpx2 import ConfidentialTransport

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
model = sys.argv[2] if len(sys.argv) > 2 else "eliza"
token = os.environ.get("OPENAI_API_KEY", "any")
messages = [{"role": "user", "content": "I need a holiday."}]

with OpenAI(
    base_url=f"{url}/v1",
    api_key=token,
    http_client=httpx2.Client(transport=ConfidentialTransport(), timeout=600),
) as client:
    answer = client.chat.completions.create(messages=messages, model=model)
    print(answer.choices[0].message.content)

    # The answer goes back as it came.
    messages += [answer.choices[0].message, {"role": "user", "content": "My mother says so too."}]
    try:
        for chunk in client.chat.completions.create(messages=messages, model=model, stream=True):
            for choice in chunk.choices:
                print(choice.delta.content or "", end="", flush=True)
        print()
    except ac.TruncatedStreamError as error:
        sys.exit(f"\ncut off: {error}")
