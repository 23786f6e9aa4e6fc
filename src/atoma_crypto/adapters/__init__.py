"""Ways into what people already run. Each needs its extra.

`httpx` and `httpx2` are for clients, `asgi` and `redis` for servers.
"""
