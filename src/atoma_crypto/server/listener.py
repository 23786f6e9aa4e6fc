"""The socket that a node listens on."""

from __future__ import annotations

import os
import socket


def listen(host: str, port: int) -> socket.socket:
    """Listen on TCP at `host`, an IPv6 address if it has a colon, and `port`, 0 for a free one. Raises OSError.

    As `socket.create_server`, but of the protocol TCP by name: what it accepts inherits that, and asyncio turns
    Nagle's delay off for nothing else. With it each answer of two writes would wait for the client's late ACK.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere it would let two programs have one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except BaseException:
        listener.close()
        raise
    return listener
