"""The emulated BMCs fail as they are told to, and the same way each time."""

import socket
import subprocess
import sys

import pytest
import requests

from benchmarks.fleet import ROOT
from benchmarks.measure import wait_for


def faults_of(call):
    return {name for name, node in call.fleet.control("/nodes").items() if node["fault"]}


def test_a_share_of_the_bmcs_is_chosen_by_the_seed(fleet):
    chosen = [
        faults_of(fleet("--count", "200", "--fault", "stuck=0.1", "--fault", "hang=0.05", "--seed", seed))
        for seed in ("7", "7", "8")
    ]
    assert len(chosen[0]) == 30
    assert chosen[0] == chosen[1] != chosen[2]


def test_each_fault_of_a_request_looks_as_it_should(fleet):
    call = fleet("--count", "6", "--slow-seconds", "1")
    names = [node["xname"] for node in call.fleet.inventory]
    kinds = ["busy", "unauthorised", "reset", "lost", "hang", "slow"]
    call.fleet.control("/faults", dict(zip(names, kinds, strict=True)))
    busy = call.reset(0, "On")
    assert (busy.status_code, busy.headers["Retry-After"]) == (503, "1")
    assert call.reset(1, "On").status_code == 401
    for place in (2, 3):
        with pytest.raises(requests.ConnectionError, match="reset by peer"):
            call.reset(place, "On")
    with pytest.raises(requests.Timeout):
        call.reset(4, "On", timeout=0.5)
    slow = call.reset(5, "On")
    assert slow.status_code == 204
    assert slow.elapsed.total_seconds() >= 1
    nodes = call.fleet.control("/nodes")
    done = {kind for kind, name in zip(kinds, names, strict=True) if nodes[name]["power"] != "Off"}
    assert done == {"lost", "slow"}


def test_a_request_whose_client_went_away_is_carried_out_all_the_same(fleet):
    call = fleet("--count", "1", "--delay", "0.5")
    with pytest.raises(requests.Timeout):
        call.reset(0, "On", timeout=0.1)
    wait_for(lambda: call.power(0) == "On")


def test_a_stuck_node_accepts_and_stays_and_a_deaf_one_wants_force(fleet):
    call = fleet("--count", "2", "--power", "on")
    stuck, deaf = (node["xname"] for node in call.fleet.inventory)
    call.fleet.control("/faults", {stuck: "stuck", deaf: "deaf"})
    for place, kind in ((0, "ForceOff"), (1, "GracefulShutdown")):
        assert call.reset(place, kind).status_code == 204
        assert call.fleet.control("/nodes")[(stuck, deaf)[place]]["pending"] is None
        assert call.power(place) == "On"
    assert call.reset(1, "ForceOff").status_code == 204
    wait_for(lambda: call.power(1) == "Off")


@pytest.mark.parametrize("by", ["address", "port"])
def test_a_dead_bmc_refuses_and_a_silent_one_never_accepts_until_repaired(fleet, by):
    call = fleet("--count", "3", "--by", by)
    names = [node["xname"] for node in call.fleet.inventory]
    call.fleet.control("/faults", {names[0]: "dead", names[1]: "silent"})
    wait_for(lambda: call.fleet.control("/nodes")[names[1]]["fault"] == "silent")

    def place(number):
        host, port = call.fleet.inventory[number]["address"].removeprefix("http://").split(":")
        return host, int(port)

    def refuses(number):
        try:
            socket.create_connection(place(number), timeout=20).close()
        except ConnectionRefusedError:
            return True
        return False

    wait_for(lambda: refuses(0))
    with pytest.raises(TimeoutError):
        socket.create_connection(place(1), timeout=0.5)
    assert call.power(2) == "Off"
    call.fleet.control("/faults", dict.fromkeys(names))
    wait_for(lambda: not refuses(0))
    assert [call.power(number) for number in range(3)] == ["Off"] * 3


def test_flaky_requests_fail_at_their_rate_and_repeat_with_the_seed(fleet):
    seen = []
    for _ in range(2):
        call = fleet("--count", "1", "--flaky", "busy=0.3", "--seed", "5")
        seen.append([call.get(0).status_code for _ in range(200)])
    assert seen[0] == seen[1]
    assert 30 <= seen[0].count(503) <= 90


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--count", "0"], "--count and --first must name nodes"),
        (["--fault", "dead=0.1"], "in path mode all BMCs share one socket"),
        (["--flaky", "stuck=0.1"], "a property of a BMC, not of a request"),
        (["--fault", "busy=0.6", "--fault", "slow=0.6"], "sum to at most 1"),
        (["--fault", "gone=0.1"], "--fault"),
        (["--on-seconds", "3..1"], "--on-seconds"),
        (["--reset-types", "Nmi"], "Nmi is none of"),
        (["--port", "1", "--by", "address", "--count", "70000"], "must name nodes"),
    ],
)
def test_bad_options_are_refused_in_a_sentence(arguments, words):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fleet", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_told_in_a_sentence(fleet):
    taken = fleet("--count", "1").fleet.ready["address"].split(":")[2].split("/")[0]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fleet", "--port", taken],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"cannot listen on 127.0.0.1:{taken}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("wanted", [{"x1000c0s0b0n0": "gone"}, {"x9": "hang"}, {"x1000c0s0b0n0": "dead"}, []])
def test_bad_faults_at_run_time_are_refused_and_change_nothing(fleet, wanted):
    call = fleet("--count", "1")
    answer = requests.post(call.fleet.ready["control"] + "/faults", json=wanted, timeout=20)
    assert answer.status_code == 400
    assert faults_of(call) == set()


def test_the_fleet_ends_with_its_parent_and_leaves_no_certificate(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.fleet", "--count", "1", "--https", "--follow-stdin"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"TMPDIR": str(tmp_path)},
    )
    assert process.stdout.readline().startswith(b"ready ")
    assert list(tmp_path.iterdir())
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    process.stdout.close()
    assert list(tmp_path.iterdir()) == []
