"""The emulated BMCs answer as real ones do."""

import socket

import pytest
import requests

from benchmarks.measure import wait_for


@pytest.mark.parametrize("by", ["path", "port", "address"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_each_bmc_has_its_own_system_whatever_the_addressing(fleet, by, scheme):
    call = fleet("--count", "3", "--by", by, *(["--https"] if scheme == "https" else []))
    assert [node["xname"] for node in call.fleet.inventory] == [
        "x1000c0s0b0n0",
        "x1000c0s0b0n1",
        "x1000c0s0b1n0",
    ]
    assert all(node["address"].startswith(f"{scheme}://127.") for node in call.fleet.inventory)
    assert call.get(1, "/redfish/v1/").json()["Systems"] == {"@odata.id": "/redfish/v1/Systems"}
    members = call.get(1, "/redfish/v1/Systems").json()["Members"]
    assert members == [{"@odata.id": call.fleet.inventory[1]["system"]}]
    assert call.reset(1, "On").status_code == 204
    wait_for(lambda: call.power(1) == "On")
    assert [call.get(place).json()["Name"] for place in range(3)] == [
        node["xname"] for node in call.fleet.inventory
    ]
    assert [call.power(place) for place in (0, 2)] == ["Off", "Off"]


def test_a_fleet_can_be_made_of_several_processes(fleet):
    call = fleet("--first", "256", "--count", "2", "--system", "Self")
    assert [(node["xname"], node["nid"], node["mac"]) for node in call.fleet.inventory] == [
        ("x1001c0s0b0n0", 257, "02:00:00:00:01:00"),
        ("x1001c0s0b0n1", 258, "02:00:00:00:01:01"),
    ]
    assert call.get(1).json()["Id"] == "Self"
    outside = call.fleet.ready["address"].replace("/bmc/00256", "/bmc/00255")
    assert requests.get(outside + "/redfish/v1/", timeout=20).status_code == 404


def test_power_passes_through_its_transition(fleet):
    call = fleet("--count", "1", "--on-seconds", "30", "--graceful-seconds", "30", "--power", "on")
    assert call.reset(0, "GracefulShutdown").status_code == 204
    assert call.power(0) == "PoweringOff"
    assert call.reset(0, "ForceOff").status_code == 204
    wait_for(lambda: call.power(0) == "Off")
    assert call.reset(0, "On").status_code == 204
    assert call.power(0) == "PoweringOn"


def test_plain_states_hide_the_transition(fleet):
    call = fleet("--count", "1", "--on-seconds", "30", "--plain-states")
    call.reset(0, "On")
    assert call.fleet.control()["pending"] == 1
    assert call.power(0) == "Off"


def test_an_opposite_order_is_refused_while_power_changes_but_a_forced_off_is_taken(fleet):
    call = fleet("--count", "1", "--power", "on", "--graceful-seconds", "30", "--on-seconds", "30")
    assert call.reset(0, "GracefulShutdown").status_code == 204
    assert call.reset(0, "On").status_code == 409
    assert call.reset(0, "ForceRestart").status_code == 409
    assert call.reset(0, "ForceOff").status_code == 204
    wait_for(lambda: call.power(0) == "Off")
    assert call.reset(0, "On").status_code == 204
    assert call.reset(0, "ForceOff").status_code == 204
    wait_for(lambda: call.power(0) == "Off")


def test_a_strict_bmc_refuses_what_is_done_already(fleet):
    call = fleet("--count", "1", "--strict")
    assert call.reset(0, "ForceOff").status_code == 409
    assert fleet("--count", "1").reset(0, "ForceOff").status_code == 204


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/Actions/ComputerSystem.Reset", b'{"ResetType": "Nmi"}', 400),
        ("POST", "/Actions/ComputerSystem.Reset", b"[]", 400),
        ("POST", "/Actions/ComputerSystem.Reset", b"{", 400),
        ("GET", "/Actions/ComputerSystem.Reset", b"", 405),
        ("PUT", "", b"{}", 405),
        ("PATCH", "", b'{"AssetTag": "x"}', 400),
        ("PATCH", "", b'{"Boot": {"BootSourceOverrideTarget": "Floppy"}}', 400),
        ("PATCH", "", b'{"Boot": {"HttpBootUri": "http://127.0.0.1/x"}}', 400),
        ("GET", "/Nothing", b"", 404),
    ],
)
def test_bad_requests_are_refused_and_change_nothing(fleet, method, path, body, status):
    call = fleet("--count", "1")
    before = call.get(0).content
    answer = call.http.request(method, call.url(0) + path, data=body, timeout=20)
    assert (answer.status_code, answer.json()["error"]["code"][:5]) == (status, "Base.")
    assert call.get(0).content == before


def test_what_is_no_http_is_refused_and_the_connection_closed(fleet):
    call = fleet("--count", "1", "--by", "port")
    host, port = call.fleet.ready["address"].removeprefix("http://").split(":")
    for garbage in (b"hello\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"x" * 20_000):
        with socket.create_connection((host, int(port)), timeout=20) as raw:
            raw.sendall(garbage)
            answer = raw.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 4")
        assert b"Connection: close" in answer


def test_requests_that_come_at_once_or_in_pieces_are_answered_in_order(fleet):
    call = fleet("--count", "1", "--by", "port", "--delay", "0.05")
    host, port = call.fleet.ready["address"].removeprefix("http://").split(":")
    one = b"GET /redfish/v1/Systems HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /redfish HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.sendall(one + one[:10])
        raw.sendall(one[10:] + last)
        answer = raw.makefile("rb").read()
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.endswith(b'{"v1": "/redfish/v1/"}')


def test_the_boot_override_holds_for_one_boot(fleet):
    call = fleet("--count", "1")
    assert call.patch(0, {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe"}).ok
    boot = call.get(0).json()["Boot"]
    assert (boot["BootSourceOverrideEnabled"], boot["BootSourceOverrideTarget"]) == ("Once", "Pxe")
    call.reset(0, "On")
    wait_for(lambda: call.power(0) == "On")
    boot = call.get(0).json()["Boot"]
    assert (boot["BootSourceOverrideEnabled"], boot["BootSourceOverrideTarget"]) == ("Disabled", "None")


def test_http_boot_is_taken_where_it_is_advertised(fleet):
    call = fleet("--count", "1", "--http-boot")
    uri = 'http://127.0.0.1/"quoted"'
    wanted = {
        "BootSourceOverrideEnabled": "Once",
        "BootSourceOverrideTarget": "UefiHttp",
        "HttpBootUri": uri,
    }
    assert call.get(0).json()["Boot"]["HttpBootUri"] == ""
    assert call.patch(0, wanted).status_code == 204
    assert call.get(0).json()["Boot"]["HttpBootUri"] == uri


def test_an_etag_can_be_required(fleet):
    call = fleet("--count", "1", "--etag", "required")
    boot = {"BootSourceOverrideTarget": "Pxe"}
    assert call.patch(0, boot).status_code == 428
    etag = call.get(0).headers["ETag"]
    assert call.patch(0, boot, headers={"If-Match": etag}).status_code == 204
    assert call.patch(0, boot, headers={"If-Match": etag}).status_code == 412
    assert "ETag" not in fleet("--count", "1", "--etag", "none").get(0).headers


def test_a_task_monitor_ends_when_the_power_has_settled(fleet):
    call = fleet("--count", "1", "--monitor", "--on-seconds", "30")
    answer = call.reset(0, "On")
    assert (answer.status_code, answer.headers["Retry-After"]) == (202, "1")
    monitor = answer.headers["Location"]
    assert call.get(0, monitor).status_code == 202
    call.reset(0, "ForceOff")
    wait_for(lambda: call.get(0, monitor).status_code == 204)
    assert call.power(0) == "Off"
    assert call.get(0, monitor + "9").status_code == 404


def test_reset_types_can_be_few_and_told_by_action_info(fleet):
    call = fleet("--count", "1", "--action-info", "--reset-types", "On,ForceOff")
    action = call.get(0).json()["Actions"]["#ComputerSystem.Reset"]
    assert "ResetType@Redfish.AllowableValues" not in action
    info = call.get(0, action["@Redfish.ActionInfo"]).json()
    assert info["Parameters"][0]["AllowableValues"] == ["On", "ForceOff"]
    assert call.reset(0, "GracefulShutdown").status_code == 400


def test_basic_authentication_guards_all_but_the_root(fleet):
    call = fleet("--count", "1", "--auth", "basic", "--user", "root", "--password", "open sesame")
    assert call.get(0, "/redfish/v1/").status_code == 200
    assert call.get(0).status_code == 401
    assert call.get(0, auth=("root", "wrong")).status_code == 401
    assert call.get(0, auth=("root", "open sesame")).status_code == 200


def test_sessions_are_limited_per_bmc_and_end(fleet):
    call = fleet("--count", "2", "--auth", "session", "--session-limit", "1")
    path = "/redfish/v1/SessionService/Sessions"
    login = {"UserName": "admin", "Password": "emulated"}
    assert call.get(0, auth=("admin", "emulated")).status_code == 401
    assert call.http.post(call.url(0, path), json=login | {"Password": "x"}, timeout=20).status_code == 401
    answer = call.http.post(call.url(0, path), json=login, timeout=20)
    token = {"X-Auth-Token": answer.headers["X-Auth-Token"]}
    assert call.get(0, headers=token).status_code == 200
    assert call.get(1, headers=token).status_code == 401
    assert call.http.post(call.url(0, path), json=login, timeout=20).status_code == 503
    place = call.url(0, answer.headers["Location"])
    assert call.http.delete(place, headers=token, timeout=20).status_code == 204
    assert call.get(0, headers=token).status_code == 401
