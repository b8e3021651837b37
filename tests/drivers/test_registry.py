"""The table of drivers, and the checking of a BMC's settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings

from sessions_app.drivers import (
    DriverSettingsError,
    check_drivers,
    driver_class,
    kinds,
    settings_of,
    split_settings,
)
from sessions_app.drivers.base import Setting
from sessions_app.drivers.fake import FakeDriver

SECRET = "hunter2-but-longer"


class PickyDriver(FakeDriver):
    """A kind that cannot do without its settings."""

    kind = "picky"
    settings = (
        Setting("username", "User name", required=True),
        Setting("password", "Password", required=True, secret=True),
    )


@pytest.fixture(autouse=True)
def _drivers() -> Iterator[None]:
    table = {**settings.MUSTER_POWER_DRIVERS, "picky": f"{__name__}.PickyDriver"}
    with override_settings(MUSTER_POWER_DRIVERS=table):
        yield


def test_the_shipped_table_is_sound() -> None:
    assert check_drivers() == []
    assert {"redfish", "fake"} <= {kind for kind, _ in kinds()}
    assert driver_class("fake") is FakeDriver
    assert settings_of("fake") is FakeDriver.settings


def test_an_unknown_kind_is_said_plainly() -> None:
    with pytest.raises(ValueError, match="There is no power driver of kind 'steam'"):
        driver_class("steam")


@override_settings(
    MUSTER_POWER_DRIVERS={
        "fake": "sessions_app.drivers.nowhere.FakeDriver",
        "redfish": "sessions_app.drivers.fake.FakeDriver",
        "text": "sessions_app.drivers.base.Target",
    }
)
def test_what_is_wrong_with_the_table_is_told_entry_by_entry() -> None:
    missing, misnamed, foreign = check_drivers()
    assert "cannot be imported" in missing
    assert "calls itself 'fake'" in misnamed
    assert "is not a subclass of PowerDriver" in foreign


def test_secrets_are_kept_apart() -> None:
    public, secret = split_settings("redfish", {"username": "root", "password": SECRET, "verify_tls": "off"})
    assert public == {"username": "root", "verify_tls": False}
    assert secret == {"password": SECRET}


def test_what_is_left_empty_is_left_to_the_default() -> None:
    public, _ = split_settings(
        "redfish", {"username": "u", "password": SECRET, "ca_file": "", "system": None}
    )
    assert public == {"username": "u"}


def test_a_stored_secret_need_not_be_given_again() -> None:
    assert split_settings("picky", {"username": "u"}, stored_secrets={"password"}) == (
        {"username": "u"},
        {},
    )


@pytest.mark.parametrize(
    ("kind", "values", "errors"),
    [
        ("picky", {}, {"username": "username is required.", "password": "password is required."}),
        ("fake", {"colour": "red"}, {"colour": "colour is not a setting of fake BMCs."}),
        ("fake", {"delay": "soon"}, {"delay": "delay must be a number."}),
        ("fake", {"delay": True}, {"delay": "delay must be a number."}),
        ("fake", {"delay": "nan"}, {"delay": "delay must be a number."}),
        ("fake", {"fail": ["on"]}, {"fail": "fail must be text."}),
        ("fake", {"initial": "half"}, {"initial": "initial must be one of on, off."}),
        (
            "redfish",
            {"username": "u", "password": SECRET, "verify_tls": "perhaps"},
            {"verify_tls": "verify_tls must be true or false."},
        ),
    ],
)
def test_each_wrong_field_has_its_sentence(kind: str, values: dict[str, Any], errors: dict[str, str]) -> None:
    with pytest.raises(DriverSettingsError) as caught:
        split_settings(kind, values)
    assert caught.value.errors == errors
    assert str(caught.value) == " ".join(errors.values())


def test_a_secret_of_the_wrong_type_is_not_repeated() -> None:
    with pytest.raises(DriverSettingsError) as caught:
        split_settings("redfish", {"username": "u", "password": [SECRET]})
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.errors)
