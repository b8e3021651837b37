"""Production settings: Django's own deployment check, headers on every door, limits of bodies and queries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tests.base import PROJECT
from tests.factories import make_key, make_olga

DOORS = ("/login", "/", "/v2/version", "/v1/status", "/api/v1/me", "/api/v1/nodes/", "/healthz", "/nowhere")


def test_the_deployment_check_is_clean_with_https(tmp_path: Path):
    environment = {
        **os.environ,
        "MUSTER_HOME": str(tmp_path),
        "MUSTER_URL": "https://muster.example",
        "MUSTER_ALLOWED_HOSTS": "muster.example",
        "MUSTER_DATABASE_URL": f"sqlite:///{tmp_path}/check.sqlite3",
    }
    found = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr


@pytest.mark.django_db
@pytest.mark.parametrize("path", DOORS)
def test_every_door_tells_browsers_to_be_careful(path):
    answer = Client().get(path)
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["Referrer-Policy"] == "same-origin"
    assert "default-src 'none'" in answer["Content-Security-Policy"]
    assert "unsafe" not in answer["Content-Security-Policy"]


@pytest.mark.django_db
def test_the_login_cookie_is_out_of_scripts_reach_and_bound_to_the_site():
    make_olga()
    client = Client()
    client.post("/login", {"username": "olga", "password": "correct horse battery staple"})
    cookie = client.cookies["sessionid"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "path", ["/api/v1/sessions/", "/v2/sessions", "/v1/session", "/v1/tasks", "/server/login", "/login"]
)
def test_a_body_that_is_too_large_is_refused_at_every_door(settings: Any, path):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    token = make_key(make_olga()).token
    body = '{"name": "' + "x" * 2000 + '"}'
    client = Client(headers={"authorization": f"Bearer {token}"}, raise_request_exception=False)
    kind = "application/x-www-form-urlencoded" if path == "/login" else "application/json"
    assert client.post(path, body, content_type=kind).status_code in (400, 413)


@pytest.mark.django_db
def test_a_list_is_never_longer_than_its_limit():
    client = Client(headers={"authorization": f"Bearer {make_key(make_olga()).token}"})
    assert client.get("/api/v1/nodes/?limit=1000000").status_code == 200
    assert len(client.get("/api/v1/keys/?limit=1").json()["results"]) == 1
    assert client.get("/api/v1/nodes/?nmae=x").status_code == 400


@pytest.mark.django_db
@pytest.mark.parametrize(
    "path", ["/api/v1/sessions/", "/v2/sessions", "/v1/tasks", "/sessions/start", "/logout"]
)
def test_a_cookie_alone_changes_nothing(path):
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_olga())
    assert client.post(path, "{}", content_type="application/json").status_code == 403
    assert client.get("/api/v1/me").status_code == 200
