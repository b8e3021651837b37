"""The engine from a pending session to its end, on the fake driver: nodes boot, fail, are taken over."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection, connections
from django.utils import timezone

from events_app.models import BackgroundTask, InvalidTransition, LifecycleEvent
from sessions_app import endings, flow, services, steps, work
from sessions_app.drivers.base import Action, Patience, Reason, Result, Target
from sessions_app.drivers.fake import FakeDriver
from sessions_app.drivers.runner import SLACK_SECONDS, Pump
from sessions_app.models import BootSession, BootToken, BosOptions, Node, NodePhase, Phase
from sessions_app.services_bos import set_options
from sessions_app.states import Category, Operation, SessionResult, SessionStatus, Step
from tests.factories import make_bmc, make_node, make_nodes, make_olga, make_session, make_template

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engine]


@pytest.fixture(autouse=True)
def fresh_fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "PACE", 0.0)
    FakeDriver.nodes.clear()
    FakeDriver.journal.clear()
    endings._acted.clear()


@pytest.fixture
def pump() -> Iterator[Pump]:
    made = Pump()
    yield made
    made.close()


def report_all() -> None:
    """What nodes do that are on: fetch the boot script, report."""
    for node in Node.objects.filter(power_state="on", actual=None, desired__isnull=False):
        token = services.issue_boot_token(node=node, artifacts=node.desired)
        services.report_actual_state(token=BootToken.objects.find(token))


def hurry() -> None:
    """Let the waits that are counted in seconds be over."""
    waiting = NodePhase.objects.filter(due_at__isnull=False, claim=None).exclude(step="await_report")
    waiting.update(due_at=timezone.now())


def drive(session: BootSession, pump: Pump, *, report: bool = True, rounds: int = 60) -> BootSession:
    """Run the engine until the session is complete."""
    for _ in range(rounds):
        steps.start_pending()
        steps.Advance(pump).run()
        if report:
            report_all()
        hurry()
        session.refresh_from_db()
        if session.status == SessionStatus.COMPLETE:
            return session
    rows = list(NodePhase.objects.values_list("node__name", "phase__name", "step", "category", "due_at"))
    raise AssertionError(f"The session is {session.status} after {rounds} rounds: {rows}")


def counters(session: BootSession) -> dict[str, dict[str, int]]:
    """Each phase's counters that are not 0."""
    return {
        phase.name: {name: getattr(phase, name) for name in Category.values if getattr(phase, name)}
        for phase in Phase.objects.filter(boot_set__session=session)
    }


def rows_agree_with_counters(session: BootSession) -> bool:
    """Whether every counter is the number of rows that it counts."""
    for phase in Phase.objects.filter(boot_set__session=session):
        for name in Category.values:
            assert getattr(phase, name) == phase.node_phases.filter(category=name).count(), (phase, name)
        assert phase.turning_off == 0
    return True


def asked(name: str) -> list[str]:
    """What was switched on a node, in order."""
    return [action for node, action in FakeDriver.journal if node == name]


def test_a_reboot_goes_through_all_phases_and_succeeds(pump):
    nodes = make_nodes(6, initial="on")
    session = drive(make_session(make_template(nodes), actor=make_olga()), pump)
    assert session.result == SessionResult.SUCCEEDED
    assert counters(session) == {
        "shutdown": {"succeeded": 6},
        "boot": {"succeeded": 6},
        "configure": {"succeeded": 6},
    }
    assert rows_agree_with_counters(session)
    assert asked(nodes[0].name) == [Action.OFF_GRACEFUL, Action.ON]
    node = Node.objects.get(pk=nodes[0].pk)
    assert node.actual == node.desired
    assert (node.power_state, node.enabled, node.failed, node.error) == ("on", False, False, "")
    assert session.open_nodes == 0


def test_its_lifecycle_is_told_in_order_and_once(pump):
    session = drive(make_session(make_template(make_nodes(3, initial="on"))), pump)
    told = LifecycleEvent.objects.filter(area="session", subject_id=str(session.uuid)).order_by("number")
    assert [event.name for event in told] == [
        "session_enqueued",
        "session_preparing",
        "session_pulling",
        "session_creating",
        "session_started",
        "session_terminated",
    ]
    last = told.last().data
    assert (last["result"], last["reason"], last["sessionId"]) == (
        "SUCCESS",
        "task-finished",
        str(session.uuid),
    )


def test_every_change_of_category_is_told_so_that_a_map_can_follow(pump):
    nodes = make_nodes(3, initial="on")
    session = drive(make_session(make_template(nodes)), pump)
    seen: dict[str, dict[str, str]] = {}
    for event in LifecycleEvent.objects.filter(name="node_phases").order_by("number"):
        for phase, by_category in event.data["changes"].items():
            for category, members in by_category.items():
                seen.setdefault(phase, {}).update(dict.fromkeys(members, category))
    assert seen == {
        f"compute/{phase}": {node.name: "succeeded" for node in nodes}
        for phase in ("shutdown", "boot", "configure")
    }
    assert session.uuid is not None


def test_progress_ends_at_the_full_count(pump):
    session = drive(make_session(make_template(make_nodes(4))), pump)
    task = BackgroundTask.objects.get(pk=session.background_task_id)
    assert (task.status, task.current_progress, task.total_progress) == ("done", 12, 12)


def test_boot_of_a_node_that_is_off_only_switches_it_on(pump):
    [node] = make_nodes(1)
    drive(make_session(make_template([node]), Operation.BOOT), pump)
    assert asked(node.name) == [Action.ON]


def test_boot_of_a_node_that_runs_the_wrong_image_switches_it_off_first(pump):
    [node] = make_nodes(1, initial="on")
    session = drive(make_session(make_template([node]), Operation.BOOT), pump)
    assert asked(node.name) == [Action.OFF_GRACEFUL, Action.ON]
    assert rows_agree_with_counters(session)


def test_boot_of_a_node_that_runs_the_right_image_leaves_it_alone(pump):
    [node] = make_nodes(1)
    template = make_template([node])
    drive(make_session(template, Operation.BOOT), pump)
    FakeDriver.journal.clear()
    session = drive(make_session(template, Operation.BOOT), pump)
    assert session.result == SessionResult.SUCCEEDED
    assert asked(node.name) == []


def test_shutdown_switches_off_and_forgets_what_ran(pump):
    [node] = make_nodes(1)
    template = make_template([node])
    drive(make_session(template, Operation.BOOT), pump)
    session = drive(make_session(template, Operation.SHUTDOWN), pump)
    node.refresh_from_db()
    assert session.result == SessionResult.SUCCEEDED
    assert (node.power_state, node.actual, node.desired) == ("off", None, None)


def test_a_bmc_that_cannot_shut_down_gracefully_gets_its_power_cut(pump):
    [node] = make_nodes(1, initial="on", fail="off_graceful=unsupported")
    session = drive(make_session(make_template([node]), Operation.SHUTDOWN), pump)
    assert session.result == SessionResult.SUCCEEDED
    assert asked(node.name) == [Action.OFF_FORCED]


def test_a_node_that_does_not_go_off_in_time_gets_its_power_cut(pump):
    BosOptions.objects.create(pk=1, values={"max_power_off_wait_time": 0})
    [node] = make_nodes(1, initial="on", off_after=0.3)
    drive(make_session(make_template([node]), Operation.SHUTDOWN), pump)
    assert asked(node.name)[:2] == [Action.OFF_GRACEFUL, Action.OFF_FORCED]


def test_a_dead_bmc_fails_its_own_node_and_no_other(pump):
    live = make_nodes(4, initial="on")
    dead = make_node("x2000c0s0b0n0", fake={"fail": "state=unreachable,off_graceful=unreachable"})
    session = drive(make_session(make_template([*live, dead])), pump)
    assert session.result == SessionResult.FAILED
    assert counters(session) == {
        "shutdown": {"succeeded": 4, "failed": 1},
        "boot": {"succeeded": 4, "not_started": 1},
        "configure": {"succeeded": 4, "not_started": 1},
    }
    assert rows_agree_with_counters(session)
    row = NodePhase.objects.get(node=dead, phase__name="shutdown")
    assert row.error
    assert row.attempts == 2  # the third try is the one that gave up
    dead.refresh_from_db()
    assert (dead.failed, dead.enabled, dead.error) == (True, False, row.error)
    assert asked(dead.name) == []


@pytest.mark.parametrize(
    ("reason", "waits"),
    [
        (Reason.UNREACHABLE, [5, 30]),
        (Reason.TIMED_OUT, [5, 30]),
        (Reason.BUSY, [5, 30]),
        (Reason.REFUSED, [2, 4]),
    ],
)
def test_a_bmc_that_starts_anew_has_time_to_come_back(reason, waits):
    limits = flow.Limits(power_off=300, power_on=120, boot=1200)
    answer = Result(1, ok=False, reason=reason, error="no")
    found = [
        flow.after(
            flow.Facts("boot", Step.POWER_ON, None, tries, False, False, "", True, 3),
            answer,
            timezone.now(),
            limits,
        )
        for tries in range(3)
    ]
    assert [move.wait for move in found] == [*waits, None]
    assert [move.category for move in found] == [Category.IN_PROGRESS, Category.IN_PROGRESS, Category.FAILED]


def test_what_no_second_try_can_mend_fails_at_once(pump):
    [node] = make_nodes(1, initial="on", fail="off_graceful=unauthorised")
    drive(make_session(make_template([node])), pump)
    assert NodePhase.objects.get(node=node, phase__name="shutdown").attempts == 0


@pytest.mark.parametrize(
    ("fetched", "error"), [(None, flow.NO_SCRIPT), (-3600, flow.NO_SCRIPT), (1, flow.NO_REPORT)]
)
def test_a_node_that_never_reports_is_tried_again_and_then_fails(pump, fetched, error):
    BosOptions.objects.create(pk=1, values={"max_boot_wait_time": 0, "default_retry_policy": 2})
    [node] = make_nodes(1)
    node.script_at = fetched and timezone.now() + timedelta(seconds=fetched)
    node.save()
    session = drive(make_session(make_template([node]), Operation.BOOT), pump, report=False)
    assert session.result == SessionResult.FAILED
    assert asked(node.name) == [Action.ON, Action.OFF_GRACEFUL, Action.ON]
    assert NodePhase.objects.get(node=node, phase__name="boot").error == error


def test_a_report_that_comes_while_the_row_is_claimed_is_not_lost(pump):
    [node] = make_nodes(1)
    session = make_session(make_template([node]), Operation.BOOT)
    steps.start_pending()
    node.refresh_from_db()
    token = BootToken.objects.find(services.issue_boot_token(node=node, artifacts=node.desired))
    row = NodePhase.objects.filter(node=node, phase__name="boot")
    row.update(step="await_on", category="in_progress")
    [claimed] = work.claim_due(most=10, retry_policy=3)
    services.report_actual_state(token=token)
    row.get().refresh_from_db()
    assert row.get().claim == claimed.claim  # the report does not take the row from the worker
    move = work.Move(Category.IN_PROGRESS, "await_report", wait=1200.0)
    work.write([work.Done(claimed, move)])
    assert row.get().due_at <= timezone.now()
    assert drive(session, pump).result == SessionResult.SUCCEEDED


def test_a_newer_session_takes_nodes_over_and_the_older_one_says_so(pump):
    nodes = make_nodes(4, initial="on", off_after=30)
    template = make_template(nodes)
    older = make_session(template, name="older")
    steps.start_pending()
    steps.Advance(pump).run()
    newer = make_session(template, Operation.SHUTDOWN, name="newer", limit=f"{nodes[0]},{nodes[1]}")
    steps.start_pending()
    older.refresh_from_db()
    assert (older.taken_over, older.open_nodes, older.status) == (2, 2, "running")
    for phase in ("shutdown", "boot", "configure"):
        rows = NodePhase.objects.filter(session=older, phase__name=phase, category=Category.EXCLUDED)
        assert {row.error for row in rows} == {"Taken over by session newer."}
        assert rows.count() == 2
    assert rows_agree_with_counters(older)
    assert set(Node.objects.filter(session=newer)) == {nodes[0], nodes[1]}


def test_a_session_that_lost_all_its_nodes_is_over(pump):
    nodes = make_nodes(2, initial="on", off_after=30)
    template = make_template(nodes)
    older = make_session(template, name="older")
    steps.start_pending()
    make_session(template, name="newer")
    steps.start_pending()
    older.refresh_from_db()
    assert (older.status, older.result) == ("complete", SessionResult.SUPERSEDED)


def test_a_taken_over_node_waits_until_nobody_talks_to_its_bmc_any_more(pump):
    [node] = make_nodes(1, initial="on")
    template = make_template([node])
    make_session(template, name="older")
    steps.start_pending()
    [claimed] = work.claim_due(most=10, retry_policy=3)
    newer = make_session(template, Operation.SHUTDOWN, name="newer")
    steps.start_pending()
    row = NodePhase.objects.get(session=newer)
    assert row.due_at == NodePhase.objects.get(pk=claimed.id).claimed_until
    assert work.claim_due(most=10, retry_policy=3) == []


def test_the_result_of_a_lost_claim_is_not_written(pump):
    [node] = make_nodes(1, initial="on")
    make_session(make_template([node]))
    steps.start_pending()
    [first] = work.claim_due(most=10, retry_policy=3)
    NodePhase.objects.filter(pk=first.id).update(due_at=timezone.now())  # its time lapsed
    [second] = work.claim_due(most=10, retry_policy=3)
    assert second.claim != first.claim
    assert work.write([work.Done(first, work.Move(Category.FAILED, "", error="late"))]) == 0
    assert NodePhase.objects.get(pk=first.id).category == Category.NOT_STARTED
    assert work.write([work.Done(second, work.Move(Category.FAILED, "", error="in time"))]) == 1


def test_cancel_leaves_nothing_due_and_keeps_what_is_over(pump):
    nodes = make_nodes(3, initial="on", off_after=60)
    failing = make_node("x2000c0s0b0n0", fake={"fail": "off_graceful=unauthorised"})
    session = make_session(make_template([*nodes, failing]))
    steps.start_pending()
    steps.Advance(pump).run()
    before = list(FakeDriver.journal)
    services.cancel_session(session=session, actor=make_olga())
    session.refresh_from_db()
    assert (session.status, session.result) == ("complete", SessionResult.CANCELLED)
    assert "olga" in session.error
    assert not NodePhase.objects.filter(due_at__isnull=False).exists()
    assert counters(session)["shutdown"] == {"failed": 1, "excluded": 3}
    assert rows_agree_with_counters(session)
    assert session.open_nodes == 0
    hurry()
    steps.Advance(pump).run()
    assert FakeDriver.journal == before
    with pytest.raises(InvalidTransition):
        services.cancel_session(session=session, actor=None)


def test_a_pending_session_can_be_cancelled(pump):
    session = make_session(make_template(make_nodes(2)))
    services.cancel_session(session=session, actor=None)
    steps.start_pending()
    steps.Advance(pump).run()
    assert FakeDriver.journal == []


def test_retry_touches_exactly_the_failed_nodes(pump):
    good = make_nodes(3, initial="on")
    bad = make_node("x2000c0s0b0n0", fake={"initial": "on", "fail": "off_graceful=unauthorised"})
    session = drive(make_session(make_template([*good, bad])), pump)
    assert session.result == SessionResult.FAILED
    FakeDriver.journal.clear()
    make_bmc(f"bmc-of-{bad.name}", initial="on")
    assert services.retry_failed(session=session, actor=None) == 1
    session = drive(session, pump)
    assert session.result == SessionResult.SUCCEEDED
    assert {node for node, _ in FakeDriver.journal} == {bad.name}
    assert rows_agree_with_counters(session)


def test_retry_of_a_node_that_a_newer_session_has_is_refused(pump):
    bad = make_node("x2000c0s0b0n0", fake={"fail": "off_graceful=unauthorised"})
    template = make_template([bad])
    older = drive(make_session(template), pump)
    drive(make_session(template), pump)
    with pytest.raises(services.Refused):
        services.retry_failed(session=older, actor=None)


def test_a_session_with_nothing_due_is_found_and_says_why(pump):
    session = make_session(make_template(make_nodes(2, initial="on")))
    steps.start_pending()
    NodePhase.objects.update(due_at=None)
    steps.sweep()
    session.refresh_from_db()
    assert (session.status, session.result) == ("complete", SessionResult.FAILED)
    assert set(NodePhase.objects.filter(phase__name="shutdown").values_list("error", flat=True)) == {
        endings.STUCK
    }
    assert rows_agree_with_counters(session)


def test_a_worker_that_died_costs_one_claim_period(pump):
    [node] = make_nodes(1, initial="on")
    session = make_session(make_template([node]))
    steps.start_pending()
    [claimed] = work.claim_due(most=10, retry_policy=3)  # and then nothing: the worker is gone
    row = NodePhase.objects.get(pk=claimed.id)
    assert row.due_at - timezone.now() <= work.CLAIM
    NodePhase.objects.filter(pk=claimed.id).update(due_at=timezone.now())
    assert drive(session, pump).result == SessionResult.SUCCEEDED


def test_how_long_bmcs_are_waited_for_are_options(pump, monkeypatch):
    """`pcs_read_timeout` is the claim, the rest in proportion; `bss_read_timeout` bounds the boot source."""
    set_options(values={"pcs_read_timeout": 60, "bss_read_timeout": 30}, actor=None)
    [node] = make_nodes(1, initial="on")
    asked: list[Target] = []
    submit = pump.submit
    monkeypatch.setattr(
        pump, "submit", lambda kind, targets, **more: asked.extend(targets) or submit(kind, targets, **more)
    )
    held: list[float] = []
    claim = work.claim_due
    monkeypatch.setattr(work, "claim_due", lambda **more: held.append(more["hold"]) or claim(**more))
    drive(make_session(make_template([node])), pump)
    assert set(held) == {timedelta(seconds=60)}
    assert {target.seconds for target in asked} == {30.0}
    assert {target.boot.seconds for target in asked if target.boot} == {15.0}


@pytest.mark.parametrize("seconds", [10, 20, 86400])
def test_a_claim_outlasts_whatever_is_begun_under_it(seconds):
    options = {"pcs_read_timeout": seconds, "bss_read_timeout": 86400}
    patience = Patience.of(options)
    assert patience.claim == min(seconds, 120)
    assert patience.begin + patience.operation + SLACK_SECONDS <= patience.claim
    assert patience.boot <= patience.operation


def test_a_killed_set_up_leaves_nothing_and_begins_again(pump, monkeypatch):
    session = make_session(make_template(make_nodes(3)))
    monkeypatch.setattr("sessions_app.setup.own", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        steps.start_pending()
    session.refresh_from_db()
    assert session.status == "pending"
    assert not NodePhase.objects.exists()
    monkeypatch.undo()
    assert drive(session, pump).result == SessionResult.SUCCEEDED


@pytest.mark.parametrize("workers", [2, 4])
def test_several_workers_on_one_session_act_once_on_each_node(workers):
    nodes = make_nodes(80, initial="on", delay=0.01)
    session = make_session(make_template(nodes))
    steps.start_pending()
    over = threading.Event()

    def run() -> None:
        pump = Pump()
        try:
            while not over.is_set():
                steps.Advance(pump).run()
                time.sleep(0.01)
        finally:
            pump.close()
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        deadline = time.monotonic() + 120
        while session.status != SessionStatus.COMPLETE and time.monotonic() < deadline:
            report_all()
            hurry()
            session.refresh_from_db()
            time.sleep(0.05)
    finally:
        over.set()
        for thread in threads:
            thread.join(30)
    assert session.result == SessionResult.SUCCEEDED
    assert rows_agree_with_counters(session)
    for node in nodes:
        assert asked(node.name) == [Action.OFF_GRACEFUL, Action.ON]


def test_the_engines_statements_do_not_grow_with_the_number_of_nodes(pump):
    def statements(count: int, template_name: str) -> int:
        nodes = Node.objects.filter(name__in=[n.name for n in make_nodes(count)])
        session = make_session(make_template(list(nodes), name=template_name), Operation.SHUTDOWN)
        steps.start_pending()
        counted = []
        with connection.execute_wrapper(lambda run, *a: counted.append(a[0]) or run(*a)):
            drive(session, pump)
        return len(counted)

    statements(2, "warm-up")
    few, many = statements(10, "few"), statements(200, "many")
    assert many < few * 2
