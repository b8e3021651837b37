"""Sends events at a given rate. JSON lines in: {"rate", "seconds"}; JSON lines out: how many were sent.

To Muster as the engine does it: rows in blocks, in transactions, with the bell. To nchan by HTTP on one
connection, a few requests ahead of the answers.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

TICK = 0.005
PADDING = "x" * 40


def mark() -> str:
    """What a crowd looks for in an event."""
    return f"t={time.time():.6f};{PADDING}"


def to_muster() -> Callable[[int], None]:
    """Records events of a session."""
    import django

    django.setup()
    from events_app.services import record_event, recording

    session = "00000000-0000-0000-0000-000000000007"

    def send(count: int) -> None:
        with recording():
            for _ in range(count):
                record_event(
                    name="session_started",
                    area="session",
                    subject_id=session,
                    subject_name="bench",
                    access_key="BENCH",
                    data={"sessionId": session, "sessionName": "bench", "reason": mark()},
                )

    return send


def to_nchan(port: int) -> Callable[[int], None]:
    """Posts events of the same size."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = {
        "reason": "", "sessionName": "bench", "ownerAccessKey": "BENCH",
        "sessionId": "00000000-0000-0000-0000-000000000007", "exitCode": None,
    }  # fmt: skip

    def send(count: int) -> None:
        requests = []
        for _ in range(count):
            body = json.dumps({**data, "reason": mark()}).encode()
            head = "POST /pub HTTP/1.1\r\nHost: bench\r\nX-EventSource-Event: session_started\r\n"
            requests.append(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        connection.sendall(b"".join(requests))
        answered = 0
        while answered < count:
            got = connection.recv(1 << 16)
            if not got:
                raise RuntimeError("nchan closed the publisher's connection")
            answered += got.count(b"HTTP/1.1 20")

    return send


def run(send: Callable[[int], None], rate: float, seconds: float) -> dict[str, Any]:
    """Send `rate` events a second for so long, in ticks; a late tick sends more."""
    began = time.monotonic()
    total, sent = round(rate * seconds), 0
    while sent < total:
        due = min(total, int((time.monotonic() - began) * rate) + 1)
        if due > sent:
            send(due - sent)
            sent = due
        # At low rates wait for the next event, at high ones for the next tick.
        left = began + sent / rate - time.monotonic()
        time.sleep(max(left, TICK if sent < total else 0))
    return {"sent": sent, "seconds": time.monotonic() - began}


def main() -> None:
    """`muster`, or `nchan PORT`."""
    send = to_muster() if sys.argv[1] == "muster" else to_nchan(int(sys.argv[2]))
    for line in sys.stdin:
        try:
            answer = run(send, **json.loads(line))
        except (OSError, RuntimeError) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
