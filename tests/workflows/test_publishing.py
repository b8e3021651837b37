"""Publishing, scaling, rolling back, unpublishing: what is asked for, what is told, what a crash leaves."""

from __future__ import annotations

import dataclasses
import threading
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.utils import timezone

from events_app.models import BackgroundTask, InvalidTransition, LifecycleEvent
from tests.base import wait_until
from tests.racing import at_once, somebody_waits
from tests.workflows.conftest import service
from workflows_app import services, steps
from workflows_app.drivers.base import RuntimeFault
from workflows_app.drivers.fake import FakeRuntime
from workflows_app.models import Deployment, Replica, Revision, Service, Workflow
from workflows_app.observed import store_fault, store_observation
from workflows_app.states import DeploymentStatus

pytestmark = pytest.mark.django_db


def names() -> list[str]:
    """Names of all events so far."""
    return list(LifecycleEvent.objects.order_by("number").values_list("name", flat=True))


def publish(workflow, olga):
    task = services.publish_workflow(workflow=workflow, actor=olga)
    steps.reconcile()
    task.refresh_from_db()
    return task


def deployment() -> Deployment:
    return Deployment.objects.get()


def due_again() -> None:
    """As if the time until the next look had passed."""
    Deployment.objects.update(due_at=timezone.now() - timedelta(seconds=1))


def test_publishing_follows_the_rollout_to_its_end(make_workflow, olga, gateway):
    workflow = make_workflow(service(replicas=2), service("words"))
    task = services.publish_workflow(workflow=workflow, actor=olga)
    assert (task.status, task.kind, task.total_progress) == ("started", "workflow_publish", 3)
    assert steps.reconcile() == 1
    task.refresh_from_db()
    assert (task.status, task.current_progress, task.message) == ("done", 3, "sample is published.")
    assert task.result == {"revision": 1, "actualStatus": "GREEN"}
    assert deployment().status == DeploymentStatus.PUBLISHED
    assert Replica.objects.count() == 3
    told = names()
    assert told.index("workflow_publishing") < told.index("workflow_published")
    assert {"service_changed", "workflow_colour", "bgtask_done"} <= set(told)


def test_progress_is_told_in_the_runtimes_words(make_workflow, olga):
    task = publish(make_workflow(service(fate="pull-fail")), olga)
    assert task.status == "started"
    assert task.message == "entry: 0 of 1 active (ImagePullBackOff: Back-off pulling image)."


def test_publishing_twice_is_publishing_once(make_workflow, olga):
    workflow = make_workflow(service(fate="starting"))
    first = services.publish_workflow(workflow=workflow, actor=olga)
    assert services.publish_workflow(workflow=workflow, actor=olga).pk == first.pk
    assert Revision.objects.count() == 1
    FakeRuntime.forget_all()
    other = make_workflow(service())
    publish(other, olga)
    again = services.publish_workflow(workflow=other, actor=olga)
    assert (again.status, again.message) == ("done", "Nothing to publish.")
    assert other.revisions.count() == 1


def test_a_rollout_that_fails_ends_the_progress_bar_and_may_be_tried_again(make_workflow, olga):
    workflow = make_workflow(service(fate="deadline"))
    task = publish(workflow, olga)
    assert task.status == "failed"
    assert "timed out progressing" in task.message
    assert deployment().status == DeploymentStatus.FAILED
    assert "workflow_failed" in names()
    restarts = deployment().restarts
    assert services.publish_workflow(workflow=workflow, actor=olga).status == "started"
    assert deployment().restarts == restarts + 1  # otherwise the runtime would have nothing new to do
    assert deployment().status == DeploymentStatus.PUBLISHING


def test_a_failed_rollout_that_comes_to_its_end_after_all_is_published(make_workflow, olga):
    workflow = make_workflow(service(fate="deadline"))
    publish(workflow, olga)
    row = deployment()
    plan = row.plan(steps.stream_url())
    seen = FakeRuntime("fake", {}, {}).observe(str(row.ref))
    late = dataclasses.replace(seen.services[0], rollout="Complete", reason="", actual=1)
    store_observation(row.pk, row.claim, plan, dataclasses.replace(seen, services=(late,)))
    assert deployment().status == DeploymentStatus.PUBLISHED


def test_a_runtime_that_refuses_fails_the_publication_with_its_sentence(make_workflow, olga):
    runtime = services.create_runtime(
        name="strict", kind="fake", settings={"refuses": "quota exceeded"}, actor=olga
    )
    task = publish(make_workflow(service(), runtime=runtime), olga)
    assert (task.status, task.message) == ("failed", "quota exceeded")
    assert deployment().error == "quota exceeded"
    assert deployment().colour == "RED"


def test_a_runtime_that_does_not_answer_is_asked_again_and_given_up_in_time(make_workflow, olga):
    workflow = make_workflow(service(progress_deadline_seconds=60))
    world = FakeRuntime.world("fake")
    world.fault = RuntimeFault("nobody answers")
    task = publish(workflow, olga)
    assert task.status == "started"
    row = deployment()
    assert (row.status, row.fault, row.attempts) == ("publishing", "nobody answers", 1)
    assert row.due_at > timezone.now()
    assert row.claimed_until is None
    Deployment.objects.update(changed_at=timezone.now() - timedelta(seconds=61))
    due_again()
    steps.reconcile()
    task.refresh_from_db()
    assert (task.status, task.message) == ("failed", "nobody answers")
    # And when it answers at last, what was asked for is still done.
    world.fault = None
    due_again()
    steps.reconcile()
    assert (deployment().status, deployment().error, deployment().fault) == ("published", "", "")
    # Away again, long after: that is no failed publication, and the colour stays as it was seen.
    colour = deployment().colour
    world.fault = RuntimeFault("nobody answers")
    Deployment.objects.update(changed_at=timezone.now() - timedelta(seconds=61))
    due_again()
    steps.reconcile()
    assert (deployment().error, deployment().fault) == ("", "nobody answers")
    assert (deployment().status, deployment().colour) == ("published", colour)


def test_one_runtime_that_hangs_leaves_its_other_deployments_in_peace(make_workflow, olga):
    for place in range(3):
        services.publish_workflow(workflow=make_workflow(service(), name=f"w{place}"), actor=olga)
    FakeRuntime.world("fake").fault = RuntimeFault("time-out")
    assert steps.reconcile() == 1
    assert Deployment.objects.due(timezone.now()).count() == 0


def test_unpublishing_removes_everything_and_repeats_harmlessly(make_workflow, olga):
    workflow = make_workflow(service(replicas=2))
    publish(workflow, olga)
    task = services.unpublish_workflow(workflow=workflow, actor=olga)
    assert services.unpublish_workflow(workflow=workflow, actor=olga).pk == task.pk
    steps.reconcile()
    task.refresh_from_db()
    assert (task.status, task.kind) == ("done", "workflow_unpublish")
    assert deployment().status == DeploymentStatus.UNPUBLISHED
    assert deployment().due_at is None
    assert Service.objects.count() == 0
    assert services.unpublish_workflow(workflow=workflow, actor=olga).message == "Nothing to unpublish."
    assert FakeRuntime.world("fake").plans == {}


def test_unpublishing_what_never_was_published_is_refused(make_workflow, olga):
    with pytest.raises(InvalidTransition):
        services.unpublish_workflow(workflow=make_workflow(), actor=olga)


def test_a_removal_that_is_refused_is_red_and_tried_on(make_workflow, olga):
    workflow = make_workflow()
    publish(workflow, olga)
    world = FakeRuntime.world("fake")
    world.fault = RuntimeFault("forbidden", permanent=True)
    services.unpublish_workflow(workflow=workflow, actor=olga)
    steps.reconcile()
    assert (deployment().status, deployment().present_colour()) == ("stuck", "RED")
    world.fault = None
    due_again()
    steps.reconcile()
    assert (deployment().status, deployment().present_colour()) == ("unpublished", "GREEN")


def test_an_update_of_a_published_workflow_is_rolled_out_as_a_new_revision(make_workflow, olga):
    workflow = make_workflow(service())
    publish(workflow, olga)
    task = services.update_workflow(
        workflow=workflow, actor=olga, services=[service(image="example/image:2"), service("extra")]
    )
    assert task is not None
    steps.reconcile()
    assert deployment().revision.number == 2
    assert deployment().status == DeploymentStatus.PUBLISHED
    assert sorted(Service.objects.values_list("name", flat=True)) == ["entry", "extra"]
    services.update_workflow(workflow=workflow, actor=olga, services=[service(image="example/image:3")])
    steps.reconcile()
    assert list(Service.objects.values_list("name", flat=True)) == ["entry"]


def test_an_update_that_changes_nothing_that_runs_rolls_nothing_out(make_workflow, olga):
    workflow = make_workflow(service())
    publish(workflow, olga)
    assert services.update_workflow(workflow=workflow, actor=olga, description="words") is None
    assert deployment().revision.number == 1


def test_an_update_of_an_unpublished_workflow_only_describes(make_workflow, olga):
    workflow = make_workflow(service())
    assert services.update_workflow(workflow=workflow, actor=olga, mode="ASYNC") is None
    assert not Deployment.objects.exists()


def test_scaling_changes_desired_at_once_and_makes_no_revision(make_workflow, olga):
    workflow = make_workflow(service())
    publish(workflow, olga)
    task = services.scale_service(workflow=workflow, service="entry", replicas=3, actor=olga)
    row = Service.objects.get()
    assert (row.desired, row.actual, row.colour, row.rollout) == (3, 1, "YELLOW", "Complete")
    assert deployment().status == DeploymentStatus.PUBLISHING
    steps.reconcile()
    task.refresh_from_db()
    assert task.status == "done"
    assert Service.objects.get().actual == 3
    assert Revision.objects.count() == 1
    workflow.refresh_from_db()
    assert workflow.services[0]["replicas"] == 3


def test_scaling_to_nothing_is_green(make_workflow, olga, gateway):
    workflow = make_workflow(service())
    publish(workflow, olga)
    services.scale_service(workflow=workflow, service="entry", replicas=0, actor=olga)
    steps.reconcile()
    assert deployment().present_colour() == "GREEN"


@pytest.mark.parametrize("published", [True, False])
def test_scaling_what_is_not_there_is_refused(make_workflow, olga, published):
    workflow = make_workflow(service())
    if published:
        publish(workflow, olga)
        with pytest.raises(ValidationError):
            services.scale_service(workflow=workflow, service="nothing", replicas=1, actor=olga)
    else:
        with pytest.raises(InvalidTransition):
            services.scale_service(workflow=workflow, service="entry", replicas=2, actor=olga)
        workflow.refresh_from_db()
        assert workflow.services[0]["replicas"] == 1


def test_a_rollback_brings_back_the_revision_and_keeps_the_scale(make_workflow, olga):
    workflow = make_workflow(service(image="a:1"))
    publish(workflow, olga)
    services.update_workflow(workflow=workflow, actor=olga, services=[service(image="a:2")])
    steps.reconcile()
    services.scale_service(workflow=workflow, service="entry", replicas=4, actor=olga)
    steps.reconcile()
    services.roll_back(workflow=workflow, actor=olga)
    steps.reconcile()
    row = deployment()
    assert (row.revision.number, row.revision.restored_from) == (3, 1)
    plan = FakeRuntime.world("fake").plans[str(row.ref)]
    assert (plan.services[0].image, plan.services[0].replicas) == ("a:1", 4)
    workflow.refresh_from_db()
    assert workflow.services[0]["image"] == "a:1"
    services.roll_back(workflow=workflow, actor=olga, revision=2)
    assert deployment().revision.body["services"][0]["image"] == "a:2"
    with pytest.raises(ValidationError):
        services.roll_back(workflow=workflow, actor=olga, revision=99)


def test_the_first_revision_has_nothing_to_return_to(make_workflow, olga):
    workflow = make_workflow()
    publish(workflow, olga)
    with pytest.raises(ValidationError):
        services.roll_back(workflow=workflow, actor=olga)


def test_a_workflow_is_forgotten_only_when_nothing_of_it_runs(make_workflow, olga):
    workflow = make_workflow()
    publish(workflow, olga)
    with pytest.raises(InvalidTransition):
        services.delete_workflow(workflow=workflow, actor=olga)
    services.unpublish_workflow(workflow=workflow, actor=olga)
    steps.reconcile()
    services.delete_workflow(workflow=workflow, actor=olga)
    assert not Workflow.objects.exists()
    assert not Revision.objects.exists()


def test_a_workflow_does_not_move_to_another_runtime_while_it_runs(make_workflow, olga):
    workflow = make_workflow()
    publish(workflow, olga)
    other = services.create_runtime(name="other", kind="fake", settings={}, actor=olga)
    with pytest.raises(ValidationError):
        services.update_workflow(workflow=workflow, actor=olga, runtime=other)
    services.unpublish_workflow(workflow=workflow, actor=olga)
    steps.reconcile()
    services.update_workflow(workflow=workflow, actor=olga, runtime=other)
    publish(workflow, olga)
    assert list(FakeRuntime.world("other").plans)
    assert FakeRuntime.world("fake").plans == {}


def test_what_somebody_deleted_behind_us_is_brought_back(make_workflow, olga):
    workflow = make_workflow()
    publish(workflow, olga)
    FakeRuntime.world("fake").plans.clear()
    due_again()
    steps.reconcile()
    assert Service.objects.get().actual == 1


def test_what_is_gone_and_refused_to_come_back_is_told_as_it_is(make_workflow, olga, gateway):
    workflow = make_workflow(service(replicas=2), service("words"))
    publish(workflow, olga)
    world = FakeRuntime.world("fake")
    (ref, plan), *_ = world.plans.items()
    world.plans[ref] = dataclasses.replace(plan, services=plan.services[1:])
    world.refusal = RuntimeFault("exceeded quota", permanent=True)
    due_again()
    steps.reconcile()
    row = deployment()
    assert (row.status, row.error, row.fault) == ("published", "exceeded quota", "exceeded quota")
    assert [(each.name, each.actual, each.replicas.count()) for each in row.services.all()] == [
        ("entry", 0, 0),
        ("words", 1, 1),
    ]
    assert (row.colour, row.attempts) == ("RED", 1)
    assert "entry" in str(LifecycleEvent.objects.filter(name="service_changed").latest("number").data)
    # The same once more is no news, and is tried ever later.
    before = LifecycleEvent.objects.count()
    due_again()
    steps.reconcile()
    assert (deployment().attempts, LifecycleEvent.objects.count()) == (2, before)
    world.refusal = None
    due_again()
    steps.reconcile()
    assert (deployment().colour, deployment().error, deployment().attempts) == ("GREEN", "", 0)


def test_what_is_left_is_told_while_its_removal_is_refused(make_workflow, olga):
    workflow = make_workflow(service(), service("words"))
    publish(workflow, olga)
    world = FakeRuntime.world("fake")
    (ref, plan), *_ = world.plans.items()
    world.plans[ref] = dataclasses.replace(plan, services=plan.services[1:])
    world.refusal = RuntimeFault("forbidden", permanent=True)
    services.unpublish_workflow(workflow=workflow, actor=olga)
    steps.reconcile()
    assert [each.name for each in deployment().services.all()] == ["words"]
    assert (deployment().status, deployment().colour) == ("stuck", "RED")


def test_replicas_that_come_up_and_crash_are_no_progress(make_workflow, olga, gateway):
    """Kubernetes counts each start as progress, so its own deadline never comes."""
    task = publish(make_workflow(service(fate="crash", progress_deadline_seconds=60)), olga)
    row = deployment()
    plan = row.plan(steps.stream_url())
    seen = FakeRuntime("fake", {}, {}).observe(str(row.ref))
    (only,) = seen.services

    def look(actual: int, later: float) -> None:
        Deployment.objects.update(progress_at=deployment().progress_at - timedelta(seconds=later))
        flapping = dataclasses.replace(seen, services=(dataclasses.replace(only, actual=actual),))
        store_observation(row.pk, row.claim, plan, flapping)

    look(1, 0)  # further than ever before
    for actual in (0, 1, 0):
        look(actual, 30)
    assert deployment().status == DeploymentStatus.PUBLISHING
    look(1, 20)
    look(0, 20)
    row = deployment()
    assert (row.status, row.present_colour()) == ("failed", "RED")
    assert row.error == (
        "No progress for 120 s. entry: 0 of 1 active"
        " (CrashLoopBackOff: back-off 10s restarting failed container)."
    )
    task.refresh_from_db()
    assert (task.status, task.message) == ("failed", row.error)
    look(0, 0)
    assert deployment().error == row.error  # said as long as it is so


def test_a_crash_after_the_rollout_is_told_and_stays_rolled_out(make_workflow, olga, gateway):
    workflow = make_workflow(service())
    publish(workflow, olga)
    row = deployment()
    plan = row.plan(steps.stream_url())
    seen = FakeRuntime("fake", {}, {}).observe(str(row.ref))
    (only,) = seen.services
    (replica,) = only.replicas
    crashed = dataclasses.replace(
        replica, ready=False, available=False, state="CrashLoopBackOff", message="back-off 20s", address=""
    )
    seen = dataclasses.replace(seen, services=(dataclasses.replace(only, actual=0, replicas=(crashed,)),))
    store_observation(row.pk, row.claim, plan, seen)
    row.refresh_from_db()
    assert (row.status, row.colour) == ("published", "ORANGE")
    event = LifecycleEvent.objects.filter(name="service_changed").order_by("-number").first()
    assert event.data["service"]["rolloutStatus"] == "Complete"
    assert event.data["service"]["status"] == "RED"
    assert event.data["service"]["replicas"][replica.name]["status"] == "CrashLoopBackOff"


def test_who_lost_the_claim_writes_nothing(make_workflow, olga):
    workflow = make_workflow(service())
    services.publish_workflow(workflow=workflow, actor=olga)
    first = steps._claim(None)
    assert steps._claim(None) is None  # taken
    Deployment.objects.update(claimed_until=timezone.now() - timedelta(seconds=1))
    due_again()
    second = steps._claim(None)
    assert second.number == first.number + 1
    row = deployment()
    driver = FakeRuntime("fake", {}, {})
    plan = row.plan("")
    driver.apply(plan)
    store_observation(row.pk, first.number, plan, driver.observe(str(row.ref)))
    store_fault(row.pk, first.number, RuntimeFault("late", permanent=True))
    row = deployment()
    assert (row.status, row.error, row.fault) == ("publishing", "", "")
    steps._release(first, None)
    assert deployment().claimed_until is not None


def test_what_is_asked_for_meanwhile_is_looked_at_next(make_workflow, olga):
    workflow = make_workflow(service())
    services.publish_workflow(workflow=workflow, actor=olga)
    claim = steps._claim(None)
    services.scale_service(workflow=workflow, service="entry", replicas=2, actor=olga)
    steps._release(claim, 30.0)
    assert Deployment.objects.due(timezone.now()).exists()


def test_a_worker_that_died_is_replaced_when_its_claim_lapses(make_workflow, olga):
    workflow = make_workflow(service())
    services.publish_workflow(workflow=workflow, actor=olga)
    assert steps._claim(None) is not None
    assert steps.reconcile() == 0
    Deployment.objects.update(
        claimed_until=timezone.now() - timedelta(seconds=1), due_at=timezone.now() - timedelta(seconds=1)
    )
    assert steps.reconcile() == 1
    assert deployment().status == DeploymentStatus.PUBLISHED


def test_a_newer_request_ends_the_older_progress_bar(make_workflow, olga):
    workflow = make_workflow(service(fate="starting"))
    first = services.publish_workflow(workflow=workflow, actor=olga)
    services.update_workflow(workflow=workflow, actor=olga, services=[service(image="b:2")])
    first.refresh_from_db()
    assert first.status == "cancelled"
    assert BackgroundTask.objects.filter(status="started").count() == 1


def test_a_runtime_says_at_once_what_it_cannot_do(make_workflow, olga):
    local = services.default_runtime()
    with pytest.raises(ValidationError, match="no command"):
        make_workflow(service(), runtime=local)
    with pytest.raises(ValidationError, match="same name"):
        make_workflow(service(), service())
    with pytest.raises(ValidationError, match="no service other"):
        make_workflow(service(), entry="other")
    with pytest.raises(ValidationError, match="no port"):
        make_workflow(service(port=None), entry="entry")


def test_secrets_of_a_runtime_are_kept_encrypted_and_told_to_nobody(olga):
    runtime = services.create_runtime(
        name="safe", kind="fake", settings={"password": "hunter2-hunter2"}, actor=olga
    )
    runtime.refresh_from_db()
    assert runtime.settings == {}
    assert "hunter2" not in runtime.secret
    assert runtime.secrets() == {"password": "hunter2-hunter2"}
    assert "hunter2" not in str(list(LifecycleEvent.objects.values()))
    with pytest.raises(ValidationError) as refused:
        services.create_runtime(name="odd", kind="fake", settings={"pasword": "hunter2"}, actor=olga)
    assert "hunter2" not in str(refused.value)


@pytest.mark.engine
@pytest.mark.django_db(transaction=True)
def test_who_asks_for_something_newer_and_who_stores_a_look_wait_for_each_other(
    make_workflow, olga, monkeypatch, caplog
):
    """The publisher is stopped once it has ended the progress bar before; the look wants that bar, too."""
    workflow = make_workflow(service(replicas=2))
    services.publish_workflow(workflow=workflow, actor=olga)
    ended, looked = threading.Event(), threading.Event()
    follow = services._follow

    def stop(*given):
        task = follow(*given)
        ended.set()
        if connection.vendor == "postgresql":
            wait_until(lambda: looked.is_set() or somebody_waits(), what="the look to wait")
        return task

    monkeypatch.setattr(services, "_follow", stop)

    def look():
        assert ended.wait(60)
        try:
            return steps.reconcile()
        finally:
            looked.set()

    found = at_once(lambda: services.unpublish_workflow(workflow=workflow, actor=olga), look)
    assert not [one for one in found if isinstance(one, Exception)], found
    assert "could not be reconciled" not in caplog.text
    due_again()
    steps.reconcile()
    assert deployment().status == DeploymentStatus.UNPUBLISHED
