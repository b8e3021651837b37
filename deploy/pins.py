"""`python -m deploy.pins`: is any pinned package withdrawn, or known to have a hole?

Withdrawn releases are asked of the package index that pip is configured with (PEP 691, `yanked`); known
holes of pip-audit, where its database can be reached. Says what could not be asked. Exit code 1 where there
is something to mend.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator

import requests

from deploy.local.environment import PROJECT

PIN = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;#]+)")
FILES = ("requirements.txt", "tests/requirements.txt")
KIND = "application/vnd.pypi.simple.v1+json"
PATIENCE = 120  # seconds for pip-audit


def pins() -> Iterator[tuple[str, str]]:
    """Name and version of each pinned package."""
    for name in FILES:
        for line in (PROJECT / name).read_text().splitlines():
            if match := PIN.match(line):
                yield re.sub(r"[-_.]+", "-", match[1]).lower(), match[2]


def index() -> str:
    """The address of pip's index."""
    found = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return (found.stdout.strip() or "https://pypi.org/simple").rstrip("/")


def is_withdrawn(session: requests.Session, address: str, name: str, version: str) -> bool | None:
    """Whether every file of a release was yanked; None where the index doesn't say."""
    try:
        answer = session.get(f"{address}/{name}/", headers={"Accept": KIND}, timeout=15)
        answer.raise_for_status()
        files = answer.json()["files"]
    except (requests.RequestException, ValueError, KeyError):
        return None
    # `name-version.tar.gz` and `name-version-py3-none-any.whl`; names are written in several ways.
    part = re.compile(rf"-{re.escape(version)}(?:-|\.tar|\.zip)")
    words = [bool(file.get("yanked")) for file in files if part.search(file["filename"])]
    return all(words) if words else None


def withdrawn() -> list[str]:
    """Pins that were withdrawn."""
    with requests.Session() as session:
        address = index()
        found = {
            f"{name}=={version}": is_withdrawn(session, address, name, version) for name, version in pins()
        }
    unknown = [pin for pin, answer in found.items() if answer is None]
    print(f"Withdrawn releases: {len(found) - len(unknown)} of {len(found)} pins were looked up.")
    if unknown:
        print(f"Not checked, the index does not say: {', '.join(unknown)}")
    return [pin for pin, answer in found.items() if answer]


def holed() -> list[str]:
    """Pins with known holes; nothing where pip-audit's database can't be reached."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--progress-spinner", "off",
               "--format", "json", "--timeout", "10", "-r", str(PROJECT / FILES[0])]  # fmt: skip
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        rows = [row for row in json.loads(ran.stdout)["dependencies"] if "vulns" in row]  # not: skipped
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        rows = []
    if not rows:
        print("Known holes: NOT CHECKED, pip-audit's database can't be reached from here.")
        return []
    print(f"Known holes: {len(rows)} pins of {FILES[0]} were looked up.")
    return [f"{row['name']}=={row['version']}: {hole['id']}" for row in rows for hole in row["vulns"]]


def main() -> int:
    """Look, and say."""
    bad = [f"{pin} was withdrawn" for pin in withdrawn()] + holed()
    for line in bad:
        print(line)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
