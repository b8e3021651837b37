"""The matrix against a running Muster, over real HTTP: `python -m tests.accounts.live HOME [ROLE …]`.

HOME is that of `bin/up`, which must be running; use one that may be thrown away. People of each role and
things of two tenants are made in its database, then every path × method × role × own or another tenant's
thing is asked at its address, as in test_matrix. What was changed is not taken back, so each request that
may change something gets things of its own. Exit code 1 where an answer is not as declared.
"""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass
from itertools import count
from pathlib import Path as File
from typing import Any

import requests

PASSWORD = "correct horse battery staple"
# The running processes work meanwhile: what was to be changed may be over already, or not be due.
MEANWHILE = {409, 503}
THERE_ALREADY = b"exists already"  # made by who asked before, of another role


@dataclass
class Answer:
    """As test_matrix knows answers."""

    status_code: int
    headers: Any
    content: bytes

    def __getitem__(self, name: str) -> str:
        return self.headers[name]


class Person:
    """Somebody with a browser."""

    def __init__(self, url: str, name: str, known: bool) -> None:
        self.url, self.name, self.known = url, name, known
        self.sign_in()

    def sign_in(self) -> None:
        """A new login, and the token that goes with its cookies."""
        self.session = requests.Session()
        if self.known:
            body = {"username": self.name, "password": PASSWORD}
            answer = self.session.post(f"{self.url}/server/login", json=body, timeout=60)
            assert answer.json()["authenticated"], answer.text
        self.session.get(f"{self.url}/login", timeout=60)
        self.session.headers["X-CSRFToken"] = self.session.cookies.get("csrftoken", "")

    def ask(self, method: str, place: str, text: str, headers: dict[str, str]) -> Answer:
        """One request; a stream's head is its answer."""
        with self.session.request(
            method, self.url + place, data=text.encode(), headers=headers, timeout=120,
            allow_redirects=False, stream=True,
        ) as answer:  # fmt: skip
            stream = answer.headers.get("Content-Type", "").startswith("text/event-stream")
            return Answer(answer.status_code, answer.headers, b"" if stream else answer.content)


def enter(home: File) -> str:
    """Become a process of that Muster's; its address."""
    for name, value in re.findall(r"export (\w+)='([^']*)'", (home / "run" / "env").read_text()):
        os.environ[name] = value
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    import django

    django.setup()
    return json.loads((home / "credentials.json").read_text())["url"]


def main() -> int:
    """Ask everything; how many answers were wrong."""
    url = enter(File(sys.argv[1]))
    from accounts_app.models import User
    from sessions_app.models import Node
    from tests.accounts.judging import FOREIGN, OWN, complaint, filled, tenanted
    from tests.accounts.matrix import METHODS, TABLE, Way
    from tests.accounts.world import ROLES, make_people, make_things
    from tests.factories import make_domain

    domain = make_domain(OWN)
    if not User.objects.filter(username="sue").exists():
        make_people(domain)
    numbers = count(1000 + Node.objects.filter(name__startswith="x").count())

    def things(whose: str) -> dict[str, str]:
        number = next(numbers)
        return make_things(whose, number, f"-{number}")

    asked, wrong = 0, []
    for who in sys.argv[2:] or ROLES:
        person = Person(url, who, ROLES[who] is not None)
        kept = {OWN: things(OWN), FOREIGN: things(FOREIGN)}
        for path in TABLE:
            for method in METHODS:
                for whose in (OWN, FOREIGN) if "<" in path.path else (OWN,):
                    way = path.ways.get(method)
                    names = kept[whose]
                    body = filled(json.dumps(way.body), names) if way and way.body is not None else ""
                    headers = {"Content-Type": "application/json"}
                    if path.page:
                        fields = json.loads(body) if body else {}
                        body = "&".join(f"{name}={value}" for name, value in fields.items())
                        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html"}
                    elif who == "sue" and tenanted(path.path):
                        headers["Cray-Tenant-Name"] = names["domain"]
                    answer = person.ask(method, filled(path.path, names), body, headers)
                    asked += 1
                    found = complaint(path, method, who, whose, answer)
                    excused = answer.status_code in MEANWHILE or THERE_ALREADY in answer.content
                    if found and not (isinstance(way, Way) and excused):
                        wrong.append(f"{who}: {method} {path.path} ({whose}): {found}")
                        print(wrong[-1], flush=True)
                    if method != "GET" and answer.status_code < 400:
                        kept[whose] = things(whose)
                    if "log" in path.path and method != "GET":
                        person.sign_in()
        print(f"{who}: {asked} requests so far, {len(wrong)} wrong answers", flush=True)
    return len(wrong)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
