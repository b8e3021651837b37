"""The Redfish driver: the contract, how few requests it needs, and BMCs that misbehave."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sessions_app.drivers.base import Action, BootSource, Power, Reason, Result
from sessions_app.drivers.bounded import BOOT_SOURCE_LATE
from sessions_app.drivers.redfish import RedfishDriver
from tests.driver_contract import ContractFleet, DriverContract, one, perform, run

from .conftest import EMULATED
from .redfish_fleets import PXE, ClosedPort, EmulatedFleet, ScriptedFleet, act, redfish_target
from .scripted_bmc import RESET, SYSTEM, Reply, ScriptedBmc, refusal

SETTINGS_PATH = f"{SYSTEM}/Settings"
ACTION_INFO = f"{SYSTEM}/ResetActionInfo"


@pytest.fixture
def closed_port() -> Iterator[ClosedPort]:
    port = ClosedPort()
    yield port
    port.close()


class TestContractScripted(DriverContract):
    @pytest.fixture
    def fleet(self, make_bmc: Callable[..., ScriptedBmc], closed_port: ClosedPort) -> ContractFleet:
        return ScriptedFleet(make_bmc, closed_port.address)


@pytest.mark.process
class TestContractEmulator(DriverContract):
    @pytest.fixture
    def fleet(self, emulator: tuple[str, Path], closed_port: ClosedPort) -> ContractFleet:
        return EmulatedFleet(*emulator, EMULATED, closed_port.address)


class TestLocate:
    """The LED by which a machine is found: three places where BMCs have it."""

    def lit(self, bmc: ScriptedBmc, action: Action = Action.LOCATE) -> Result:
        return act(redfish_target(bmc.address, action))[0]

    def sent(self, bmc: ScriptedBmc) -> list[tuple[str, object]]:
        return [(request.path, request.body) for request in bmc.requests if request.method == "PATCH"]

    def test_the_newer_property_goes_first(self, bmc: ScriptedBmc) -> None:
        bmc.system |= {"LocationIndicatorActive": False, "IndicatorLED": "Lit"}
        bmc.script("PATCH", SYSTEM, Reply(204), Reply(204))
        assert self.lit(bmc).ok
        assert self.lit(bmc, Action.UNLOCATE).ok
        assert self.sent(bmc) == [
            (SYSTEM, {"LocationIndicatorActive": True}),
            (SYSTEM, {"LocationIndicatorActive": False}),
        ]

    def test_what_can_not_blink_is_lit(self, bmc: ScriptedBmc) -> None:
        bmc.system["IndicatorLED"] = "Off"
        bmc.script("PATCH", SYSTEM, refusal(400, "PropertyValueNotInList"), Reply(204))
        assert self.lit(bmc).ok
        assert [body for _, body in self.sent(bmc)] == [{"IndicatorLED": "Blinking"}, {"IndicatorLED": "Lit"}]

    def test_a_system_without_one_uses_its_chassis(self, bmc: ScriptedBmc) -> None:
        chassis = "/redfish/v1/Chassis/1"
        bmc.system["Links"] = {"Chassis": [{"@odata.id": chassis}]}
        bmc.script("GET", chassis, Reply(body={"LocationIndicatorActive": False}))
        bmc.script("PATCH", chassis, Reply(204))
        assert self.lit(bmc).ok
        assert self.sent(bmc) == [(chassis, {"LocationIndicatorActive": True})]

    def test_a_bmc_without_any_says_so(self, bmc: ScriptedBmc) -> None:
        result = self.lit(bmc)
        assert (result.ok, result.reason, result.error) == (
            False,
            Reason.UNSUPPORTED,
            "BMC has no locate LED",
        )


class TestRequests:
    """What goes over the wire, counted."""

    def test_a_state_is_one_get(self, bmc: ScriptedBmc) -> None:
        (result,) = act(redfish_target(bmc.address, Action.STATE))
        assert (result.ok, result.power, result.system) == (True, Power.OFF, "")
        assert bmc.asked() == ["GET system"]

    def test_switching_on_is_a_patch_and_a_post_on_one_connection(self, bmc: ScriptedBmc) -> None:
        act(
            redfish_target(bmc.address, Action.STATE),
            redfish_target(bmc.address, Action.ON, boot=PXE),
            redfish_target(bmc.address, Action.STATE),
        )
        assert bmc.asked() == ["GET system", "PATCH system", "POST reset", "GET system"]
        patch, post = bmc.requests[1:3]
        assert patch.body == {
            "Boot": {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe"}
        }
        assert post.body == {"ResetType": "On"}
        assert patch.headers["Content-Type"] == post.headers["Content-Type"] == "application/json"
        assert bmc.connections == 1
        assert bmc.power["1"] == "On"

    def test_an_unknown_system_is_read_once_before_switching(self, bmc: ScriptedBmc) -> None:
        act(*[redfish_target(bmc.address, Action.OFF_FORCED)] * 2)
        # Found off by the first reading, so nothing was sent; the second knows the System and trusts it.
        assert bmc.asked() == ["GET system", "POST reset"]

    def test_without_a_boot_source_nothing_is_patched(self, bmc: ScriptedBmc) -> None:
        act(redfish_target(bmc.address, Action.ON))
        assert bmc.asked() == ["GET system", "POST reset"]

    def test_an_override_may_be_switched_off_by_setting(self, bmc: ScriptedBmc) -> None:
        act(redfish_target(bmc.address, Action.ON, boot=PXE, boot_override="never"))
        assert bmc.asked() == ["GET system", "POST reset"]

    def test_a_node_that_is_on_is_left_alone(self, bmc: ScriptedBmc) -> None:
        bmc.power["1"] = "On"
        (result,) = act(redfish_target(bmc.address, Action.ON, boot=PXE))
        assert (result.ok, result.power) == (True, Power.ON)
        assert bmc.asked() == ["GET system"]

    @pytest.mark.parametrize("state", ["PoweringOn", "PoweringOff"])
    def test_a_node_on_its_way_is_neither_on_nor_off(self, bmc: ScriptedBmc, state: str) -> None:
        bmc.power["1"] = state
        assert act(redfish_target(bmc.address, Action.STATE))[0].power is Power.CHANGING

    def test_a_state_that_is_missing_is_unknown(self, bmc: ScriptedBmc) -> None:
        bmc.script("GET", SYSTEM, Reply(body={"Id": "1", "PowerState": None}))
        (result,) = act(redfish_target(bmc.address, Action.STATE))
        assert (result.ok, result.power) == (True, Power.UNKNOWN)


class TestFindingTheSystem:
    def test_the_only_system_is_found_and_reported(self, bmc: ScriptedBmc) -> None:
        (result,) = act(redfish_target(bmc.address, Action.STATE, system=""))
        assert result.system == SYSTEM
        assert bmc.asked() == ["GET /redfish/v1/Systems", "GET system"]

    def test_one_of_several_is_taken_by_its_id(self, make_bmc: Callable[..., ScriptedBmc]) -> None:
        bmc = make_bmc(systems=("Node0", "Node1"))
        bmc.power["Node1"] = "On"
        target = redfish_target(bmc.address, Action.STATE, system="")
        (result,) = act(replace(target, settings={"username": "operator", "system": "Node1"}))
        assert (result.power, result.system) == (Power.ON, "/redfish/v1/Systems/Node1")
        assert len(bmc.requests) == 1

    def test_several_without_a_choice_are_a_fault_of_the_settings(
        self, make_bmc: Callable[..., ScriptedBmc]
    ) -> None:
        bmc = make_bmc(systems=("Node0", "Node1"))
        (result,) = act(redfish_target(bmc.address, Action.ON, system=""))
        assert (result.reason, result.error) == (
            Reason.SETTINGS,
            "BMC has several systems; name the node's in its settings",
        )
        assert bmc.asked() == ["GET /redfish/v1/Systems"]

    def test_an_accelerator_board_is_no_host(self, make_bmc: Callable[..., ScriptedBmc]) -> None:
        bmc = make_bmc(systems=("HGX_Baseboard_0", "DGX"))
        (result,) = act(redfish_target(bmc.address, Action.STATE, system=""))
        assert result.system == "/redfish/v1/Systems/DGX"

    def test_a_redirect_is_followed_on_the_same_bmc_only(self, bmc: ScriptedBmc) -> None:
        bmc.script("GET", f"{SYSTEM}0", Reply(307, headers={"Location": f"http://192.0.2.1{SYSTEM}"}))
        (result,) = act(redfish_target(bmc.address, Action.STATE, system=f"{SYSTEM}0"))
        assert (result.ok, result.system) == (True, SYSTEM)

    def test_a_redirect_to_https_says_so(self, bmc: ScriptedBmc) -> None:
        bmc.script("GET", SYSTEM, Reply(301, headers={"Location": f"https://127.0.0.1{SYSTEM}"}))
        (result,) = act(redfish_target(bmc.address, Action.STATE))
        assert (result.reason, result.error) == (
            Reason.SETTINGS,
            "BMC redirects between http and https: correct its address",
        )

    def test_an_address_may_have_a_path(self, bmc: ScriptedBmc) -> None:
        bmc.script("GET", f"/bmc/7{SYSTEM}", Reply(body={**bmc.system, "PowerState": "Off"}))
        (result,) = act(redfish_target(f"{bmc.address}/bmc/7/", Action.STATE))
        assert result.ok

    @pytest.mark.parametrize(
        "address",
        [
            "",
            "bmc",
            "ftp://127.0.0.1",
            "http://",
            "http://127.0.0.1:99999",
            "https://u:p@127.0.0.1",
            "http://[1",
        ],
    )
    def test_a_wrong_address_is_a_fault_of_the_settings(self, address: str) -> None:
        assert act(redfish_target(address, Action.STATE))[0].reason is Reason.SETTINGS


class TestHabits:
    """Vendors' habits, each with the requests that it leads to."""

    @pytest.mark.parametrize("status", [400, 409])
    def test_refusing_what_is_done_already_is_a_success(self, bmc: ScriptedBmc, status: int) -> None:
        def switched_by_somebody_else() -> None:
            bmc.power["1"] = "On"

        refused = replace(refusal(status, "InvalidOperationForSystemState"), before=switched_by_somebody_else)
        bmc.script("POST", RESET, refused)
        (result,) = act(redfish_target(bmc.address, Action.ON))
        assert (result.ok, result.power) == (True, Power.ON)
        assert bmc.asked() == ["GET system", "POST reset", "GET system"]

    @pytest.mark.parametrize(
        "reply",
        [
            refusal(409, "ActionParameterValueConflict"),
            refusal(400, "InvalidOperationForSystemState"),
            Reply(500, {"error": {"message": "The iDRAC is not ready. SYS518"}}),
        ],
    )
    def test_not_now_is_busy(self, bmc: ScriptedBmc, reply: Reply) -> None:
        bmc.script("POST", RESET, reply)
        (result,) = act(redfish_target(bmc.address, Action.ON))
        assert (result.ok, result.reason) == (False, Reason.BUSY)

    def test_an_override_refused_during_post_is_busy_and_nothing_is_reset(self, bmc: ScriptedBmc) -> None:
        bmc.script("PATCH", SYSTEM, refusal(400, "UnableToModifyDuringSystemPOST"))
        (result,) = act(redfish_target(bmc.address, Action.ON, boot=PXE))
        assert result.reason is Reason.BUSY
        assert bmc.asked() == ["GET system", "PATCH system"]

    def test_a_short_retry_after_is_waited_for(self, bmc: ScriptedBmc) -> None:
        bmc.script("POST", RESET, refusal(503, "ServiceTemporarilyUnavailable", **{"Retry-After": "1"}))
        (result,) = act(redfish_target(bmc.address, Action.ON))
        assert result.ok
        assert bmc.asked() == ["GET system", "POST reset", "POST reset"]

    def test_a_long_retry_after_is_left_to_the_engine(self, bmc: ScriptedBmc) -> None:
        bmc.script("POST", RESET, refusal(503, "ServiceTemporarilyUnavailable", **{"Retry-After": "30"}))
        (result,) = act(redfish_target(bmc.address, Action.ON))
        assert result.reason is Reason.BUSY
        assert bmc.asked() == ["GET system", "POST reset"]

    def test_a_task_is_followed_to_its_end(self, bmc: ScriptedBmc) -> None:
        monitor = "/redfish/v1/TaskService/Monitors/7"
        bmc.script(
            "POST", RESET, Reply(202, headers={"Location": f"http://other{monitor}", "Retry-After": "0"})
        )
        bmc.script("GET", monitor, Reply(202, headers={"Retry-After": "0"}), Reply(204))
        (result,) = act(redfish_target(bmc.address, Action.ON))
        assert result.ok
        assert bmc.asked()[1:] == ["POST reset", f"GET {monitor}", f"GET {monitor}"]

    def test_a_failed_task_is_a_failure_with_its_message(self, bmc: ScriptedBmc) -> None:
        task = "/redfish/v1/TaskService/Tasks/7"
        failed = {"TaskState": "Exception", "Messages": [{"Message": "Power supply\n is missing."}]}
        bmc.script("POST", RESET, Reply(202, headers={"Location": task, "Retry-After": "0"}))
        bmc.script("GET", task, Reply(body={"TaskState": "Running"}, headers={"Retry-After": "0"}))
        bmc.script("GET", task, Reply(body=failed))
        (result,) = act(redfish_target(bmc.address, Action.ON))
        assert (result.reason, result.error) == (
            Reason.REFUSED,
            "BMC answered 500 to Reset: Power supply is missing.",
        )

    def test_a_task_that_takes_long_counts_as_accepted(self, bmc: ScriptedBmc) -> None:
        bmc.script("POST", RESET, Reply(202, headers={"Location": "/task", "Retry-After": "30"}))
        assert act(redfish_target(bmc.address, Action.ON))[0].ok
        assert bmc.asked() == ["GET system", "POST reset"]

    @pytest.mark.parametrize("status", [412, 428])
    def test_an_etag_is_fetched_tried_and_remembered(self, bmc: ScriptedBmc, status: int) -> None:
        tagged = Reply(body={**bmc.system, "PowerState": "Off"}, headers={"ETag": 'W/"1"'})
        bmc.script("PATCH", SYSTEM, Reply(status), Reply(status), Reply(200), Reply(200))
        bmc.script("GET", SYSTEM, Reply(body={**bmc.system, "PowerState": "Off"}), tagged, tagged)
        act(*[redfish_target(bmc.address, Action.ON, boot=PXE)] * 2)
        tags = [request.headers.get("If-Match") for request in bmc.requests if request.method == "PATCH"]
        assert tags == [None, 'W/"1"', '"1"', 'W/"1"']

    def test_an_etag_just_read_is_sent_and_dropped_when_refused(self, bmc: ScriptedBmc) -> None:
        bmc.system["@odata.etag"] = '"9"'
        bmc.script("PATCH", SYSTEM, Reply(412), Reply(412), Reply(200))
        assert act(redfish_target(bmc.address, Action.ON, boot=PXE))[0].ok
        tags = [request.headers.get("If-Match") for request in bmc.requests if request.method == "PATCH"]
        assert tags == ['"9"', '"9"', None]

    @pytest.mark.parametrize("maker", ["Supermicro", "American Megatrends International", "ASRockRack"])
    def test_some_makers_need_the_full_boot_request(self, bmc: ScriptedBmc, maker: str) -> None:
        bmc.system["Manufacturer"] = maker
        bmc.system["Boot"]["BootSourceOverrideMode"] = "Legacy"
        act(redfish_target(bmc.address, Action.ON, boot=PXE))
        assert bmc.requests[1].body["Boot"]["BootSourceOverrideMode"] == "Legacy"

    @pytest.mark.parametrize(("maker", "sent"), [("HPE", None), ("Dell Inc.", "UEFI")])
    def test_a_boot_mode_is_sent_where_it_may_be_written(
        self, bmc: ScriptedBmc, maker: str, sent: str | None
    ) -> None:
        bmc.system["Manufacturer"] = maker
        act(redfish_target(bmc.address, Action.ON, boot=PXE, boot_mode="UEFI"))
        assert bmc.requests[1].body["Boot"].get("BootSourceOverrideMode") == sent

    @pytest.mark.parametrize("offered", [True, False])
    def test_a_boot_uri_goes_only_to_bmcs_that_have_one(self, bmc: ScriptedBmc, offered: bool) -> None:
        if offered:
            bmc.system["Boot"]["HttpBootUri"] = None
        act(redfish_target(bmc.address, Action.ON, boot=BootSource("UefiHttp", "http://boot/x.efi")))
        boot = bmc.requests[1].body["Boot"]
        assert boot["BootSourceOverrideTarget"] == "UefiHttp"
        assert boot.get("HttpBootUri") == ("http://boot/x.efi" if offered else None)

    def test_a_settings_resource_gets_the_override_when_it_has_one(self, bmc: ScriptedBmc) -> None:
        bmc.system["@Redfish.Settings"] = {"SettingsObject": {"@odata.id": SETTINGS_PATH}}
        bmc.pages[SETTINGS_PATH] = {"Boot": dict(bmc.system["Boot"])}
        act(*[redfish_target(bmc.address, Action.ON, boot=PXE)] * 2)
        assert bmc.asked() == [
            "GET system",
            "GET system/Settings",
            "PATCH system/Settings",
            "POST reset",
            "PATCH system/Settings",
            "POST reset",
        ]

    def test_a_settings_resource_without_override_is_left_alone(self, bmc: ScriptedBmc) -> None:
        bmc.system["@Redfish.Settings"] = {"SettingsObject": {"@odata.id": SETTINGS_PATH}}
        bmc.pages[SETTINGS_PATH] = {"Bios": {}}
        act(redfish_target(bmc.address, Action.ON, boot=PXE))
        assert bmc.asked()[2:] == ["PATCH system", "POST reset"]

    def test_a_bmc_without_override_boots_in_its_own_order(self, bmc: ScriptedBmc) -> None:
        del bmc.system["Boot"]
        assert act(redfish_target(bmc.address, Action.ON, boot=PXE))[0].ok
        assert bmc.asked() == ["GET system", "POST reset"]

    def test_reset_types_are_read_from_the_action_info(self, bmc: ScriptedBmc) -> None:
        bmc.system["Actions"]["#ComputerSystem.Reset"] = {"target": RESET, "@Redfish.ActionInfo": ACTION_INFO}
        bmc.pages[ACTION_INFO] = {
            "Parameters": [{"Name": "ResetType", "AllowableValues": ["ForceOn", "ForceOff"]}]
        }
        on, graceful = act(
            redfish_target(bmc.address, Action.ON), redfish_target(bmc.address, Action.OFF_GRACEFUL)
        )
        assert on.ok
        assert bmc.asked()[:3] == ["GET system", "GET system/ResetActionInfo", "POST reset"]
        assert bmc.requests[2].body == {"ResetType": "ForceOn"}
        assert (graceful.reason, graceful.error) == (
            Reason.UNSUPPORTED,
            "BMC does not support GracefulShutdown",
        )

    def test_where_nothing_is_advertised_the_standard_is_tried(self, bmc: ScriptedBmc) -> None:
        del bmc.system["Actions"]
        assert act(redfish_target(bmc.address, Action.ON))[0].ok
        assert bmc.requests[-1].path == RESET

    def test_off_stands_in_for_a_graceful_shutdown(self, bmc: ScriptedBmc) -> None:
        bmc.power["1"] = "On"
        bmc.system["Actions"]["#ComputerSystem.Reset"]["ResetType@Redfish.AllowableValues"] = ["On", "Off"]
        assert act(redfish_target(bmc.address, Action.OFF_GRACEFUL))[0].ok
        assert bmc.requests[-1].body == {"ResetType": "Off"}

    def test_a_boot_source_not_listed_is_unsupported_and_nothing_is_reset(self, bmc: ScriptedBmc) -> None:
        bmc.system["Boot"]["BootSourceOverrideTarget@Redfish.AllowableValues"] = ["None", "Hdd"]
        (result,) = act(redfish_target(bmc.address, Action.ON, boot=PXE))
        assert (result.reason, result.error) == (Reason.UNSUPPORTED, "BMC does not support Pxe boot")
        assert "POST reset" not in bmc.asked()

    def test_what_was_remembered_is_read_again_when_it_is_out_of_date(self, bmc: ScriptedBmc) -> None:
        moved = f"{SYSTEM}/Actions/Oem.Reset"
        bmc.script("POST", RESET, refusal(404, "ResourceMissingAtURI"))
        bmc.script("POST", moved, Reply(204))

        async def body() -> None:
            driver = RedfishDriver()
            await one(driver, redfish_target(bmc.address, Action.STATE))
            bmc.system["Actions"]["#ComputerSystem.Reset"]["target"] = moved
            assert (await one(driver, redfish_target(bmc.address, Action.ON))).ok
            await driver.aclose()

        run(body)
        assert bmc.asked() == ["GET system", "POST reset", "GET system", "POST system/Actions/Oem.Reset"]


def packed_reply(text: str) -> Reply:
    """An answer of a BMC that compresses."""
    return Reply(body=gzip.compress(text.encode()), headers={"Content-Encoding": "gzip"})


class TestFaults:
    @pytest.mark.parametrize(
        ("reply", "reason", "error"),
        [
            (Reply(401), Reason.UNAUTHORISED, "BMC refused the credentials"),
            (Reply(403), Reason.UNAUTHORISED, "BMC denied the account this action"),
            (Reply(501), Reason.UNSUPPORTED, "BMC does not support On"),
            (
                refusal(400, "ActionParameterNotSupported"),
                Reason.UNSUPPORTED,
                "BMC does not support On",
            ),
            (Reply(500, "Out of memory"), Reason.REFUSED, "BMC answered 500 to Reset: Out of memory"),
            (Reply(500, "<html>Oops</html>"), Reason.REFUSED, "BMC answered 500 to Reset"),
            (Reply(500, '{"error": [1, {"a": null}]}'), Reason.REFUSED, "BMC answered 500 to Reset"),
        ],
    )
    def test_refusals_are_told_apart(
        self, bmc: ScriptedBmc, reply: Reply, reason: Reason, error: str
    ) -> None:
        bmc.script("POST", RESET, reply, reply)
        (result,) = act(redfish_target(bmc.address, Action.ON))
        assert (result.ok, result.reason, result.error) == (False, reason, error)

    @pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, "\xff", '{"PowerState": []}'])
    def test_documents_that_are_none(self, bmc: ScriptedBmc, text: str) -> None:
        bmc.script("GET", SYSTEM, Reply(body=text))
        (result,) = act(redfish_target(bmc.address, Action.STATE))
        assert result.reason in (None, Reason.REFUSED)
        assert result.power is Power.UNKNOWN

    def test_a_system_with_odd_types_everywhere_is_survived(self, bmc: ScriptedBmc) -> None:
        bmc.system = {
            "Manufacturer": 7,
            "Boot": {
                "BootSourceOverrideEnabled": 1,
                "BootSourceOverrideTarget@Redfish.AllowableValues": "Pxe",
            },
            "Actions": {"#ComputerSystem.Reset": [1]},
            "@Redfish.Settings": {"SettingsObject": 5},
            "@odata.etag": 3,
        }
        assert act(redfish_target(bmc.address, Action.ON, boot=PXE))[0].ok

    @pytest.mark.parametrize("packed", [False, True])
    def test_an_endless_answer_is_cut_off(
        self, bmc: ScriptedBmc, monkeypatch: pytest.MonkeyPatch, packed: bool
    ) -> None:
        monkeypatch.setattr("sessions_app.drivers.bmc_http.ANSWER_BYTES_MOST", 10_000)
        body = json.dumps({"Padding": "x" * 20_000})
        bmc.script("GET", SYSTEM, packed_reply(body) if packed else Reply(body=body))
        (result,) = act(redfish_target(bmc.address, Action.STATE))
        assert (result.reason, result.error) == (Reason.REFUSED, "BMC's answer is too long")

    def test_a_packed_answer_is_read(self, bmc: ScriptedBmc) -> None:
        broken = Reply(body=b"\x1f\x8b no gzip", headers={"Content-Encoding": "gzip"})
        bmc.script("GET", SYSTEM, packed_reply(json.dumps({**bmc.system, "PowerState": "On"})), broken)
        target = redfish_target(bmc.address, Action.STATE)
        assert act(target)[0].power is Power.ON
        assert act(target)[0].error == "BMC's answer is not valid HTTP"

    def test_a_reset_connection_is_read_again_but_never_switched_again(self, bmc: ScriptedBmc) -> None:
        bmc.script("GET", SYSTEM, Reply(fault="reset"))
        bmc.script("PATCH", SYSTEM, Reply(fault="reset"))
        bmc.script("POST", RESET, Reply(fault="reset"))
        (result,) = act(redfish_target(bmc.address, Action.ON, boot=PXE))
        assert (result.reason, result.error) == (Reason.UNREACHABLE, "BMC closed the connection")
        assert bmc.asked() == ["GET system"] * 2 + ["PATCH system"] * 2 + ["POST reset"]

    def test_a_bmc_that_hangs_is_given_up_in_time(
        self, bmc: ScriptedBmc, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sessions_app.drivers.bmc_http.REQUEST_SECONDS", 0.3)
        bmc.script("POST", RESET, Reply(fault="hang"))
        (result,) = act(redfish_target(bmc.address, Action.ON))
        assert (result.reason, result.error) == (Reason.TIMED_OUT, "BMC did not answer in time")
        assert bmc.asked() == ["GET system", "POST reset"]

    def test_a_bmc_that_is_slow_at_each_request_is_given_up_in_time(
        self, bmc: ScriptedBmc, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sessions_app.drivers.bounded.OPERATION_SECONDS", 0.3)
        bmc.script("PATCH", SYSTEM, Reply(fault="hang"))
        (result,) = act(redfish_target(bmc.address, Action.ON, boot=PXE))
        assert result.reason is Reason.TIMED_OUT
        assert "POST reset" not in bmc.asked()

    def test_a_target_says_how_long_its_action_and_its_boot_source_may_take(self, bmc: ScriptedBmc) -> None:
        bmc.script("PATCH", SYSTEM, Reply(fault="hang"))
        (result,) = act(redfish_target(bmc.address, Action.ON, boot=replace(PXE, seconds=0.3)))
        assert (result.reason, result.error) == (Reason.TIMED_OUT, BOOT_SOURCE_LATE)
        bmc.script("POST", RESET, Reply(fault="hang"))
        (result,) = act(replace(redfish_target(bmc.address, Action.ON), seconds=0.3))
        assert (result.reason, result.error) == (Reason.TIMED_OUT, "BMC did not answer in time")

    @pytest.mark.parametrize("slow", [True, False])
    def test_no_switch_is_sent_once_the_time_to_begin_has_passed(
        self, bmc: ScriptedBmc, monkeypatch: pytest.MonkeyPatch, slow: bool
    ) -> None:
        """The boot source took so long that the reset would come too late; whose fault it was depends."""
        monkeypatch.setattr("sessions_app.drivers.bounded.SLOW_SECONDS", 1.0 if slow else 60.0)
        bmc.script("PATCH", SYSTEM, Reply(200, before=lambda: time.sleep(1.5)))

        async def body() -> None:
            driver = RedfishDriver()
            target = redfish_target(bmc.address, Action.ON, boot=PXE)
            result = await one(driver, target, begin_in=1.2)
            assert (result.ok, result.begun) == (False, slow)
            assert result.error == ("BMC was too slow to be switched in time" if slow else "")
            await driver.aclose()

        run(body)
        assert "POST reset" not in bmc.asked()

    def test_a_silent_bmc_is_left_alone_until_it_may_be_probed(
        self, bmc: ScriptedBmc, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [1_000.0]
        monkeypatch.setattr("sessions_app.drivers.bounded.Breaker.now", lambda self: now[0])
        bmc.script("GET", SYSTEM, *[Reply(fault="reset")] * 8)

        async def body() -> None:
            driver = RedfishDriver()
            state = redfish_target(bmc.address, Action.STATE)
            for failures in range(3):
                assert len(bmc.requests) == 2 * failures
                assert (await one(driver, state)).reason is Reason.UNREACHABLE
            result = await one(driver, state)
            assert (result.reason, result.error) == (Reason.UNREACHABLE, "BMC does not answer")
            assert len(bmc.requests) == 6
            now[0] += 5.1
            await perform(driver, state, replace(state, key=2), replace(state, key=3))
            assert len(bmc.requests) == 8, "one probe, and its failure stands for the others"
            now[0] += 5.1
            await one(driver, state)
            assert len(bmc.requests) == 8, "the second pause is longer"
            now[0] += 5.1
            assert (await one(driver, state)).ok
            assert (await one(driver, state)).ok
            await driver.aclose()

        run(body)

    def test_a_switch_is_never_refused_for_longer_than_the_first_pause(
        self, bmc: ScriptedBmc, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [1_000.0]
        monkeypatch.setattr("sessions_app.drivers.bounded.Breaker.now", lambda self: now[0])
        bmc.script("GET", SYSTEM, *[Reply(fault="reset")] * 10)

        async def body() -> None:
            driver = RedfishDriver()
            state = redfish_target(bmc.address, Action.STATE)
            for _ in range(5):
                await one(driver, state)
                now[0] += 10.1
            now[0] -= 5.2  # 4.9 s after the last failure
            switch = replace(state, action=Action.OFF_FORCED)
            assert (await one(driver, switch)).reason is Reason.UNREACHABLE
            now[0] += 0.2
            assert (await one(driver, state)).reason is Reason.UNREACHABLE
            assert len(bmc.requests) == 10, "the fifth failure opened it for 20 s"
            assert (await one(driver, switch)).ok
            await driver.aclose()

        run(body)
