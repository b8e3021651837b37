"""Redfish documents and vendors' habits: what a System offers, and what a BMC means by an error.

Nothing here talks to a BMC. The vendors' habits are tables, each with the reason for its rows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .base import Action, Power, PowerError, Reason
from .bmc_http import Answer, local_path

POWER_STATES = {
    "On": Power.ON,
    "Off": Power.OFF,
    # Neither has settled: a node on its way must not be counted as there.
    "PoweringOn": Power.CHANGING,
    "PoweringOff": Power.CHANGING,
}
GOALS = {
    Action.ON: ("On", "PoweringOn"),
    Action.OFF_GRACEFUL: ("Off", "PoweringOff"),
    Action.OFF_FORCED: ("Off", "PoweringOff"),
}
# The first of these that the System allows. "Off" is what some controllers (Cray EX) know instead.
RESET_TYPES = {
    Action.ON: ("On", "ForceOn"),
    Action.OFF_GRACEFUL: ("GracefulShutdown", "Off"),
    Action.OFF_FORCED: ("ForceOff", "Off"),
}
# Makers, by the beginning of Manufacturer in lower case, whose BMCs go back to the old boot source unless
# mode, enabled and target come together in every request.
FULL_BOOT_MAKERS = ("supermicro", "american megatrends", "ami", "asrock")
# iLO refuses the whole request when it names the mode, which it does not let be written.
NO_BOOT_MODE_MAKERS = ("hpe", "hewlett")
# Members of Systems that are no host: the accelerator board of NVIDIA's HGX and DGX machines.
NOT_HOSTS = ("HGX_",)

# MessageIds, without registry and version, that mean: not now. InvalidOperationForSystemState and
# UnableToModifyDuringSystemPOST are iLO's, ActionParameterValueConflict is iDRAC's shortly after a
# shutdown, SYS518 its "not ready", RAC0218 its session limit.
BUSY_MESSAGES = frozenset({
    "ActionParameterValueConflict", "InvalidOperationForSystemState", "RAC0218", "ResourceInStandby",
    "ResourceInUse", "ServiceInUnknownState", "ServiceShuttingDown", "ServiceTemporarilyUnavailable",
    "SessionLimitExceeded", "SYS518", "UnableToModifyDuringSystemPOST",
})  # fmt: skip
UNSUPPORTED_MESSAGES = frozenset({
    "ActionNotSupported", "ActionParameterNotSupported", "ActionParameterUnknown",
    "ActionParameterValueNotInList", "PropertyNotWritable", "PropertyUnknown", "PropertyValueNotInList",
})  # fmt: skip
TASK_RUNNING = frozenset({"New", "Starting", "Running", "Pending", "Stopping", "Suspended", "Service"})
TASK_FAILED = frozenset({"Exception", "Killed", "Cancelled", "Cancelling", "Interrupted"})

_ADDRESS = re.compile(
    r"https?://\S+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|\b(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\b"
)
_BLANK = re.compile(r"[\s\x00-\x1f\x7f]+")
MESSAGE_LENGTH = 160


class NotOffered(PowerError):
    """The BMC does not have what was asked of it; with remembered capabilities they may be out of date."""


@dataclass(slots=True)
class BootOffer:
    """What one resource (the System or its Settings) lets be set of the next boot."""

    path: str
    targets: tuple[str, ...] | None  # None: the BMC does not say which
    has_uri: bool
    mode: str  # the present one, or ""
    wants_etag: bool = False  # learned from a 412 or 428


@dataclass(slots=True)
class Capabilities:
    """What must be known of a System before switching it, and is remembered between actions."""

    read_at: float  # time.monotonic()
    reset_path: str
    reset_types: tuple[str, ...] | None  # None: the BMC does not say which
    action_info: str  # where it says so, when not in the System itself
    settings_path: str  # the System's @Redfish.Settings, not read yet, or ""
    boot: BootOffer | None  # None: the BMC has no boot override
    full_boot: bool
    no_boot_mode: bool


def at(document: object, *keys: str) -> Any:
    """A value deep inside a document, None where any part of the way is missing or of another type."""
    for key in keys:
        if not isinstance(document, dict):
            return None
        document = document.get(key)
    return document


def power_of(document: dict[str, Any]) -> Power:
    """The power state that a System document tells."""
    state = document.get("PowerState")
    return POWER_STATES.get(state, Power.UNKNOWN) if isinstance(state, str) else Power.UNKNOWN


@dataclass(slots=True)
class Led:
    """The locate LED of a System or of its chassis."""

    path: str
    name: str  # LocationIndicatorActive, or the older IndicatorLED
    words: tuple[str, ...] | None  # what the older one takes; None: the BMC does not say
    wants_etag: bool = False

    def bodies(self, *, lit: bool) -> list[dict[str, Any]]:
        """What switches it, in the order to be tried. It blinks where it can: a steady light is a healthy
        machine on some makers' fronts. iLO takes "Lit" only, and does not say so."""
        if self.name == LOCATION:
            return [{LOCATION: lit}]
        words = [word for word in ("Blinking", "Lit") if self.words is None or word in self.words]
        return [{INDICATOR: word} for word in ((words or ["Lit"]) if lit else ["Off"])]


LOCATION, INDICATOR = "LocationIndicatorActive", "IndicatorLED"


def led_of(document: dict[str, Any], path: str) -> Led | None:
    """The locate LED that a System or Chassis document offers; None where it has none."""
    if isinstance(document.get(LOCATION), bool):
        return Led(path, LOCATION, None)
    if isinstance(document.get(INDICATOR), str):
        return Led(path, INDICATOR, _words(document.get(f"{INDICATOR}@Redfish.AllowableValues")))
    return None


def lit_of(document: dict[str, Any]) -> bool | None:
    """Whether a System's locate LED is lit; None where its document does not tell."""
    if isinstance(document.get(LOCATION), bool):
        return bool(document[LOCATION])
    return {"Blinking": True, "Off": False}.get(str(document.get(INDICATOR)))


def chassis_of(document: dict[str, Any]) -> str:
    """The path of the first chassis that a System names, or ""."""
    listed = at(document, "Links", "Chassis")
    return local_path(at(listed[0], "@odata.id")) if isinstance(listed, list) and listed else ""


def etag_of(answer: Answer) -> str:
    """The ETag of the resource just read, or ""."""
    etag = answer.headers.get("ETag") or answer.document.get("@odata.etag")
    return etag if isinstance(etag, str) and etag.isprintable() else ""


def capabilities_of(document: dict[str, Any], path: str, now: float) -> Capabilities:
    """Read what a System offers out of its document, as found at `path`."""
    reset = at(document, "Actions", "#ComputerSystem.Reset")
    maker = document.get("Manufacturer")
    maker = maker.strip().lower() if isinstance(maker, str) else ""
    return Capabilities(
        read_at=now,
        reset_path=local_path(at(reset, "target")) or f"{path.rstrip('/')}/Actions/ComputerSystem.Reset",
        reset_types=_words(at(reset, "ResetType@Redfish.AllowableValues")),
        action_info=local_path(at(reset, "@Redfish.ActionInfo")),
        settings_path=local_path(at(document, "@Redfish.Settings", "SettingsObject", "@odata.id")),
        boot=boot_offer_of(document, path),
        full_boot=maker.startswith(FULL_BOOT_MAKERS),
        no_boot_mode=maker.startswith(NO_BOOT_MODE_MAKERS),
    )


def boot_offer_of(document: dict[str, Any], path: str) -> BootOffer | None:
    """What a System or its Settings resource lets be overridden; None where it has no override."""
    boot = document.get("Boot")
    if not isinstance(boot, dict) or not any(key.startswith("BootSourceOverride") for key in boot):
        return None
    mode = boot.get("BootSourceOverrideMode")
    return BootOffer(
        path=path,
        targets=_words(boot.get("BootSourceOverrideTarget@Redfish.AllowableValues")),
        has_uri="HttpBootUri" in boot,
        mode=mode if isinstance(mode, str) else "",
    )


def reset_types_of(action_info: dict[str, Any]) -> tuple[str, ...] | None:
    """The reset types named by an ActionInfo resource."""
    parameters = action_info.get("Parameters")
    for parameter in parameters if isinstance(parameters, list) else ():
        if at(parameter, "Name") == "ResetType":
            return _words(at(parameter, "AllowableValues"))
    return None


_seen: dict[tuple[str, ...], tuple[str, ...]] = {}


def _words(value: object) -> tuple[str, ...] | None:
    """A list of words as a tuple, one object for all BMCs of a model; None where there is no such list."""
    if not isinstance(value, list) or not value:
        return None
    words = tuple(word for word in value if isinstance(word, str))
    if len(_seen) > 1_000:
        _seen.clear()
    return _seen.setdefault(words, words)


def messages_of(document: dict[str, Any]) -> list[tuple[str, str]]:
    """The (id, text) pairs of an error answer or a finished task, most telling first."""
    error = document.get("error")
    holder = error if isinstance(error, dict) else document
    listed = holder.get("@Message.ExtendedInfo") or document.get("Messages")
    found = []
    for message in listed if isinstance(listed, list) else [listed]:
        identifier, text = at(message, "MessageId"), at(message, "Message")
        identifier = identifier.rpartition(".")[2] if isinstance(identifier, str) else ""
        found.append((identifier, text if isinstance(text, str) else ""))
    code, text = at(error, "code"), at(error, "message")
    if isinstance(text, str):
        found.append((code.rpartition(".")[2] if isinstance(code, str) else "", text))
    return [(identifier, text) for identifier, text in found if identifier or text]


def reason_of(answer: Answer) -> Reason:
    """What kind of refusal a 4xx or 5xx is."""
    messages = messages_of(answer.document)
    if answer.status in (401, 403):
        return Reason.UNAUTHORISED
    if answer.status in (409, 429, 503) or any(
        identifier in BUSY_MESSAGES or "not ready" in text.lower() for identifier, text in messages
    ):
        return Reason.BUSY
    if answer.status in (405, 501):
        return Reason.UNSUPPORTED
    if answer.status == 400 and any(identifier in UNSUPPORTED_MESSAGES for identifier, _ in messages):
        return Reason.UNSUPPORTED
    return Reason.REFUSED


def readable(text: str, *names: str) -> str:
    """A vendor's sentence made fit for grouping: one line, no addresses, none of `names`, not too long."""
    text = _BLANK.sub(" ", text).strip()
    text = "".join(character for character in text if character.isprintable())
    for name in names:
        if len(name) > 3:
            text = text.replace(name, "…")
    text = _ADDRESS.sub("…", text)
    return text if len(text) <= MESSAGE_LENGTH else text[: MESSAGE_LENGTH - 1].rstrip() + "…"
