"""A TCP proxy on loopback that records every byte which passes it: the router's place, taken for a look."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType

_READ_BYTES = 64 << 10


class Connection:
    """What passed on one connection so far, each direction by itself."""

    def __init__(self) -> None:
        self.up = bytearray()  # from the client
        self.down = bytearray()  # from the node


class RecordingProxy:
    """Forwards 127.0.0.1:`port` to the target until it is left; `connections` are in the order of arrival.

    A byte is recorded before it is forwarded: what a client has read, the record holds.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.connections: list[Connection] = []
        self._target = target
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, name="proxy")]

    def __enter__(self) -> RecordingProxy:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._closed = True
        # A connection of our own wakes accept() on every platform; closing a listener under it does not.
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
            self._threads[0].join()
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in (self._listener, *self._open):
            end.close()

    def recorded(self) -> bytes:
        """Return all that passed, in both directions."""
        return b"\n".join(bytes(part) for each in self.connections for part in (each.up, each.down))

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            with self._lock:
                if self._closed:
                    client.close()
                    return
            try:
                node = socket.create_connection(self._target, timeout=5)
            except OSError:
                client.close()
                continue
            node.settimeout(None)
            for end in (client, node):
                with contextlib.suppress(OSError):  # it has left already
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a delay of ours is not the router's
            connection = Connection()
            self.connections.append(connection)
            self._open += [client, node]
            for source, sink, record in ((client, node, connection.up), (node, client, connection.down)):
                thread = threading.Thread(target=_pump, args=(source, sink, record), name="proxy")
                self._threads.append(thread)
                thread.start()


def _pump(source: socket.socket, sink: socket.socket, record: bytearray) -> None:
    with contextlib.suppress(OSError):  # an end that resets its connection ends the other's too
        while data := source.recv(_READ_BYTES):
            record += data
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
