"""What the tests of the emulated fleet share."""

import pytest
import requests

from benchmarks.fleet import FleetProcess

# Short enough that a test does not linger, long enough that two states can be told apart.
QUICK = ("--on-seconds", "0.2", "--off-seconds", "0.1", "--graceful-seconds", "0.2")


class Caller:
    """A plain Redfish client of one fleet."""

    def __init__(self, fleet):
        self.fleet = fleet
        self.http = requests.Session()
        self.http.trust_env = False  # a CA bundle of the environment would win over ours
        self.http.verify = fleet.ready["ca"] or True

    def url(self, place, path=""):
        node = self.fleet.inventory[place]
        return node["address"] + (path or node["system"])

    def get(self, place, path="", **more):
        return self.http.get(self.url(place, path), timeout=20, **more)

    def power(self, place):
        return self.get(place).json()["PowerState"]

    def reset(self, place, kind, **more):
        path = self.fleet.inventory[place]["system"] + "/Actions/ComputerSystem.Reset"
        return self.http.post(self.url(place, path), json={"ResetType": kind}, **({"timeout": 20} | more))

    def patch(self, place, boot, **more):
        return self.http.patch(self.url(place), json={"Boot": boot}, timeout=20, **more)


@pytest.fixture
def fleet():
    """A function that starts fleets; all are stopped after the test."""
    started = []

    def start(*arguments):
        started.append(FleetProcess(*QUICK, *arguments))
        return Caller(started[-1])

    yield start
    for one in started:
        one.stop()
