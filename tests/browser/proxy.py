"""A wire that can be cut: a TCP proxy in a thread, before a site."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Wire:
    """Hands bytes on between a port of its own and the site's, unless it is cut."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._cut = self._over = False
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """All connections end, new ones end at once."""
        self._cut = True
        for pair in list(self._pairs):
            _end(*pair)

    def mend(self) -> None:
        """From now on it hands on again."""
        self._cut = False

    def close(self) -> None:
        """For good."""
        self._over = True
        self.cut()
        self._door.close()

    def _accept(self) -> None:
        while not self._over:
            try:
                near, _ = self._door.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        if self._cut:
            near.close()
            return
        try:
            far = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            near.close()
            return
        pair = (near, far)
        self._pairs.add(pair)
        with contextlib.suppress(OSError, ValueError):
            while not self._cut:
                for side in select.select(pair, [], [], 0.2)[0]:
                    read = side.recv(65536)
                    if not read:
                        raise OSError
                    (far if side is near else near).sendall(read)
        self._pairs.discard(pair)
        _end(*pair)


def _end(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@contextmanager
def wire(target: int) -> Iterator[Wire]:
    """To this port of 127.0.0.1."""
    made = Wire(target)
    try:
        yield made
    finally:
        made.close()
