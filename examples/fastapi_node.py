"""A FastAPI application that serves OpenAI's chat, and one line that makes a confidential node of it.

pip install 'atoma-crypto[asgi]' fastapi uvicorn
python examples/fastapi_node.py 8000
"""

import json
import sys
from collections.abc import AsyncIterator

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse

from atoma_crypto.adapters.asgi import ConfidentialMiddleware

app = FastAPI()
app.add_middleware(ConfidentialMiddleware)  # this line


@app.post("/v1/chat/completions", response_model=None)
async def chat(request: Request) -> Response:
    """Say back what was said last, word by word if it is to be streamed."""
    asked = await request.json()
    text = asked["messages"][-1]["content"]
    head = {"id": "chatcmpl-1", "created": 0, "model": asked["model"]}
    if not asked.get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        answer = head | {"object": "chat.completion", "choices": [choice], "usage": usage}
        return Response(json.dumps(answer), media_type="application/json")

    async def chunks() -> AsyncIterator[str]:
        for word in text.split(" "):
            choice = {"index": 0, "delta": {"role": "assistant", "content": f"{word} "}, "finish_reason": None}
            yield f"data: {json.dumps(head | {'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"
        choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
        yield f"data: {json.dumps(head | {'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(chunks(), media_type="text/event-stream")


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), timeout_graceful_shutdown=30)
