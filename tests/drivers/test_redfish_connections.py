"""The Redfish driver's connections: TLS, how many are kept, sessions; and that no fault shows a secret."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sessions_app.drivers.base import OPERATION_SECONDS, Action, Power, Reason
from sessions_app.drivers.bmc_http import KEPT_MOST
from sessions_app.drivers.redfish import RedfishDriver
from tests.driver_contract import CANARY, assert_unseen, one, run

from .redfish_fleets import PXE, act, redfish_target
from .scripted_bmc import RESET, SYSTEM, Reply, ScriptedBmc, refusal

SESSIONS = "/redfish/v1/SessionService/Sessions"


class TestTls:
    def test_an_untrusted_certificate_is_refused_before_anything_is_sent(
        self, make_bmc: Callable[..., ScriptedBmc], certificate: Path
    ) -> None:
        bmc = make_bmc(certificate)
        (result,) = act(redfish_target(bmc.address, Action.ON))
        assert (result.reason, result.error) == (Reason.TLS, "BMC's certificate is not trusted")
        assert bmc.requests == []

    @pytest.mark.parametrize("by_file", [True, False])
    def test_a_ca_file_or_an_opt_out_lets_it_in(
        self, make_bmc: Callable[..., ScriptedBmc], certificate: Path, by_file: bool
    ) -> None:
        bmc = make_bmc(certificate)
        settings = {"ca_file": str(certificate)} if by_file else {"verify_tls": False}
        assert act(redfish_target(bmc.address, Action.ON, boot=PXE, **settings))[0].ok
        assert bmc.connections == 1

    def test_a_missing_ca_file_is_a_fault_of_the_settings(self) -> None:
        (result,) = act(redfish_target("https://127.0.0.1:1", Action.STATE, ca_file="/nowhere/ca.pem"))
        assert (result.reason, result.error) == (
            Reason.SETTINGS,
            "The CA file for the BMC cannot be read",
        )

    def test_plain_http_behind_an_https_address_is_told_as_tls(self, bmc: ScriptedBmc) -> None:
        (result,) = act(redfish_target(bmc.address.replace("http:", "https:"), Action.STATE))
        assert (result.reason, result.error) == (Reason.TLS, "BMC and Muster cannot agree on TLS")


class TestConnections:
    def test_too_many_are_not_kept(
        self, make_bmc: Callable[..., ScriptedBmc], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first BMC's connection is kept; the second's lasts for its boot source and its reset."""
        monkeypatch.setitem(KEPT_MOST, "http", 1)
        kept, closed = make_bmc(), make_bmc()

        async def body() -> None:
            driver = RedfishDriver()
            for _ in range(2):
                for bmc in (kept, closed):
                    assert (await one(driver, redfish_target(bmc.address, Action.STATE))).ok
            on = redfish_target(closed.address, Action.ON, boot=PXE)
            assert (await one(driver, on)).ok
            await driver.aclose()

        run(body)
        assert (kept.connections, closed.connections) == (1, 3)
        assert closed.asked() == ["GET system", "GET system", "PATCH system", "POST reset"]

    def test_a_handshake_that_never_comes_counts_as_unreachable(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sessions_app.drivers.bmc_http.CONNECT_TLS_SECONDS", 0.3)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"https://127.0.0.1:{silent.getsockname()[1]}"
            (result,) = act(redfish_target(address, Action.ON))
        assert (result.reason, result.error) == (Reason.UNREACHABLE, "BMC does not answer")


class TestSessions:
    def test_one_login_serves_many_actions_and_is_given_back(self, bmc: ScriptedBmc) -> None:
        location = f"{SESSIONS}/7"
        bmc.script("POST", SESSIONS, Reply(201, {}, {"X-Auth-Token": "t0ken", "Location": location}))
        bmc.script("DELETE", location, Reply(204))
        state = redfish_target(bmc.address, Action.STATE, auth="session")
        assert all(result.ok for result in act(state, state))
        assert bmc.asked() == [f"POST {SESSIONS}", "GET system", "GET system", f"DELETE {location}"]
        assert bmc.requests[0].body == {"UserName": "operator", "Password": CANARY}
        assert {request.headers.get("X-Auth-Token") for request in bmc.requests[1:]} == {"t0ken"}
        assert not any("Authorization" in request.headers for request in bmc.requests)

    def test_an_expired_session_is_renewed_once(self, bmc: ScriptedBmc) -> None:
        login = Reply(201, {}, {"X-Auth-Token": "t", "Location": f"{SESSIONS}/1"})
        bmc.script("POST", SESSIONS, login, login)
        bmc.script("GET", SYSTEM, Reply(401))
        assert act(redfish_target(bmc.address, Action.STATE, auth="session"))[0].ok
        assert bmc.asked()[:4] == [f"POST {SESSIONS}", "GET system", f"POST {SESSIONS}", "GET system"]

    def test_a_bmc_without_a_free_session_is_busy(self, bmc: ScriptedBmc) -> None:
        bmc.script("POST", SESSIONS, refusal(503, "RAC0218", "The maximum number of user sessions."))
        (result,) = act(redfish_target(bmc.address, Action.STATE, auth="session"))
        assert (result.reason, result.error) == (
            Reason.BUSY,
            "BMC answered 503 to the login: The maximum number of user sessions.",
        )


@pytest.mark.parametrize(
    "reply",
    [
        Reply(401),
        refusal(500, "InternalError", f"Bad password {CANARY} from 192.0.2.7 at http://bmc/x " + "y" * 300),
        Reply(500, CANARY),
        Reply(fault="reset"),
    ],
)
def test_no_fault_shows_the_password(
    bmc: ScriptedBmc, reply: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    bmc.script("POST", RESET, reply)
    (result,) = act(redfish_target(bmc.address, Action.ON))
    assert not result.ok
    assert CANARY not in repr(result)
    assert "192.0.2.7" not in result.error
    assert len(result.error) <= 200
    assert_unseen(CANARY, caplog)


def test_a_fault_of_ours_is_logged_without_the_password(
    bmc: ScriptedBmc, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(document: object) -> Power:
        raise RuntimeError(f"cannot read {CANARY}")

    monkeypatch.setattr("sessions_app.drivers.redfish.power_of", broken)
    (result,) = act(redfish_target(bmc.address, Action.STATE))
    assert (result.reason, result.error) == (Reason.INTERNAL, "Internal fault of the power driver")
    assert "cannot read ***" in caplog.text
    assert_unseen(CANARY, caplog)


@pytest.mark.parametrize(("late", "order"), [(30.0, [99, 0]), (-1.0, [0, 99])])
def test_a_hanging_bmc_lends_its_place_unless_the_loop_is_late(
    make_bmc: Callable[..., ScriptedBmc], monkeypatch: pytest.MonkeyPatch, late: float, order: list[int]
) -> None:
    """With one place and a hanging BMC in front, the live one need not wait for the time-out."""
    monkeypatch.setattr("sessions_app.drivers.bounded.PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("sessions_app.drivers.bounded.LATE_SECONDS", late)
    monkeypatch.setattr("sessions_app.drivers.bmc_http.REQUEST_SECONDS", 3.0)
    hanging, live = make_bmc(), make_bmc()
    hanging.script("GET", SYSTEM, Reply(fault="hang"))

    async def body() -> None:
        driver = RedfishDriver(in_flight=1)
        targets = [
            redfish_target(hanging.address, Action.STATE, key=0),
            redfish_target(live.address, Action.STATE, key=99),
        ]
        begin_by = time.monotonic() + OPERATION_SECONDS
        assert [result.key async for result in driver.perform(targets, begin_by=begin_by)] == order
        await driver.aclose()

    run(body)
