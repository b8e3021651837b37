"""What iPXE asks for when a node boots: a script with kernel, initrd and parameters, without any identity."""

from __future__ import annotations

from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET

from accounts_app.addresses import is_in, networks
from sessions_app import services
from sessions_app.models import Node
from sessions_app.models.nodes import canonical_mac

# ${cwuri} is this script's own address; firmware that can't chain goes to its next boot device.
RETRY = ("sleep 30", "chain --replace --autofree ${cwuri} || exit 1")
KEYS = ("mac", "name", "nid")


@csrf_exempt
@require_GET
def bootscript(request: HttpRequest) -> HttpResponse:
    """GET /apis/bss/boot/v1/bootscript?mac= or ?name= or ?nid=: 400 for a wrong question, 404 for a node that
    is unknown or has nothing to boot, 403 and 409 for an address that is not the node's; all are scripts that
    say why and try again."""
    asked = {key: request.GET[key].strip() for key in KEYS if request.GET.get(key, "").strip()}
    if not asked:
        return _refusal(400, "Ask with mac=, name= or nid=.")
    complaint = _complaint(asked)
    if complaint:
        return _refusal(400, complaint)
    address = request.META.get("REMOTE_ADDR") or ""
    inside = networks(tuple(settings.MUSTER_BOOT_NETWORKS))
    if inside and not is_in(address, inside):
        return _refusal(403, "Boot scripts are given on the boot network only.")
    node = services.find_booting_node(**asked)
    if node is None:
        return _refusal(404, f"Muster knows no node with {_said(asked)}.")
    if node.boot_address and not is_in(address, networks((node.boot_address,))):
        services.tell_contested(node=node, address=address, other=node.boot_address)
        return _refusal(403, f"{node.name} boots from another address.")
    artifacts = node.desired
    if artifacts is None or not artifacts.kernel:
        return _refusal(404, f"Nothing is to be booted on {node.name}.")
    token = ""
    if not settings.MUSTER_BOOT_STRICT or services.is_booting(node):
        try:
            token = services.issue_boot_token(node=node, artifacts=artifacts, address=address)
        except services.Contested:
            return _refusal(409, f"Another address has just fetched the script of {node.name}.")
    parameters = _parameters(node, token)
    lines = ["boot || goto retry", ":retry", *RETRY]
    if artifacts.initrd:
        lines.insert(0, f"initrd --name initrd {artifacts.initrd} || goto retry")
        parameters = f"initrd=initrd {parameters}"
    return _script([f"kernel --name kernel {artifacts.kernel} {parameters} || goto retry", *lines])


def _parameters(node: Node, token: str) -> str:
    """The desired kernel parameters and what the node needs to report (contracts, BOS 4.5)."""
    assert node.desired is not None  # noqa: S101  (checked by the caller)
    words = [node.desired.kernel_parameters, f"xname={node.name}"]
    if node.nid is not None:
        words.append(f"nid={node.nid}")
    if token:
        words.append(f"bss_referral_token={token}")
    words.append(f"muster_url={settings.MUSTER_URL}")
    return " ".join(word for word in words if word)


def _complaint(asked: dict[str, str]) -> str:
    """What is wrong with the question."""
    if "\x00" in "".join(asked.values()):
        return "There is a NUL in the question."
    if "mac" in asked:
        try:
            canonical_mac(asked["mac"])
        except ValidationError:
            return "mac= is not a MAC address."
    nid = asked.get("nid", "0")
    return "" if nid.isdecimal() and nid.isascii() else "nid= is not a number."


def _said(asked: dict[str, str]) -> str:
    """The question as it may be written into a script: no character that could end the line."""
    return ", ".join(
        f"{key} {''.join(c for c in value if c.isalnum() or c in ':.-_')[:64]}"
        for key, value in asked.items()
    )


def _refusal(status: int, why: str) -> HttpResponse:
    return _script([f"echo {why}", *RETRY], status)


def _script(lines: list[str], status: int = 200) -> HttpResponse:
    # Whatever stands in a template, a line stays one line.
    text = "\n".join(["#!ipxe", *(" ".join(line.split()) for line in lines)]) + "\n"
    answer = HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
    answer["Cache-Control"] = "no-store"
    return answer
