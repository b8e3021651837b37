"""Rows for tests, made by plain functions: an unknown keyword is an error."""

from __future__ import annotations

from typing import Any

from accounts_app.models import Domain, User
from accounts_app.services import IssuedKey, issue_key
from accounts_app.states import Role
from sessions_app import services
from sessions_app.models import Bmc, BootSession, Node, NodeGroup, SessionTemplate
from sessions_app.states import Operation

PASSWORD = "correct horse battery staple"


def make_domain(name: str = "tenant-a") -> Domain:
    """A tenant."""
    return Domain.objects.get_or_create(name=name)[0]


def make_user(name: str, role: str = Role.USER, domain: Domain | None = None) -> User:
    """A person with a password."""
    return User.objects.create_user(name, password=PASSWORD, role=role, domain=domain)


def make_olga() -> User:
    """She operates."""
    return make_user("olga", Role.SUPERADMIN)


def make_victor() -> User:
    """He views."""
    return make_user("victor", Role.VIEWER)


def make_nora() -> User:
    """She has no access."""
    return make_user("nora", Role.NONE)


def make_key(user: User, **fields: Any) -> IssuedKey:
    """A key of a user."""
    return issue_key(user=user, actor=user, **fields)


def make_bmc(
    name: str = "bmc", kind: str = "fake", address: str = "", domain: Domain | None = None, **settings: Any
) -> Bmc:
    """A BMC; by default one that works and answers at once."""
    return services.register_bmc(name=name, kind=kind, address=address, settings=settings, domain=domain)


def make_node(name: str = "x1000c0s0b0n0", **fields: Any) -> Node:
    """A node; where no BMC is given it has a fake one of its own."""
    if "bmc" not in fields:
        domain = fields.get("domain")
        fields["bmc"] = make_bmc(name=f"bmc-of-{name}", domain=domain, **fields.pop("fake", {}))
    return services.register_node(name=name, **fields)


def names(count: int) -> list[str]:
    """That many xnames, in natural order."""
    return [f"x1000c{place // 64}s{place // 4 % 16}b0n{place % 4}" for place in range(count)]


def make_nodes(count: int, **fake: Any) -> list[Node]:
    """Nodes with a fake BMC each."""
    return [make_node(name, fake=dict(fake)) for name in names(count)]


def make_group(name: str, nodes: list[Node]) -> NodeGroup:
    """A group of nodes."""
    group = NodeGroup.objects.get_or_create(name=name)[0]
    group.nodes.set(nodes)
    return group


def make_template(
    nodes: list[Node] | list[str] | None = None,
    name: str = "sample",
    domain: Domain | None = None,
    body: dict[str, Any] | None = None,
    configuration: str = "",
) -> SessionTemplate:
    """A template with one boot set, `compute`, of these nodes; or with exactly this body."""
    if body is None:
        boot_set: dict[str, Any] = {"path": "s3://images/compute/manifest.json", "type": "s3"}
        boot_set["node_list"] = [str(node) for node in nodes or []]
        body = {"boot_sets": {"compute": boot_set}}
        if configuration:
            body["cfs"] = {"configuration": configuration}
    return SessionTemplate.objects.create(name=name, domain=domain, body=body)


def make_session(
    template: SessionTemplate,
    operation: str = Operation.REBOOT,
    actor: User | None = None,
    name: str = "",
    limit: str = "",
    stage: bool = False,
) -> BootSession:
    """A pending session, started by the service that every door calls."""
    return services.start_session(
        template=template, operation=operation, actor=actor, name=name, limit=limit, stage=stage
    )
