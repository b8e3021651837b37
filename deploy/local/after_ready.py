"""`python -m deploy.local.after_ready COMMAND...`: runs COMMAND once Muster is ready.

What nobody waits for at a start must not take its time from what everybody does: each process of Django
costs two seconds of a processor before it does anything. Outside of bin/up it starts at once: there the web
processes may be on another machine.
"""

from __future__ import annotations

import os
import sys
import time
import urllib.error
import urllib.request

PATIENCE = 120.0  # seconds; after that it starts anyway, and says what it misses by itself


def main() -> None:
    """Wait, then become the command."""
    url = f"http://127.0.0.1:{os.environ.get('PORT', '8000')}/readyz"
    deadline = time.monotonic() + PATIENCE
    while "MUSTER_SUPERVISOR" in os.environ and time.monotonic() < deadline and not answers(url):
        time.sleep(0.5)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606  (the Procfile's own words)


def answers(url: str) -> bool:
    """Whether /readyz says ready."""
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310  (our own address)
            return True
    except OSError:
        return False


if __name__ == "__main__":
    main()
