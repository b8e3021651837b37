"""Actions by hand on the nodes that a page shows: confirmed with their names, done to exactly those."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.utils.html import format_html
from django.utils.http import urlencode
from django.views.decorators.http import require_http_methods

from accounts_app.permissions import PageRequest, page_needs
from accounts_app.states import Verb
from sessions_app import services
from sessions_app.confirming import TYPED_ABOVE, Confirmation
from sessions_app.nodeset import NodeSetError, fold
from sessions_app.services_power import (
    LEAVE,
    REFUSE,
    TAKE,
    NodesBusy,
    Plan,
    act_by_hand,
    digest_of_plan,
    plan,
)
from sessions_app.states import SWITCHING, ByHand
from sessions_app.views.picking import ids_named, pick

WILL = {
    ByHand.ON: "Switches on what is off. What is on already stays as it is.",
    ByHand.SOFT: "Asks the operating system to shut down; never cuts the power: what stays on has failed.",
    ByHand.OFF: "Cuts the power at once: what runs there is lost.",
    ByHand.CYCLE: "Cuts the power at once, waits until each node is off, switches it on again.",
    ByHand.LOOK: "Asks the BMCs for the power state.",
    ByHand.LOCATE: "Lights the LED by which the machine is found in the room, until it is put out.",
    ByHand.UNLOCATE: "Puts the locate LED out.",
}
VERBS = {
    ByHand.ON: "Switch on",
    ByHand.SOFT: "Shut down",
    ByHand.OFF: "Cut the power of",
    ByHand.CYCLE: "Power cycle",
    ByHand.LOOK: "Look at",
    ByHand.LOCATE: "Locate",
    ByHand.UNLOCATE: "Put out the locate LED of",
}
OFFERS_NETWORK = (ByHand.ON, ByHand.CYCLE)


@require_http_methods(["GET", "HEAD", "POST"])
@page_needs(Verb.OPERATE)
def node_act(request: PageRequest, action: str) -> HttpResponse:
    """`/nodes/act/ACTION?nodes=RANGE` or `?pick=FILTER`: GET shows what it would hit, POST does exactly that.

    409 where the nodes are others by now, or something else is at work with them. What changes nothing
    (looking, locating) needs no confirmation up to TYPED_ABOVE nodes.
    """
    if action not in ByHand.values:
        raise Http404(f"There is no action {action}.")
    given = {
        name: str(request.POST.get(name) or request.GET.get(name, "")) for name in ("pick", "nodes", "busy")
    }
    busy = given["busy"] if given["busy"] in (TAKE, LEAVE) else REFUSE
    try:
        ids = _ids(request, given)
        if not ids and not given["pick"]:
            raise Http404("No node of this name.")
        made = plan(action=action, ids=ids, busy=busy)
        confirmation = _confirmation(action, made, given, busy)
    except (services.Refused, NodeSetError) as error:
        made = Plan()
        confirmation = _confirmation(action, made, given, busy)
        confirmation.refused = str(error)
    harmless = action not in SWITCHING and len(made.nodes) <= TYPED_ABOVE and not confirmation.refused
    if not (request.method == "POST" and harmless):
        answer = confirmation.answer(request)
        if answer is not None:
            return answer
    try:
        session = act_by_hand(
            action=action,
            ids=[pk for pk, _ in made.nodes],
            actor=request.user,
            network_boot=action in OFFERS_NETWORK and "network_boot" in request.POST,
            busy=busy,
        )
    except NodesBusy as error:  # somebody was quicker than this confirmation
        confirmation.refused = str(error)
        return confirmation.answer(request) or redirect(confirmation.back)
    where = format_html('<a href="/sessions/{}/">{}</a>', session.uuid, session.title)
    messages.success(request, format_html("{} has begun.", where))
    if len(made.nodes) == 1:
        return redirect(f"/nodes/{made.names[0]}/")
    return redirect(f"/sessions/{session.uuid}/" if action in SWITCHING else confirmation.back)


def _ids(request: PageRequest, given: dict[str, str]) -> list[int]:
    """The nodes meant, looked up anew. Raises NodeSetError."""
    if given["pick"]:
        return [node.id for node in pick(request.user, QueryDict(given["pick"])).nodes]
    return ids_named(request.user, given["nodes"])


def _confirmation(action: str, made: Plan, given: dict[str, str], busy: str) -> Confirmation:
    count = len(made.nodes)
    nodes = f"{count:,} node{'' if count == 1 else 's'}"
    keep = {name: given[name] for name in ("pick", "nodes") if given[name]}
    will = [WILL[ByHand(action)]]
    if busy == TAKE:
        will += [
            f"Takes {len(one.nodes):,} of them out of {one.name}: {fold(one.nodes, 12)}." for one in made.held
        ]
    confirmation = Confirmation(
        title=f"{VERBS[ByHand(action)]} {nodes}?",
        verb=f"{VERBS[ByHand(action)]} {nodes}",
        count=count,
        names=made.names,
        left_out=made.left_out,
        will=will,
        back=f"/nodes/{made.names[0]}/" if count == 1 and not given["pick"] else _list_of(keep),
        digest=digest_of_plan(action, made, busy),
        hidden={**keep, **({"busy": busy} if busy != REFUSE else {})},
        danger=action in (ByHand.SOFT, ByHand.OFF, ByHand.CYCLE),
    )
    if action in OFFERS_NETWORK:
        confirmation.options = [("network_boot", "Boot from the network this once")]
    if made.held and busy == REFUSE:
        confirmation.refused = made.complaint
        here = f"/nodes/act/{action}?"
        confirmation.otherwise = [(here + urlencode({**keep, "busy": TAKE}), "Take them out of it…")]
        held = {name for one in made.held for name in one.nodes}
        if held < set(made.names):
            leave = urlencode({**keep, "busy": LEAVE})
            confirmation.otherwise.append((here + leave, f"Go on without these {len(held):,}…"))
    elif not made.nodes:
        confirmation.refused = "No node is left that this could be done to."
    return confirmation


def _list_of(keep: dict[str, str]) -> str:
    return f"/nodes/?{keep['pick']}" if keep.get("pick") else f"/nodes/?{urlencode(keep)}"
