"""How the commands that serve do it."""

from __future__ import annotations

import logging
import socket
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def serve(app: ASGIApp, listener: socket.socket, said: str, *, shutdown_seconds: int) -> None:
    """Say what is served, then serve until a signal; what is being answered then may go on for `shutdown_seconds`."""
    import uvicorn  # noqa: PLC0415 - the extra may be missing, and then main() says so

    # In one piece, so that who waits for the first line has all of them.
    sys.stdout.write(said)
    sys.stdout.flush()
    config = uvicorn.Config(
        app,
        log_config=_LOGGING,
        access_log=False,  # requests are not logged: they say who asks when and how much
        ws="none",
        timeout_graceful_shutdown=shutdown_seconds,
    )
    uvicorn.Server(config).run(sockets=[listener])


def url_of(listener: socket.socket) -> str:
    """Where it listens."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _NoAborted(logging.Filter):
    """Drops how a stream's end was forced: the server's traceback of it says nothing that is new."""

    def filter(self, record: logging.LogRecord) -> bool:
        from atoma_crypto.server._reply import StreamAbortedError  # noqa: PLC0415 - needs the extra, as serve() does

        return not (record.exc_info and record.exc_info[0] is StreamAbortedError)


_LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "filters": {"no_aborted": {"()": _NoAborted}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["no_aborted"]}},
    "loggers": {
        name: {"handlers": ["stderr"], "level": "WARNING", "propagate": False}
        for name in ("uvicorn", "atoma_crypto.server")
    },
}
