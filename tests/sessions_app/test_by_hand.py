"""Nodes switched, looked at and located by hand: one engine with the sessions, one owner at a time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from events_app.models import BackgroundTask, LifecycleEvent
from sessions_app import reach, services, services_power, steps
from sessions_app.drivers.base import Action
from sessions_app.drivers.fake import FakeDriver
from sessions_app.models import Bmc, BootSession, BosOptions, Node, NodePhase
from sessions_app.services_power import LEAVE, TAKE, NodesBusy, act_by_hand
from sessions_app.states import ByHand, SessionResult, SessionStatus
from tests.factories import make_node, make_nodes, make_olga, make_session, make_template
from tests.sessions_app.test_engine import asked, drive, fresh_fakes, hurry, pump, rows_agree_with_counters

__all__ = ["fresh_fakes", "pump"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engine]


def by_hand(action, nodes, **options):
    return act_by_hand(
        action=action, ids=[node.pk for node in nodes], actor=options.pop("actor", None), **options
    )


def power_of(node):
    return Node.objects.values_list("power_state", flat=True).get(pk=node.pk)


@pytest.mark.parametrize(
    ("action", "initial", "switched", "power"),
    [
        (ByHand.ON, "off", [Action.ON], "on"),
        (ByHand.SOFT, "on", [Action.OFF_GRACEFUL], "off"),
        (ByHand.OFF, "on", [Action.OFF_FORCED], "off"),
        (ByHand.CYCLE, "on", [Action.OFF_FORCED, Action.ON], "on"),
        (ByHand.LOOK, "on", [], "on"),
    ],
)
def test_each_action_is_done_and_the_node_followed(pump, action, initial, switched, power):
    nodes = make_nodes(3, initial=initial)
    session = drive(by_hand(action, nodes, actor=make_olga()), pump)
    assert session.result == SessionResult.SUCCEEDED
    assert rows_agree_with_counters(session)
    assert [asked(node.name) for node in nodes] == [switched] * 3
    assert [power_of(node) for node in nodes] == [power] * 3
    node = Node.objects.get(pk=nodes[0].pk)
    assert (node.session, node.enabled, node.failed, node.desired) == (None, False, False, None)
    assert set(Bmc.objects.values_list("reach", flat=True)) == {"reachable"}


def test_its_task_names_the_failed_folded_and_its_events_are_of_nodes(pump):
    olga = make_olga()
    good = make_nodes(2)
    bad = [make_node(f"x1001c0s{slot}b0n0", fake={"fail": "on=unsupported"}) for slot in range(3)]
    session = drive(by_hand(ByHand.ON, good + bad, actor=olga), pump)
    assert session.result == SessionResult.FAILED
    task = BackgroundTask.objects.get(pk=session.background_task_id)
    assert (task.owner, task.kind, task.status) == (olga, "node_on", "failed")
    assert (task.current_progress, task.total_progress) == (5, 5)
    assert task.result["succeeded"] == 2
    assert task.result["errors"] == [
        {"error": "Told to fail at on", "count": 3, "nodes": "x1001c0s[0-2]b0n0"}
    ]
    told = LifecycleEvent.objects.filter(subject_id=str(session.uuid)).order_by("number")
    assert {event.area for event in told} == {"node"}
    names = [event.name for event in told if event.name != "node_phases"]
    assert names == ["power_enqueued", "power_preparing", "power_creating", "power_terminated"]
    assert not Node.objects.filter(failed=True).exists()  # BOS's word, which no hand writes


def test_a_graceful_shutdown_never_cuts_the_power(pump):
    BosOptions(pk=1, values={"max_power_off_wait_time": 0}).save()
    (node,) = make_nodes(1, initial="on", off_after=3600)
    session = drive(by_hand(ByHand.SOFT, [node]), pump)
    assert session.result == SessionResult.FAILED
    assert asked(node.name) == [Action.OFF_GRACEFUL]
    (bmc_cannot,) = [make_node("x1002c0s0b0n0", fake={"initial": "on", "fail": "off_graceful=unsupported"})]
    drive(by_hand(ByHand.SOFT, [bmc_cannot]), pump)
    assert asked(bmc_cannot.name) == []


def test_a_node_in_a_running_session_is_refused_by_name_and_nothing_is_created(pump):
    nodes = make_nodes(3, initial="on", off_after=3600)
    session = make_session(make_template(nodes[:2]), name="nightly")
    steps.start_pending()
    with pytest.raises(NodesBusy, match=r"session nightly is at work with x1000c0s0b0n\[0-1\]"):
        by_hand(ByHand.CYCLE, nodes)
    assert not BootSession.objects.filter(by_hand=True).exists()
    # Looking and locating disturb nobody.
    by_hand(ByHand.LOOK, nodes)
    by_hand(ByHand.LOCATE, nodes)
    left = by_hand(ByHand.OFF, nodes, busy=LEAVE)
    assert left.total_nodes == 1
    session.refresh_from_db()
    assert (session.status, session.open_nodes) == (SessionStatus.RUNNING, 2)


def test_taken_out_of_its_session_a_node_waits_until_its_worker_has_let_go(pump):
    nodes = make_nodes(2, initial="on")
    session = make_session(make_template(nodes), name="nightly")
    steps.start_pending()
    until = timezone.now() + timedelta(seconds=15)
    held = NodePhase.objects.filter(session=session, node=nodes[0], phase__name="shutdown")
    held.update(claim=7, claimed_until=until, due_at=until)
    taken = by_hand(ByHand.CYCLE, nodes, busy=TAKE)
    assert NodePhase.objects.get(session=taken, node=nodes[0]).due_at == until
    assert NodePhase.objects.get(session=taken, node=nodes[1]).due_at < until
    session.refresh_from_db()
    assert (session.status, session.result, session.taken_over) == ("complete", "superseded", 2)
    assert held.get().error == f"Taken over by action {taken.name}."
    assert not Node.objects.filter(enabled=True).exists()


def test_a_session_takes_nodes_from_an_action_and_a_retry_leaves_them_to_it(pump):
    nodes = make_nodes(2, initial="on", off_after=3600)
    first = by_hand(ByHand.OFF, nodes)
    with pytest.raises(NodesBusy, match=f"action {first.name}"):
        by_hand(ByHand.ON, nodes)
    session = make_session(make_template(nodes), name="nightly")
    steps.start_pending()
    first.refresh_from_db()
    assert (first.status, first.result) == (SessionStatus.COMPLETE, SessionResult.SUPERSEDED)
    NodePhase.objects.filter(session=session, phase__name="shutdown").move("failed", due_at=None, claim=None)
    BootSession.objects.filter(pk=session.pk).update(open_nodes=0)
    steps.sweep()
    by_hand(ByHand.ON, nodes[:1])
    assert services.retry_failed(session=BootSession.objects.get(pk=session.pk), actor=None) == 1


def test_cancelled_nothing_more_is_asked_and_a_retry_begins_again(pump):
    nodes = make_nodes(2)
    session = by_hand(ByHand.ON, nodes)
    services.cancel_session(session=session, actor=None)
    steps.Advance(pump).run()
    assert asked(nodes[0].name) == []
    bad = make_node("x1001c0s0b0n0", fake={"fail": "on=unsupported"})
    failed = drive(by_hand(ByHand.ON, [bad]), pump)
    Bmc.objects.filter(nodes=bad).update(settings={})
    assert services.retry_failed(session=failed, actor=None) == 1
    assert drive(failed, pump).result == SessionResult.SUCCEEDED
    assert asked(bad.name) == [Action.ON]


def test_locked_nodes_and_those_without_a_bmc_are_left_out():
    locked, bare, good = (
        make_node("x1c0s0b0n0", locked=True),
        make_node("x1c0s1b0n0", bmc=None),
        make_node("x1c0s2b0n0"),
    )
    made = services_power.plan(action=ByHand.OFF, ids=[locked.pk, bare.pk, good.pk])
    assert (made.names, made.left_out) == (
        [good.name],
        {"locked": [locked.name], "without a BMC": [bare.name]},
    )
    assert services_power.plan(action=ByHand.LOCATE, ids=[locked.pk]).names == [locked.name]


def test_the_locate_led_is_lit_and_put_out(pump):
    (node,) = make_nodes(1)
    drive(by_hand(ByHand.LOCATE, [node]), pump)
    assert FakeDriver.lit == {node.name}
    assert Node.objects.get().located is True
    drive(by_hand(ByHand.UNLOCATE, [node]), pump)
    assert (FakeDriver.lit, Node.objects.get().located) == (set(), False)


# -- whether BMCs answer --------------------------------------------------------------------------------


def test_a_look_learns_power_and_reach_and_tells_changes_once():
    alive, dead = make_nodes(2, initial="on")
    Bmc.objects.filter(nodes=dead).update(settings={"fail": "state=unreachable"})
    assert reach.look_around() == 2
    bmcs = {bmc.nodes.get().name: bmc for bmc in Bmc.objects.all()}
    good, bad = bmcs[alive.name], bmcs[dead.name]
    assert (good.reach, good.last_error, power_of(alive)) == ("reachable", "", "on")
    assert good.seen_at is not None
    assert good.latency is not None
    assert (bad.reach, bad.last_error, bad.seen_at) == ("unreachable", "Told to fail at state", None)
    assert power_of(dead) == "unknown"
    assert reach.look_around() == 0  # nothing is due before discovery_frequency
    Bmc.objects.update(look_at=timezone.now())
    reach.look_around()
    told = LifecycleEvent.objects.filter(name__startswith="bmc_").exclude(name="bmc_registered")
    assert [(event.name, event.data["nodes"]) for event in told] == [("bmc_unreachable", [dead.name])]
    Bmc.objects.update(look_at=timezone.now(), settings={})
    reach.look_around()
    assert [event.name for event in told.order_by("number")] == ["bmc_unreachable", "bmc_reachable"]


def test_a_look_leaves_the_power_of_nodes_that_a_session_is_at_work_with():
    nodes = make_nodes(1, initial="on")
    make_session(make_template(nodes))
    steps.start_pending()
    reach.look_around()
    assert Bmc.objects.get().reach == "reachable"
    assert power_of(nodes[0]) == "unknown"


def test_looks_come_every_discovery_frequency():
    BosOptions(pk=1, values={"discovery_frequency": 1000}).save()
    make_nodes(1)
    began = timezone.now()
    reach.look_around()
    assert 700 < (Bmc.objects.get().look_at - began).total_seconds() < 1300


def test_an_action_tells_that_a_bmc_does_not_answer(pump):
    (node,) = make_nodes(1, fail="on=timed_out")
    drive(by_hand(ByHand.ON, [node]), pump)
    assert Bmc.objects.get().reach == "unreachable"
    hurry()
