"""A fresh fake runtime, and rows to begin with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from accounts_app.models import User
from tests.factories import make_key, make_user
from workflows_app import services
from workflows_app.drivers.fake import FakeRuntime
from workflows_app.models import Gateway, Runtime, Workflow


@pytest.fixture(autouse=True)
def fake_world() -> Iterator[None]:
    """Nothing runs on any fake runtime."""
    FakeRuntime.forget_all()
    yield
    FakeRuntime.forget_all()


@pytest.fixture
def olga(db: None) -> User:
    """She administers."""
    return make_user("olga", "superadmin")


@pytest.fixture
def fake(db: None) -> Runtime:
    """A fake runtime, called `fake`."""
    return services.create_runtime(name="fake", kind="fake", settings={}, actor=None)


@pytest.fixture
def gateway(db: None, settings: Any) -> Gateway:
    """A gateway that counts as at work; nobody listens there."""
    settings.MUSTER_GATEWAY_SEEN_SECONDS = 3600
    return Gateway.objects.create(url="http://127.0.0.1:9")


def service(name: str = "entry", **values: Any) -> dict[str, Any]:
    """A service as the serializer leaves it; `fate`: what the fake runtime makes of it."""
    fate = values.pop("fate", None)
    if fate:
        values["annotations"] = {"fake/behaviour": fate, **values.get("annotations", {})}
    return {"name": name, "image": "example/image:1", "command": [], "replicas": 1, "port": 8080, **values}


@pytest.fixture
def make_workflow(olga: User, fake: Runtime):
    """`make_workflow(service(), mode="ASYNC")`: described, not published."""

    def make(*specs: dict[str, Any], **values: Any) -> Workflow:
        values = {"name": "sample", "services": list(specs) or [service()], **values}
        return services.create_workflow(actor=olga, runtime=values.pop("runtime", fake), **values)

    return make


@pytest.fixture
def key(olga: User) -> dict[str, str]:
    """Headers of olga's key, as a test client takes them."""
    return {"HTTP_X_API_KEY": make_key(olga).token}


def status_of(client: Any, workflow_id: str, headers: dict[str, str]) -> Any:
    """The answer of the documented status resource."""
    return client.get(f"/api/v1/runtime/workflow/{workflow_id}/action/status", **headers)
