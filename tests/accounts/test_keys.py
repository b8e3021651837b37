"""Keys: shown once, bounded by role and scope, revoked for good; secrets encrypted and rotated."""

from __future__ import annotations

import base64
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from accounts_app import secrets, signatures
from accounts_app.models import ApiKey
from accounts_app.states import Role
from sessions_app.models import Bmc
from tests.factories import make_bmc, make_domain, make_key, make_olga, make_user, make_victor

pytestmark = pytest.mark.django_db


def client_of(token: str, header: str = "authorization") -> Client:
    return Client(headers={header: f"Bearer {token}" if header == "authorization" else token})


def issue(client: Client, **body: Any) -> Any:
    return client.post("/api/v1/keys/", body, content_type="application/json")


def status_of(token: str) -> int:
    return client_of(token).get("/api/v1/nodes/").status_code


def test_a_key_is_shown_once_and_works_in_both_headers():
    client = client_of(make_key(make_olga()).token)
    document = issue(client, name="ci").json()
    for header in ("authorization", "x-api-key"):
        assert client_of(document["token"], header).get("/api/v1/me").json()["username"] == "olga"
    listed = client.get("/api/v1/keys/").content.decode()
    assert document["access_key"] in listed
    assert document["secret_key"] not in listed
    key = ApiKey.objects.get(access_key=document["access_key"])
    assert document["secret_key"] not in str(vars(key))


def test_a_revoked_an_expired_and_a_disabled_users_key_are_refused():
    olga, victor = make_olga(), make_victor()
    gone = make_key(olga)
    client_of(make_key(olga).token).delete(f"/api/v1/keys/{gone.access_key}/")
    assert status_of(gone.token) == 401
    assert status_of(make_key(olga, expires_at=timezone.now() - timedelta(seconds=1)).token) == 401
    token = make_key(victor).token
    assert status_of(token) == 200
    victor.is_active = False
    victor.save()
    assert status_of(token) == 401


def test_rotation_gives_a_new_key_and_takes_the_old():
    olga = make_olga()
    old = make_key(olga, name="ci", scope="operate")
    answer = client_of(make_key(olga).token).post(f"/api/v1/keys/{old.access_key}/rotate/")
    assert (answer.status_code, answer.json()["scope"], answer.json()["name"]) == (201, "operate", "ci")
    assert status_of(old.token) == 401
    assert status_of(answer.json()["token"]) == 200


@pytest.mark.parametrize(
    ("scope", "read", "operate", "administer"),
    [("read", 200, 403, 403), ("operate", 200, 400, 403), ("admin", 200, 400, 400)],
)
def test_a_scope_bounds_what_a_superadmins_key_may_do(scope, read, operate, administer):
    client = client_of(make_key(make_olga(), scope=scope).token)
    assert client.get("/api/v1/nodes/").status_code == read
    assert client.post("/api/v1/sessions/", {}, content_type="application/json").status_code == operate
    assert client.post("/api/v1/nodes/", {}, content_type="application/json").status_code == administer


def test_a_key_cannot_issue_a_stronger_one():
    client = client_of(make_key(make_olga(), scope="read").token)
    assert issue(client, scope="admin").status_code == 403
    assert issue(client, scope="read").status_code == 201


def test_a_key_cannot_issue_one_for_more_areas_or_for_longer():
    olga = make_olga()
    client = client_of(make_key(olga, areas=["accounts", "tasks"]).token)
    wide = make_key(olga)
    assert issue(client).status_code == 403
    assert issue(client, areas=["nodes"]).status_code == 403
    assert client.post(f"/api/v1/keys/{wide.access_key}/rotate/").status_code == 403
    answer = issue(client, areas=["tasks"])
    assert (answer.status_code, answer.json()["areas"]) == (201, ["tasks"])
    assert client_of(answer.json()["token"]).get("/api/v1/me").json()["areas"] == ["tasks"]
    assert issue(client, areas=["kitchen"]).status_code == 400
    soon = timezone.now() + timedelta(hours=1)
    client = client_of(make_key(olga, expires_at=soon).token)
    assert issue(client).status_code == 403
    assert issue(client, expires_at=(soon + timedelta(days=1)).isoformat()).status_code == 403
    assert issue(client, expires_at=soon.isoformat()).status_code == 201


def test_an_area_holds_for_signed_requests_and_terraforms_state_too():
    key = make_key(make_olga(), areas=["nodes"])
    pair = base64.b64encode(f"muster:{key.token}".encode()).decode()
    state = Client(headers={"authorization": f"Basic {pair}"})
    assert state.get("/api/v1/tasks/any/state").status_code == 401
    for path, status in (("/api/v1/nodes/", 200), ("/api/v1/tasks/", 403)):
        assert Client(headers=signed(key, path)).get(path).status_code == status


def signed(key: Any, path: str) -> dict[str, str]:
    date = timezone.now()
    text = date.strftime("%Y-%m-%dT%H:%M:%S+00:00")
    headers = {"date": text, "host": "testserver", "x-backendai-version": "v7.20230615"}
    wanted = signatures.sign(
        signatures.SignedRequest("GET", path, headers),
        secret=key.secret_key,
        date=date,
        date_text=text,
        method="sha256",
    )
    credential = f"signMethod=HMAC-SHA256, credential={key.access_key}:{wanted}"
    return {**headers, "authorization": f"BackendAI {credential}"}


def test_keys_of_others_are_out_of_reach():
    domain = make_domain()
    adam, dora = make_user("adam", Role.ADMIN, domain), make_user("dora", Role.USER, domain)
    olgas = make_key(make_olga())
    doras = make_key(dora)
    as_adam, as_dora = client_of(make_key(adam).token), client_of(doras.token)
    assert as_adam.delete(f"/api/v1/keys/{olgas.access_key}/").status_code == 404
    assert as_dora.delete(f"/api/v1/keys/{olgas.access_key}/").status_code == 404
    assert issue(as_dora, user="adam").status_code == 400
    assert issue(as_adam, user="dora").status_code == 201
    assert issue(as_adam, user="olga").status_code == 400


def test_secrets_are_rotated_to_the_newest_key(settings):
    make_bmc("b1", password="hunter2")
    key = make_key(make_olga())
    old, new = settings.MUSTER_ENCRYPTION_KEYS, Fernet.generate_key().decode()
    settings.MUSTER_ENCRYPTION_KEYS = [new, *old]
    call_command("rotate_secrets", stdout=StringIO())
    settings.MUSTER_ENCRYPTION_KEYS = [new]
    assert Bmc.objects.get().secrets() == {"password": "hunter2"}
    row = ApiKey.objects.get(access_key=key.access_key)
    assert secrets.decrypt(row.secret_encrypted) == {"secret": key.secret_key}


def test_a_secret_that_no_key_opens_is_named_and_left(settings):
    make_bmc("b1", password="hunter2")
    before = Bmc.objects.get().secret
    settings.MUSTER_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    err = StringIO()
    with pytest.raises(CommandError):
        call_command("rotate_secrets", stdout=StringIO(), stderr=err)
    assert "sessions_app.Bmc" in err.getvalue()
    assert "hunter2" not in err.getvalue()
    assert Bmc.objects.get().secret == before
