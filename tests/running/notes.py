"""An HTTP server that only takes notes, for those who talk to Muster."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


class Notes:
    """An HTTP server that stands for Muster and for the emulator: notes requests, answers as it was told."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, Any, str]] = []
        self.scripts: dict[str, str] = {}  # by MAC
        self.report_status = 200
        self.power: dict[str, str] = {}  # by path of the system
        notes = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                notes._note(self, None)
                notes._get(self)

            def do_PATCH(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                notes._note(self, body)
                notes._answer(self, notes.report_status, "{}")

            def log_message(self, *args: Any) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _note(self, handler: BaseHTTPRequestHandler, body: Any) -> None:
        token = handler.headers.get("Authorization", "")
        self.requests.append((handler.command, handler.path, body, token))

    def _get(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        if parts.path.startswith("/redfish"):
            self._answer(handler, 200, json.dumps({"PowerState": self.power.get(parts.path, "Off")}))
            return
        script = self.scripts.get(parts.query.removeprefix("mac=").replace("%3A", ":"))
        self._answer(handler, 200 if script else 404, script or "")

    @staticmethod
    def _answer(handler: BaseHTTPRequestHandler, status: int, text: str) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text.encode())

    def reports(self, xname: str) -> list[Any]:
        """Bodies of a node's reports."""
        path = f"/apis/bos/v2/components/{xname}"
        return [body for method, asked, body, _ in list(self.requests) if method == "PATCH" and asked == path]

    def fetched(self, mac: str) -> int:
        """How often a boot script was asked for."""
        return sum("bootscript" in path and path.endswith(mac) for _, path, _, _ in list(self.requests))
