"""The sample's two services, with Python's standard library alone.

`python server.py words` counts words. `python server.py entry` takes requests, asks `words` over the
workflow's data stream, and answers in JSON.
"""

import json
import os
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = os.environ.get("MUSTER_SERVICE_WORDS", "")


class Handler(BaseHTTPRequestHandler):
    """GET /healthz says that it is ready; POST works on a text."""

    def do_GET(self):
        """Ready, once this is answered at all."""
        self.answer(200 if self.path == "/healthz" else 404, {"service": sys.argv[1], "pid": os.getpid()})

    def do_POST(self):
        """Work on the body."""
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if sys.argv[1] == "words":
            self.answer(200, {"words": len(text.split())})
            return
        # Always http: the address comes from our own environment.
        request = urllib.request.Request(f"{WORDS}/count", data=text or b" ", method="POST")  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            counted = json.load(response)
        version = os.environ.get("SAMPLE_VERSION", "1")
        self.answer(200, {**counted, "characters": len(text.decode()), "version": version})

    def answer(self, status, value):
        """One JSON answer."""
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *arguments):
        """To the replica's log, in one line; probes are left out."""
        if self.path != "/healthz":
            sys.stdout.write(f"{self.command} {self.path} {arguments[1]}\n")


class Server(ThreadingHTTPServer):
    """With room for many callers at once: the default queue of 5 makes the sixth wait a second."""

    request_queue_size = 128


if __name__ == "__main__":
    Server((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
