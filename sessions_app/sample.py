"""The sample that bin/up boots: an emulated fleet's nodes and BMCs, an image, a session template."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from events_app.services import record_event, recording
from sessions_app.counts import chunks
from sessions_app.models import Bmc, BootImage, Node, NodeGroup, SessionTemplate

GROUP = "emulated"
TEMPLATE = "sample"
IMAGE = {
    "path": "s3://boot-images/sample-1.0/manifest.json",
    "etag": "5f2c1d7c8a0e4b6f9d3e",
    "kernel": "s3://boot-images/sample-1.0/kernel",
    "initrd": "s3://boot-images/sample-1.0/initrd",
    "boot_parameters": "console=ttyS0,115200",
}
BODY = {
    "description": "Boots the emulated fleet of bin/up.",
    "enable_cfs": True,
    "cfs": {"configuration": "sample-configuration"},
    "boot_sets": {
        "compute": {
            "path": IMAGE["path"],
            "type": "s3",
            "etag": IMAGE["etag"],
            "kernel_parameters": "quiet ip=dhcp",
            "rootfs_provider": "sbps",
            "rootfs_provider_passthrough": "v1:iqn.2023-06.csm.iscsi:_sbps-hsn._tcp.emulated:300",
            "node_groups": [GROUP],
        }
    },
}


def register_fleet(*, url: str, nodes: Iterable[Mapping[str, Any]]) -> None:
    """Make the group `emulated` exactly these nodes, each with a BMC of its own at the emulator's `url`.

    `nodes` have xname, nid, mac, system (path of the Redfish System). Nodes of an earlier, larger fleet keep
    their history, marked as not fit for use.
    """
    wanted = {node["xname"]: node for node in nodes}
    with recording():
        group, _ = NodeGroup.objects.get_or_create(
            name=GROUP, defaults={"description": "The emulated fleet of bin/up"}
        )
        bmcs = _register_bmcs(url, [bmc_name(xname) for xname in wanted])
        known = set(Node.objects.filter(name__in=wanted).values_list("name", flat=True))
        Node.objects.bulk_create(
            [
                Node(
                    name=name,
                    nid=node["nid"],
                    mac=node["mac"],
                    system=node["system"],
                    bmc=bmcs[bmc_name(name)],
                )
                for name, node in wanted.items()
                if name not in known
            ],
            batch_size=500,
        )
        ids = dict(Node.objects.filter(name__in=wanted).values_list("name", "id"))
        for name in wanted.keys() - known:
            record_event(name="node_registered", area="node", subject_id=str(ids[name]), subject_name=name)
        for part in chunks(ids.values()):
            Node.objects.filter(id__in=part).exclude(hardware_enabled=True).update(hardware_enabled=True)
        Node.objects.filter(groups=group).exclude(name__in=wanted).update(hardware_enabled=False)
        group.nodes.set(ids.values())


def _register_bmcs(url: str, names: list[str]) -> dict[str, Bmc]:
    known = {bmc.name: bmc for bmc in Bmc.objects.filter(name__in=names)}
    new = []
    for name in names:
        if name not in known:
            bmc = Bmc(name=name, kind="redfish", address=url, settings={"username": "root"})
            # The emulator asks for none; it is random so that a leak of it could be seen.
            bmc.set_secrets({"password": secrets.token_urlsafe(12)})
            new.append(bmc)
    Bmc.objects.bulk_create(new, batch_size=500)
    # The emulator's port may be another one than at the last start.
    Bmc.objects.filter(name__in=names).exclude(address=url).update(address=url)
    return {bmc.name: bmc for bmc in Bmc.objects.filter(name__in=names)}


def bmc_name(xname: str) -> str:
    """x3000c0s1b0 of x3000c0s1b0n0."""
    return xname.rpartition("n")[0]


def save_template() -> None:
    """The sample image and template; what somebody has changed since stays as he left it."""
    path = IMAGE["path"]
    BootImage.objects.get_or_create(
        path=path, defaults={name: IMAGE[name] for name in IMAGE if name != "path"}
    )
    SessionTemplate.objects.get_or_create(name=TEMPLATE, domain=None, defaults={"body": BODY})
