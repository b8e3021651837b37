"""Every path × method × role × own or another tenant's object, and what a tenant's lists show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.urls import URLResolver, get_resolver, resolve

from accounts_app.models import User
from accounts_app.states import Area, Role, is_open
from sessions_app.models import Bmc, Node
from tests.accounts.judging import FOREIGN, OWN, complaint, filled, tenanted
from tests.accounts.matrix import METHODS, OPEN, TABLE, Path
from tests.accounts.world import ROLES, make_people, make_things
from tests.factories import make_bmc, make_domain, make_key, make_user
from workflows_app.drivers.fake import FakeRuntime

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(redis_server: Any) -> Iterator[dict[str, dict[str, str]]]:
    """What is called how, by tenant."""
    FakeRuntime.forget_all()
    yield {OWN: make_things(OWN, 1000), FOREIGN: make_things(FOREIGN, 2000)}
    FakeRuntime.forget_all()


def routes(resolver: Any, prefix: str = "") -> Iterator[str]:
    """All routes but those of Django's admin, which has permissions of its own (tests/pages/test_admin)."""
    for pattern in resolver.url_patterns:
        text = str(pattern.pattern)
        route = prefix + (text.removeprefix("^") if prefix else text)  # as a match joins them
        if isinstance(pattern, URLResolver):
            if getattr(pattern, "app_name", None) != "admin":
                yield from routes(pattern, route)
        else:
            yield route


def ask(client: Client, path: Path, method: str, body: Any, names: dict[str, str], who: str) -> Any:
    """Ask inside a savepoint, so that the next one finds all as it was."""
    headers = {"cray-tenant-name": names["domain"]} if who == "sue" and tenanted(path.path) else {}
    place = filled(path.path, names)
    with transaction.atomic():
        if path.page:
            answer = client.generic(
                method,
                place,
                "&".join(f"{name}={value}" for name, value in (body or {}).items()),
                content_type="application/x-www-form-urlencoded",
                headers={"accept": "text/html"},
            )
        else:
            text = filled(json.dumps(body), names) if body is not None else ""
            answer = client.generic(method, place, text, content_type="application/json", headers=headers)
        transaction.set_rollback(True)
    return answer


def test_every_path_is_declared():
    declared = {resolve(filled(path.path.partition("?")[0], SAMPLES)).route for path in TABLE}
    assert set(routes(get_resolver())) - declared == set()


SAMPLES = {
    "uuid": "0" * 8 + "-0000-0000-0000-" + "0" * 12,
    "task_uuid": "0" * 8 + "-0000-0000-0000-" + "0" * 12,
    "queued": "0" * 8 + "-0000-0000-0000-" + "0" * 12,
    "run": "1",
    "key": "ABC",
    **dict.fromkeys(("node", "bmc", "group", "template", "session", "task", "workflow"), "x1"),
}


@pytest.mark.parametrize("who", ROLES)
def test_each_role_may_what_is_declared_and_nothing_else(who, world):
    people = make_people(make_domain(OWN))
    client = Client(raise_request_exception=False)
    if who in people:
        client.force_login(people[who])
    wrong = []
    for path in TABLE:
        for method in METHODS:
            way = path.ways.get(method)
            for whose in (OWN, FOREIGN) if "<" in path.path else (OWN,):
                if "log" in path.path and who in people:
                    client.force_login(people[who])  # the doors of login and logout forget who asks
                answer = ask(client, path, method, way.body if way else None, world[whose], who)
                found = complaint(path, method, who, whose, answer)
                if found:
                    wrong.append(f"{method} {path.path} ({whose}): {found}")
    assert not wrong, "\n".join(wrong)


def test_a_key_for_some_areas_opens_their_paths_and_no_others(world):
    sue = make_user("sue", Role.SUPERADMIN)
    clients = {
        area: Client(headers={"authorization": f"Bearer {make_key(sue, areas=[area]).token}"})
        for area in Area
    }
    wrong, opened = [], set()
    for path in TABLE:
        for method, way in path.ways.items():
            if path.page or way.level == OPEN:
                continue  # pages take no keys
            place = filled(path.path.partition("?")[0], world[OWN])
            inside = [area for area in Area if is_open(place, [area])]
            outside = [area for area in Area if area not in inside]
            if not inside:
                wrong.append(f"{path.path} is of no area (accounts_app/states.py)")
            opened.update(inside)
            for area in inside[:1] + outside[:1]:  # the others are answered alike
                answer = ask(clients[area], path, method, way.body, world[OWN], "sue")
                because = b"is for other areas" in answer.getvalue()
                if because if area in inside else answer.status_code != 403:
                    wrong.append(f"{method} {path.path} by a key for {area}: {answer.status_code}")
    assert not wrong, "\n".join(wrong)
    assert opened == set(Area)


# -- what a tenant's lists show, and what it can't reach through a body ------------------------------------

LISTS = (
    "/v2/sessions", "/v2/sessiontemplates", "/v2/components", "/v1/session", "/v1/sessiontemplate",
    "/v1/tasks", "/v1/status/tasks", "/api/v1/nodes/", "/api/v1/bmcs/", "/api/v1/groups/",
    "/api/v1/sessions/",
    "/api/v1/tasks/", "/api/v1/task-runs/", "/api/v1/workflows", "/api/v1/runs", "/api/v1/keys/",
    "/api/v1/audit/", "/overview", "/sessions/", "/nodes/", "/nodes/export.csv", "/tasks/", "/workflows/",
    "/activity/", "/activity/background/", "/activity/audit/", "/search?q=tenant-b", "/sessions/start",
)  # fmt: skip


@pytest.mark.parametrize("role", [Role.USER, Role.ADMIN])
@pytest.mark.parametrize("domain", [OWN, None])
def test_no_list_shows_what_is_another_tenants(role, domain, world):
    user = make_user("somebody", role, make_domain(domain) if domain else None)
    client = Client()
    client.force_login(user)
    foreign = world[FOREIGN]
    # A group's name is the site's; its nodes are not. The search repeats what was asked for.
    known = {"domain", "group", "run"}
    names = [foreign[name] for name in foreign if name not in known]
    for path in LISTS:
        answer = client.get(path, headers={"accept": "*/*" if "/v" in path else "text/html"})
        content = b"".join(answer.streaming_content) if answer.streaming else answer.content
        found = [name for name in names if name in content.decode()]
        assert found == [], f"{path} shows {found}"
        assert answer.status_code in (200, 403), path


def admin_of(domain: str | None) -> Client:
    user = make_user("adam", Role.ADMIN, make_domain(domain) if domain else None)
    return Client(headers={"authorization": f"Bearer {make_key(user).token}"})


def send(client: Client, method: str, path: str, body: Any) -> int:
    return client.generic(method, path, json.dumps(body), content_type="application/json").status_code


@pytest.mark.parametrize("domain", [OWN, None])
def test_a_body_cannot_reach_another_tenants_things(domain, world):
    client, foreign = admin_of(domain), world[FOREIGN]
    node = {"name": "x5c0s0b0n0"}
    assert send(client, "POST", "/api/v1/nodes/", {**node, "bmc": foreign["bmc"]}) == 400
    assert send(client, "POST", "/api/v1/nodes/", {"name": foreign["node"]}) == 400
    assert send(client, "PUT", "/v2/components", [{"id": foreign["node"], "enabled": True}]) == 400
    assert send(client, "PUT", f"/v2/components/{foreign['node']}", {"enabled": True}) == 400
    assert send(client, "PATCH", "/v2/components", [{"id": foreign["node"], "enabled": True}]) == 404
    body = {"operation": "reboot", "template_name": foreign["template"]}
    assert send(client, "POST", "/v2/sessions", body) == 400
    assert (
        send(client, "POST", "/api/v1/sessions/", {"operation": "boot", "template": foreign["template"]})
        == 400
    )
    # A node that he makes is his domain's, whatever he says.
    assert send(client, "POST", "/api/v1/nodes/", {**node, "domain": FOREIGN}) == 201
    assert client.get("/api/v1/nodes/x5c0s0b0n0/").json()["domain"] == domain


def test_a_session_hits_no_node_of_another_tenant(world):
    client, foreign = admin_of(OWN), world[FOREIGN]
    boot_set = {"path": "http://i/m.json", "type": "http", "node_list": [foreign["node"], world[OWN]["node"]]}
    assert send(client, "PUT", "/v2/sessiontemplates/mixed", {"boot_sets": {"compute": boot_set}}) == 200
    body = json.dumps({"operation": "boot", "template": "mixed"})
    answer = client.generic("POST", "/api/v1/sessions/preview/", body, content_type="application/json")
    assert foreign["node"] not in json.dumps(answer.json()["boot_sets"])


def test_a_bmc_that_switches_nodes_of_two_tenants_is_the_superadmins(world):
    own, foreign = world[OWN], world[FOREIGN]
    Node.objects.filter(name=foreign["node"]).update(bmc=Bmc.objects.get(name=own["bmc"]))
    client = admin_of(OWN)
    path = f"/api/v1/bmcs/{own['bmc']}/"
    assert client.get(path).status_code == 200
    assert send(client, "PATCH", path, {"address": "https://127.0.0.1:9"}) == 403
    assert client.delete(path).status_code == 403


@pytest.mark.parametrize("domain", [OWN, None])
def test_a_bmc_that_nobody_owns_is_the_superadmins_also_as_news(domain, world):
    make_bmc("chassis")
    client = admin_of(domain)
    assert client.get("/api/v1/bmcs/chassis/").status_code == 404
    assert "chassis" not in client.get("/api/v1/bmcs/").content.decode()
    assert send(client, "POST", "/api/v1/nodes/", {"name": "x5c0s0b0n0", "bmc": "chassis"}) == 400
    page = Client()
    page.force_login(User.objects.get(username="adam"))
    assert "chassis" not in page.get("/activity/").content.decode()
    # One that he registers is his domain's, whatever he says; who has no domain registers none.
    bmc = {"name": "b7", "kind": "fake", "domain": FOREIGN}
    assert send(client, "POST", "/api/v1/bmcs/", bmc) == (201 if domain else 403)
    assert [row.domain.name for row in Bmc.objects.filter(name="b7") if row.domain] == [OWN] * bool(domain)


def test_a_node_keeps_a_bmc_that_its_tenant_may_not_see(world):
    Bmc.objects.filter(name=world[OWN]["bmc"]).update(domain=None)
    client, name = admin_of(OWN), world[OWN]["node"]
    kept = {"name": name, "bmc": world[OWN]["bmc"], "role": "Storage"}
    assert send(client, "PUT", f"/api/v1/nodes/{name}/", kept) == 200


def test_a_superadmin_gives_a_bmc_to_a_domain_and_a_put_without_it_leaves_it(world):
    sue = make_user("sue", Role.SUPERADMIN)
    client = Client(headers={"authorization": f"Bearer {make_key(sue).token}"})
    body = {"name": "b7", "kind": "fake"}
    assert send(client, "POST", "/api/v1/bmcs/", {**body, "domain": FOREIGN}) == 201
    assert send(client, "PUT", "/api/v1/bmcs/b7/", body) == 200
    assert client.get("/api/v1/bmcs/b7/").json()["domain"] == FOREIGN
    assert send(client, "PATCH", "/api/v1/bmcs/b7/", {"domain": None}) == 200
    assert client.get("/api/v1/bmcs/b7/").json()["domain"] is None


def test_a_domains_admin_hears_of_no_other_tenant_in_the_streams(world):
    from config.streams import hearer_of

    hearer = hearer_of(make_user("adam", Role.ADMIN, make_domain(OWN)))
    assert hearer is not None
    assert (hearer.domain, hearer.everywhere) == (OWN, False)
    assert hearer_of(make_user("nora", Role.NONE, make_domain(OWN))) is None
