"""The server's half over HTTP: a node in front of any OpenAI-compatible service (extra `server`).

`create_app` of `atoma_crypto.server.node` makes the ASGI application, `atoma_crypto.server.model`
says what may stand behind it, and `atoma-crypto node` runs it.
"""
