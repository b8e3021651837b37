"""Emulated nodes that are switched on fetch their boot script and report, as real ones do."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from benchmarks.measure import wait_for

NODE_QUICK = ("--firmware-seconds", "0.1", "--boot-seconds", "0.1", "--retry-seconds", "0.1")


class Muster(ThreadingHTTPServer):
    """Stands in for the two doors of the service that a node knows."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Door)
        self.seen = []
        self.refuse = {"GET": [], "PATCH": []}  # statuses to answer first

    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        place = urlsplit(self.path)
        name = parse_qs(place.query)["name"][0]
        script = f"#!ipxe\nkernel http://x/k console=ttyS0 bss_referral_token=token-of-{name} quiet\nboot\n"
        self._answer(("GET", place.path, name), 200, script.encode())

    def do_PATCH(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(("PATCH", self.path, self.headers["Authorization"], body), 200, b"{}")

    def _answer(self, seen, status, body):
        self.server.seen.append(seen)
        if self.server.refuse[seen[0]]:
            status, body = self.server.refuse[seen[0]].pop(0), b"not now"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def muster():
    server = Muster()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def stages(call):
    return call.fleet.control()["stages"]


def test_a_node_fetches_its_script_and_reports_its_token(fleet, muster):
    call = fleet("--count", "2", "--muster", muster.url(), *NODE_QUICK)
    call.reset(1, "On")
    wait_for(lambda: stages(call) == {"reported": 1})
    name = "x1000c0s0b0n1"
    assert muster.seen == [
        ("GET", "/apis/bss/boot/v1/bootscript", name),
        (
            "PATCH",
            f"/apis/bos/v2/components/{name}",
            f"Bearer token-of-{name}",
            {"id": name, "actual_state": {"bss_token": f"token-of-{name}"}},
        ),
    ]


def test_it_tries_again_until_it_is_accepted(fleet, muster, tmp_path):
    muster.refuse = {"GET": [503, 404, 200], "PATCH": [500, 409]}
    log = tmp_path / "log"
    call = fleet("--count", "1", "--muster", muster.url(), "--log", str(log), *NODE_QUICK)
    call.reset(0, "On")
    wait_for(lambda: stages(call) == {"reported": 1})
    assert [seen[0] for seen in muster.seen] == ["GET"] * 4 + ["PATCH"] * 3
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["status"] for line in lines if line["kind"] == "script"] == [503, 404, 200, 200]
    assert [line["status"] for line in lines if line["kind"] == "reported"] == [500, 409, 200]


def test_a_node_that_is_switched_off_says_no_more(fleet, muster):
    call = fleet("--count", "1", "--muster", muster.url(), "--firmware-seconds", "3", "--boot-seconds", "0.1")
    call.reset(0, "On")
    wait_for(lambda: call.power(0) == "On")
    call.reset(0, "ForceOff")
    wait_for(lambda: call.power(0) == "Off")
    assert stages(call) == {}
    call.reset(0, "On")
    wait_for(lambda: stages(call) == {"reported": 1})
    assert [seen[0] for seen in muster.seen] == ["GET", "PATCH"]


def test_a_restart_boots_it_anew(fleet, muster):
    call = fleet("--count", "1", "--power", "on", "--muster", muster.url(), *NODE_QUICK)
    assert call.reset(0, "ForceRestart").status_code == 204
    wait_for(lambda: stages(call) == {"reported": 1})
    assert call.reset(0, "ForceRestart").status_code == 204
    wait_for(lambda: len(muster.seen) == 4)


def test_a_service_that_is_away_is_waited_for(fleet):
    call = fleet("--count", "1", "--muster", "http://127.0.0.1:1", *NODE_QUICK)
    call.reset(0, "On")
    wait_for(lambda: call.fleet.control()["node_answers"].get("script ClientConnectorError", 0) > 2)
    assert stages(call) == {"starting": 1}
