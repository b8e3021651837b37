"""What the tests of BOS's doors share: a client with a key, rows brought to where a test needs them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.test import Client
from django.utils import timezone

from accounts_app.models import User
from sessions_app import setup, work
from sessions_app.flow import Move
from sessions_app.models import BootSession, BootToken, Node, NodePhase
from sessions_app.services import issue_boot_token
from sessions_app.states import Category, Step
from sessions_app.work import Done
from tests.factories import make_key, make_session

V2, V1 = "/apis/bos/v2", "/apis/bos/v1"
PROBLEM = "application/problem+json"


class BosClient:
    """Asks as one user; bodies are JSON."""

    def __init__(self, user: User | None, **headers: str) -> None:
        self.client = Client(raise_request_exception=False)
        self.headers = dict(headers)
        if user is not None:
            self.headers["Authorization"] = f"Bearer {make_key(user).token}"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The answer, whatever its status."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = headers.pop("content_type", "application/json")
        return self.client.generic(
            method, path, data, content_type=kind, headers={**self.headers, **_named(headers)}
        )

    def get(self, path: str, **headers: str) -> Any:
        """The document of a GET that must succeed."""
        answer = self.ask("GET", path, **headers)
        assert answer.status_code == 200, (answer.status_code, answer.content)
        return answer.json()


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def is_problem(answer: Any, status: int, title: str, detail: str | None = None) -> None:
    """Assert that this is exactly the original's error document."""
    assert answer.status_code == status, (answer.status_code, answer.content)
    assert answer["Content-Type"] == PROBLEM
    document = answer.json()
    assert set(document) == {"detail", "status", "title", "type"}
    assert (document["status"], document["title"], document["type"]) == (status, title, "about:blank")
    if detail is not None:
        assert document["detail"] == detail


def begin(template: Any, operation: str = "reboot", **more: Any) -> BootSession:
    """A session whose nodes are its own and due."""
    session = make_session(template, operation, **more)
    assert setup.set_up_session(session.pk)
    session.refresh_from_db()
    return session


def move(
    session: BootSession, phase: str, *nodes: str, to: str, step: str = Step.NONE, error: str = ""
) -> None:
    """Bring nodes of one phase to a category and step, as a worker's results would."""
    rows = NodePhase.objects.filter(session=session, phase__name=phase, node__name__in=nodes)
    rows.update(due_at=timezone.now())
    others = NodePhase.objects.exclude(pk__in=rows).filter(due_at__isnull=False)
    kept = dict(others.values_list("pk", "due_at"))
    others.update(due_at=None)
    wait = 3600.0 if to == Category.IN_PROGRESS else None
    found = work.claim_due(most=10_000, retry_policy=3)
    assert {item.node for item in found} == set(nodes)
    assert work.write([Done(item, Move(to, step, wait=wait, error=error)) for item in found]) == len(nodes)
    for pk, due in kept.items():
        NodePhase.objects.filter(pk=pk).update(due_at=due)


def token_for(node: Node) -> str:
    """A token as the node finds it in its boot script."""
    node.refresh_from_db()
    return issue_boot_token(node=node, artifacts=node.desired)


def stored_token(text: str) -> BootToken:
    """Its row."""
    found = BootToken.objects.find(text)
    assert found is not None
    return found
