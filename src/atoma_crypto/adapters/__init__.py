"""Ways into what people already run: `httpx` and `httpx2` for clients, `asgi` for servers. Each needs its extra."""
