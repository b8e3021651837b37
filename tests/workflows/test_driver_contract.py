"""What every runtime must do, the fake first: one contract for all drivers."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.base import wait_until
from tests.workflows.hosted import KEY, REF, Running, plan
from tests.workflows.testbeds import IMAGE, start_cluster, start_podman
from workflows_app.drivers.base import Observation, Plan, Probe, RuntimeDriver, RuntimeFault
from workflows_app.drivers.fake import FakeRuntime
from workflows_app.drivers.process import ProcessRuntime


class World:
    """One driver under test: how to describe a service to it."""

    def __init__(self, driver: RuntimeDriver, make: Callable[..., Plan]) -> None:
        self.driver = driver
        self.plan = make

    def until(self, condition: Callable[[Observation], Any], what: str) -> Observation:
        seen: list[Observation] = []

        def look() -> bool:
            seen[:] = [self.driver.observe(REF)]
            return bool(condition(seen[0]))

        wait_until(look, limit=120, what=what, every=0.2)
        return seen[0]

    def until_complete(self, wanted: Plan) -> Observation:
        def done(seen: Observation) -> bool:
            running = {service.id: service for service in seen.services}
            return seen.digest == wanted.digest() and all(
                service.id in running
                and running[service.id].rollout == "Complete"
                and running[service.id].actual == service.replicas == len(running[service.id].replicas)
                for service in wanted.services
            )

        return self.until(done, "the rollout")

    def until_gone(self) -> None:
        self.until(lambda seen: not seen.services and not seen.leftovers, "the end")


def with_image(generation: int = 1, **values: Any) -> Plan:
    """The plan of a service for runtimes that run images."""
    command = ("/bin/sh", "-c", "exec httpd -f -p $HOST:$PORT -h /")
    probe = Probe("http", path="/index.html", period_seconds=0.5, timeout_seconds=10)
    return plan(generation, **{"image": IMAGE, "command": command, "probe": probe, **values})


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    yield from start_cluster()


@pytest.fixture(scope="module")
def podman() -> Iterator[Any]:
    yield from start_podman()


@pytest.fixture(
    params=[
        "fake",
        "process",
        pytest.param("container", marks=pytest.mark.process),
        pytest.param("kubernetes", marks=pytest.mark.kubernetes),
    ]
)
def world(request, settings, tmp_path) -> Iterator[World]:
    settings.MUSTER_RUNTIME_DIR = tmp_path
    yield from globals()[f"_{request.param}"](request)


def _fake(request) -> Iterator[World]:
    yield World(FakeRuntime("contract", {}, {}), with_image)


def _process(request) -> Iterator[World]:
    yield from _hosted(ProcessRuntime("contract", {}, {}), plan)


def _container(request) -> Iterator[World]:
    from workflows_app.drivers.container import ContainerRuntime

    # Docker's where a socket of its Engine is named; the image is then brought there by hand.
    url = os.environ.get("MUSTER_TEST_DOCKER") or request.getfixturevalue("podman").url
    # The host's network: a bridge would change the machine that runs the tests.
    yield from _hosted(
        ContainerRuntime("contract", {"url": url, "network": "host", "pull": "never"}, {}), with_image
    )


def _hosted(driver: Any, make: Callable[..., Plan]) -> Iterator[World]:
    running = Running(driver)
    running.start()
    yield World(driver, make)
    running.end()


def _kubernetes(request) -> Iterator[World]:
    from workflows_app.drivers.kubernetes import KubernetesRuntime

    cluster = request.getfixturevalue("cluster")
    cluster.add_nodes(2)
    world = World(
        KubernetesRuntime("contract", {}, {"kubeconfig": cluster.kubeconfig.read_text()}), with_image
    )
    yield world
    world.driver.remove(REF)
    world.until_gone()
    cluster.remove_nodes()


def test_what_was_never_asked_for_is_not_there(world):
    assert world.driver.observe(REF) == Observation("")
    world.driver.remove(REF)
    assert world.driver.observe(REF) == Observation("")


def test_a_plan_is_brought_up_changed_and_removed(world):
    wanted = world.plan(replicas=2)
    world.driver.apply(wanted)
    world.driver.apply(wanted)
    (service,) = world.until_complete(wanted).services
    assert (service.id, service.desired, service.actual) == (KEY, 2, 2)
    assert (service.updated, service.total, service.reason) == (2, 2, "")
    assert len({replica.name for replica in service.replicas}) == 2
    for replica in service.replicas:
        assert replica.ready
        assert replica.available
        assert replica.at_latest
        assert replica.state == "Running"
        assert replica.address.startswith("http://")
        assert replica.created_at.tzinfo is not None
        assert replica.started_at is not None
    names = {replica.name for replica in service.replicas}
    # Scaled: those that run stay.
    wanted = world.plan(2, replicas=3)
    world.driver.apply(wanted)
    scaled = world.until_complete(wanted).services[0]
    assert names < {replica.name for replica in scaled.replicas}
    # Changed: all are replaced, and a second service comes beside it.
    first = world.plan(3, replicas=1, environment={"V": "2"}).services[0]
    second = dataclasses.replace(first, id="words-0a0b0c0d", name="words")
    wanted = Plan(REF, "sample", 3, (first, second))
    world.driver.apply(wanted)
    both = world.until_complete(wanted)
    assert {service.id for service in both.services} == {KEY, "words-0a0b0c0d"}
    assert not {replica.name for service in both.services for replica in service.replicas} & {
        replica.name for replica in scaled.replicas
    }
    # A service that is asked for no more goes.
    wanted = Plan(REF, "sample", 4, (second,))
    world.driver.apply(wanted)
    world.until(
        lambda seen: seen.digest == wanted.digest() and [each.id for each in seen.services] == [second.id],
        "the first service's end",
    )
    for _ in range(2):
        world.driver.remove(REF)
    world.until_gone()


def test_nothing_asked_for_is_complete_at_once(world):
    wanted = world.plan(replicas=0)
    world.driver.apply(wanted)
    (service,) = world.until_complete(wanted).services
    assert (service.desired, service.actual, service.replicas) == (0, 0, ())
    world.driver.remove(REF)
    world.until_gone()


def test_another_deployment_is_left_alone(world):
    mine = world.plan()
    world.driver.apply(mine)
    world.until_complete(mine)
    assert world.driver.observe("99999999-2222-3333-4444-555555555555") == Observation("")
    world.driver.remove("99999999-2222-3333-4444-555555555555")
    world.until_complete(mine)
    world.driver.remove(REF)
    world.until_gone()


def test_logs_of_what_is_not_there_are_refused(world):
    wanted = world.plan()
    world.driver.apply(wanted)
    (replica,) = world.until_complete(wanted).services[0].replicas
    for service, name in ((KEY, "nobody"), ("another", replica.name)):
        with pytest.raises(RuntimeFault) as refused:
            world.driver.logs(REF, service, name, 10)
        assert refused.value.permanent
    world.driver.remove(REF)
    world.until_gone()


def test_what_it_cannot_run_it_says_beforehand(world):
    problems = world.driver.check(plan(image="", command=()))
    # The fake one runs everything; the others name what is missing.
    assert len(problems) == (0 if isinstance(world.driver, FakeRuntime) else 1)
    assert all(problem.startswith("Service web has no ") for problem in problems)
    assert world.driver.check(world.plan()) == []
