"""Nodes from CSV: checked whole, written whole, or nothing is."""

import io
from importlib import import_module

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command

from sessions_app.models import Bmc, Node
from tests.factories import make_bmc, make_domain, make_node
from tests.pages.test_actions import hidden

pytestmark = pytest.mark.django_db

GOOD = """name,nid,mac,role,groups,bmc,bmc_kind,bmc_settings
x1000c0s0b0n0,1,02-00-00-00-00-01,Compute,login rack1,x1000c0s0b0,fake,"{""password"": ""hunter2""}"
x1000c0s0b0n1,2,02:00:00:00:00:02,Compute,,x1000c0s0b0,,
"""


def run(text, tmp_path, *options):
    file = tmp_path / "nodes.csv"
    file.write_text(text)
    out = io.StringIO()
    call_command("import_nodes", str(file), *options, stdout=out)
    return out.getvalue()


def test_nodes_bmcs_and_groups_are_made(tmp_path):
    assert "Added 2 nodes: x1000c0s0b0n[0-1]" in run(GOOD, tmp_path)
    node = Node.objects.get(name="x1000c0s0b0n0")
    assert node.mac == "02:00:00:00:00:01"
    assert sorted(group.name for group in node.groups.all()) == ["login", "rack1"]
    bmc = Bmc.objects.get()
    assert bmc.secrets() == {"password": "hunter2"}
    assert bmc.settings == {}


def test_importing_again_changes_what_is_told_and_keeps_the_rest(tmp_path):
    run(GOOD, tmp_path)
    assert "Changed 1 nodes" in run("name,role\nx1000c0s0b0n1,Application\n", tmp_path)
    node = Node.objects.get(name="x1000c0s0b0n1")
    assert (node.role, node.nid, node.mac, node.bmc.name) == (
        "Application",
        2,
        "02:00:00:00:00:02",
        "x1000c0s0b0",
    )


def test_a_bmc_gets_the_domain_of_its_nodes_or_the_one_that_is_told(tmp_path):
    for name in ("physics", "biology"):
        make_domain(name)
    lines = [
        "name,domain,bmc,bmc_kind,bmc_domain",
        "x1c0s0b0n0,physics,same,fake,",
        "x1c0s0b0n1,physics,same,,",
        "x1c0s1b0n0,physics,shared,fake,",
        "x1c0s1b0n1,biology,shared,,",
        "x1c0s2b0n0,physics,told,fake,biology",
    ]
    run("\n".join(lines), tmp_path)
    found = dict(Bmc.objects.values_list("name", "domain__name"))
    assert found == {"same": "physics", "shared": None, "told": "biology"}
    # What is not told stays; what is told moves it.
    run("name,domain,bmc,bmc_address\nx1c0s0b0n0,biology,same,https://192.0.2.1\n", tmp_path)
    run("name,bmc,bmc_domain\nx1c0s1b0n0,shared,biology\n", tmp_path)
    found = dict(Bmc.objects.values_list("name", "domain__name"))
    assert found == {"same": "physics", "shared": "biology", "told": "biology"}


def test_the_migration_gives_a_bmc_the_domain_of_its_nodes_where_they_have_the_same():
    physics, biology = make_domain("physics"), make_domain("biology")
    owners = {"same": [physics, physics], "mixed": [physics, biology], "half": [physics, None], "idle": []}
    for place, (name, domains) in enumerate(owners.items()):
        bmc = make_bmc(name)
        for number, domain in enumerate(domains):
            make_node(f"x{place}c0s0b0n{number}", bmc=bmc, domain=domain)
    import_module("sessions_app.migrations.0005_bmc_domain_of_its_nodes").fill(apps, None)
    found = dict(Bmc.objects.values_list("name", "domain__name"))
    assert found == {"same": "physics", "mixed": None, "half": None, "idle": None}


def test_a_dry_run_writes_nothing(tmp_path):
    assert "Would add 2 nodes" in run(GOOD, tmp_path, "--dry-run")
    assert not Node.objects.exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must name the columns"),
        ("mac\n02:00:00:00:00:01\n", "must name the columns"),
        ("name,colour\nx1c0s0b0n0,red\n", "Unknown columns: colour"),
        ("name\nx1c0s0b0n0\nx1c0s0\n", "Line 3: 'x1c0s0' is not the name of a node."),
        ("name\nx1c0s0b0n0\nX01C0S0B0N0\n", "x1c0s0b0n0 stands in line 2 already"),
        ("name,mac\nx1c0s0b0n0,zz\n", "not a MAC address"),
        ("name,nid\nx1c0s0b0n0,-1\n", "no node number"),
        ("name,locked\nx1c0s0b0n0,perhaps\n", "neither yes nor no"),
        ("name,bmc_settings\nx1c0s0b0n0,[]\n", "must be a JSON object"),
        ("name,mac\nx1c0s0b0n0\n", "number of cells"),
        ("name,bmc\nx1c0s0b0n0,bmc1\n", "bmc_kind is needed"),
        ("name,bmc,bmc_kind\nx1c0s0b0n0,bmc1,magic\n", "magic"),
        ("name,domain\nx1c0s0b0n0,nowhere\n", "no domain nowhere"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(tmp_path, text, says):
    with pytest.raises(CommandError, match="Nothing was imported") as refused:
        run(text, tmp_path)
    assert says in str(refused.value)
    assert not Node.objects.exists()
    assert not Bmc.objects.exists()


def test_an_export_can_be_read_back(ada, session, tmp_path):
    exported = b"".join(ada.get("/nodes/export.csv").streaming_content).decode()
    before = list(Node.objects.order_by("name").values_list("name", "mac", "role", "bmc__name"))
    assert "Changed 16 nodes" in run(exported, tmp_path)
    assert list(Node.objects.order_by("name").values_list("name", "mac", "role", "bmc__name")) == before


def test_the_page_shows_first_and_imports_what_it_showed(ada):
    shown = ada.post("/nodes/import", {"text": GOOD}).content.decode()
    assert "x1000c0s0b0n[0-1]" in shown
    assert not Node.objects.exists()
    ada.post("/nodes/import", {"text": GOOD, "digest": hidden(shown, "digest"), "confirm": "yes"})
    assert Node.objects.count() == 2


def test_only_superadmins_import(olga):
    assert olga.get("/nodes/import").status_code == 403
