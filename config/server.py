"""The web process: Daphne, with bounds on what a connection may take before anybody knows who it is.

Daphne reads a request to its end before it looks at it, for as long as that takes and however long it is.
Here a request must have arrived within MUSTER_REQUEST_SECONDS (whoever dribbles is hung up on), and one whose
body is longer than any door takes is answered at once: the application gets the headers and no body, and each
door refuses by `Content-Length` in its own words. `python -m config.server` takes Daphne's options.
"""

from __future__ import annotations

from typing import Any

from daphne import server  # first: it chooses Twisted's reactor
from daphne.cli import CommandLineInterface
from daphne.http_protocol import HTTPFactory, WebRequest
from django.conf import settings
from twisted.web.http import HTTPChannel

LINGER = 2.0  # seconds in which the rest of a refused body is thrown away, so that the answer is read


class TooLong(Exception):
    """A body without a length has grown beyond what any door takes."""


class Request(WebRequest):
    """A request whose body is counted as it comes."""

    received = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        # Django reads forms; Twisted would do so, too, and everybody would wait meanwhile.
        super().__init__(*args, parsePOSTFormSubmission=False, **options)

    def handleContentChunk(self, data: bytes) -> None:
        self.received += len(data)
        if self.received > self.channel.longest:
            raise TooLong
        super().handleContentChunk(data)

    def process(self) -> Any:
        headers = self.requestHeaders
        # Whoever may say where the application lies could walk around a proxy's rules for paths; and there
        # are no web sockets here.
        headers.removeHeader(b"Daphne-Root-Path")
        headers.removeHeader(b"Upgrade")
        if headers.hasHeader(b"Transfer-Encoding"):
            headers.removeHeader(b"Transfer-Encoding")
            headers.setRawHeaders(b"Content-Length", [b"%d" % self.received])  # doors bound bodies by it
        return super().process()


class Channel(HTTPChannel):
    """A connection that must send each request in time and in bounds."""

    requestFactory = Request
    longest = 0  # bytes of a body
    seconds = 0.0  # for one request, headers and body
    _deadline: Any = None
    _refusing = False

    def dataReceived(self, data: bytes) -> None:
        if self._deadline is None and not self._handlingRequest:
            self._deadline = self.callLater(self.seconds, self._too_slow)
        super().dataReceived(data)

    def _too_slow(self) -> None:
        self._deadline = None
        self.timeoutConnection()

    def allHeadersReceived(self) -> None:
        if self.length is not None and self.length > self.longest:
            self.requests[-1].requestHeaders.removeHeader(b"Expect")
            self.length = 0
            self._refuse()
        super().allHeadersReceived()
        if self._refusing:
            self._hang_up_afterwards()

    def rawDataReceived(self, data: bytes) -> None:
        if self._refusing:
            return
        try:
            super().rawDataReceived(data)
        except TooLong:
            self._refuse()
            self._hang_up_afterwards()
            self.requests[-1].content.seek(0)
            self.requests[-1].content.truncate()
            self.allContentReceived()

    def _refuse(self) -> None:
        self._refusing = True

    def _hang_up_afterwards(self) -> None:
        self.persistent = 0
        self.requests[-1].responseHeaders.setRawHeaders(b"Connection", [b"close"])

    def allContentReceived(self) -> None:
        self._forget_deadline()
        super().allContentReceived()

    def loseConnection(self) -> None:
        """Closing while data is under way would take the answer back: say that it is over, and wait."""
        transport: Any = self.transport
        if self._refusing and self._deadline is None and hasattr(transport, "loseWriteConnection"):
            transport.loseWriteConnection()
            self._deadline = self.callLater(LINGER, transport.abortConnection)
        else:
            super().loseConnection()

    def connectionLost(self, *reason: Any) -> None:
        self._forget_deadline()
        super().connectionLost(*reason)

    def _forget_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None


class Factory(HTTPFactory):
    """Makes such connections; reads the settings, for now they are there."""

    protocol = Channel

    def buildProtocol(self, addr: Any) -> Any:
        channel = super().buildProtocol(addr)
        channel.requestFactory = Request
        channel.longest = max(settings.DATA_UPLOAD_MAX_MEMORY_SIZE, settings.MUSTER_RUN_BODY_BYTES)
        channel.seconds = float(settings.MUSTER_REQUEST_SECONDS)
        return channel


def main() -> None:
    """Daphne's command line."""
    server.HTTPFactory = Factory  # the only way in: its Server makes the factory by this name
    CommandLineInterface.entrypoint()


if __name__ == "__main__":
    main()
