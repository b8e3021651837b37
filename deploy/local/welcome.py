"""What the person at the terminal sees of a start: the wait, the address, the first session."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from deploy.emulated_fleet.fleet import load_fleet
from deploy.local.environment import PROJECT
from deploy.local.home import Home
from deploy.local.keep import die_with_parent

PATIENCE = 180.0  # seconds; a start takes four on an idle machine


def wait_until_ready(url: str) -> str:
    """Empty when /readyz says so; after PATIENCE, what was missing."""
    deadline = time.monotonic() + PATIENCE
    missing = "the web server does not answer"
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):  # noqa: S310  (our own address)
                return ""
        except urllib.error.HTTPError as error:
            missing = _missing(error.read())
        except OSError:
            missing = "the web server does not answer"
        time.sleep(0.4)
    return missing


def _missing(body: bytes) -> str:
    try:
        parts = json.loads(body)["parts"]
    except (ValueError, KeyError, TypeError):
        return "the web server answers with an error"
    return "not ready: " + ", ".join(name for name, ready in parts.items() if not ready)


def main() -> int:
    """Environment: MUSTER_HOME, MUSTER_URL, PORT. Exit code 1 ends the whole start."""
    home = Home(Path(os.environ["MUSTER_HOME"]))
    url = f"http://127.0.0.1:{os.environ['PORT']}"
    missing = wait_until_ready(url)
    if missing:
        print(
            f"Muster did not come up within {PATIENCE:.0f} s ({missing}); the logs are in {home.log}.",
            file=sys.stderr,
        )
        return 1
    print(f"Muster is ready at {url}", flush=True)
    print(
        f"User, password, keys: {home.credentials}; logs: {home.log}; Ctrl-C stops everything.",
        flush=True,
    )
    if load_fleet(home) is None:
        return 0
    # A session that fails is a result to look at, not a reason to stop the service.
    demo = [sys.executable, "manage.py", "demo"]
    subprocess.run(demo, cwd=PROJECT, preexec_fn=die_with_parent, check=False)
    sample = [sys.executable, "manage.py", "sample_workflow", "--wait", "60"]
    subprocess.run(sample, cwd=PROJECT, preexec_fn=die_with_parent, check=False)
    print(f"Muster goes on running at {url}; Ctrl-C stops it.", flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(0)
