"""Network connection profiles: which CSMS the station may speak to, and in which order.

Charter: how profiles are kept in the device model (as OCPP 2.1 names it), what is wrong with one that a CSMS wants, and
the order in which slots are tried. Pure.

Slot 1 is ``[csms]`` of the configuration file; the others are the CSMS's. A technician has the last word: where the
file names another CSMS or security profile than it did, what the CSMS has set is forgotten.

The order is the CSMS's; behind it comes the slot that worked last, so that a mistake leaves a way back. The first one
of the new order that works is that slot then, and the way back is closed. A security profile is never lowered.

Units: seconds. Sources: OCPP 2.0.1 part 2 A05, B09, B10; 2.1 appendix 3 (NetworkConfiguration); checklist WS-10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from agent.config.catalogue import NETWORK_SLOTS, R, fixed_integer, key, option, text
from agent.config.fields import is_url, small_scheme
from agent.config.model import CsmsConfig, OcppVersion
from agent.config.variable import Key, VariableSpec
from agent.ipc.networks import NetworkProfile

FILE_SLOT: Final = 1
CSMS_SLOTS: Final = tuple(slot for slot in NETWORK_SLOTS if slot != FILE_SLOT)
PRIORITY: Final = key("OCPPCommCtrlr.NetworkConfigurationPriority")
ACTIVE: Final = key("OCPPCommCtrlr.ActiveNetworkProfile")
SECURITY_PROFILE: Final = key("SecurityCtrlr.SecurityProfile")
TIMEOUT_MAX_S: Final = 600

VERSIONS: Final = {"OCPP16": OcppVersion.V16, "OCPP20": OcppVersion.V201}
"""OCPPVersionEnumType: 2.0.1 calls itself OCPP20, since 2.0 was withdrawn."""

_URL = "OcppCsmsUrl"
_SECURITY = "SecurityProfile"
_COMPONENT = "NetworkConfiguration"
_INTERFACES = (*(f"Wired{number}" for number in range(4)), *(f"Wireless{number}" for number in range(4)))


def slot_key(slot: int, variable: str) -> Key:
    return Key(_COMPONENT, variable, component_instance=str(slot))


def profile_specs(csms: CsmsConfig | None) -> dict[Key, VariableSpec]:
    """The variables of all slots. An empty slot has no URL."""
    specs = {
        slot_key(slot, variable): spec
        for slot in NETWORK_SLOTS
        for variable, spec in (
            (_URL, text("", 512, R)),
            ("OcppVersion", option("OCPP20", tuple(VERSIONS))),
            ("OcppTransport", option("JSON", ("JSON",))),
            (_SECURITY, fixed_integer(0, 3)),
            ("MessageTimeout", replace(fixed_integer(30, TIMEOUT_MAX_S), unit="s")),
            ("OcppInterface", option("Wired0", _INTERFACES)),
        )
    }
    if csms is not None:
        version = next(name for name, each in VERSIONS.items() if each is csms.versions[0])
        for name, value in (_of_file(csms) | {slot_key(FILE_SLOT, "OcppVersion"): version}).items():
            specs[name] = replace(specs[name], default=value)
    return specs


def settings_of(csms: CsmsConfig, slot: int, profile: NetworkProfile) -> dict[Key, str]:
    """What is to be kept of a profile; beside it, by which file it was accepted."""
    return _of_file(csms) | {
        slot_key(slot, _URL): small_scheme(profile.url),
        slot_key(slot, "OcppVersion"): profile.version,
        slot_key(slot, _SECURITY): str(profile.security_profile),
        slot_key(slot, "MessageTimeout"): str(profile.message_timeout_s),
        slot_key(slot, "OcppInterface"): profile.interface,
    }


def profile_in(settings: Mapping[str, str], slot: int) -> NetworkProfile | None:
    """What stands in a slot, of settings by key text; None: nothing does."""

    def of(variable: str) -> str:
        return settings.get(str(slot_key(slot, variable)), "")

    if not of(_URL):
        return None
    return NetworkProfile(
        of(_URL), of("OcppVersion"), int(of(_SECURITY)), int(of("MessageTimeout")), of("OcppInterface")
    )


def order_in(settings: Mapping[str, str]) -> tuple[int, ...]:
    """The slots that the CSMS wants tried, in order, of settings by key text; never none."""
    listed = [int(slot) for slot in settings.get(str(PRIORITY), "").split(",") if slot]
    least, filled = int(settings.get(str(SECURITY_PROFILE), "0")), security_profiles_in(settings)
    return tuple(slot for slot in listed if filled.get(slot, -1) >= least) or (worked_last_in(settings),)


def worked_last_in(settings: Mapping[str, str]) -> int:
    """The slot that worked last, of settings by key text."""
    slot = int(settings.get(str(ACTIVE), str(FILE_SLOT)))
    return FILE_SLOT if profile_in(settings, slot) is None else slot


def security_profiles_in(settings: Mapping[str, str]) -> dict[int, int]:
    """The security profile of each slot that is filled, of settings by key text."""
    found = {slot: profile_in(settings, slot) for slot in NETWORK_SLOTS}
    return {slot: profile.security_profile for slot, profile in found.items() if profile is not None}


def outdated(csms: CsmsConfig | None, stored: Mapping[str, str]) -> tuple[str, ...]:
    """The names of stored settings that another configuration file has led to, and that are to be forgotten."""
    now = {} if csms is None else {str(name): value for name, value in _of_file(csms).items()}
    kept = (str(slot_key(FILE_SLOT, variable)) for variable in (_URL, _SECURITY))
    if all(now.get(name) == stored[name] for name in kept if name in stored):
        return ()
    ours = {str(name) for name in (PRIORITY, ACTIVE, SECURITY_PROFILE)}
    return tuple(name for name in stored if name in ours or name.startswith(f"{_COMPONENT}["))


def wrong_with(profile: NetworkProfile, csms: CsmsConfig, least: int, *, has_password: bool, has_root: bool) -> str:
    """Why the station cannot take this profile, in plain words; empty: it can. ``least``: the security profile that
    must not be lowered; ``has_root``: there is an authority to check the CSMS's certificate by."""
    offered = ", ".join(each.value for each in csms.versions)
    secure = profile.security_profile >= 2
    if VERSIONS.get(profile.version) not in csms.versions:
        return f"ocppVersion {profile.version} is not spoken here, only {offered}"
    if profile.security_profile not in range(4):
        return "securityProfile is 0 to 3"
    if profile.security_profile < least:
        return f"securityProfile {profile.security_profile} is below {least}, which is in use"
    if not is_url(profile.url, ("wss",) if secure else ("ws",)):
        return (
            f"ocppCsmsUrl must be {'wss' if secure else 'ws'}://host... with securityProfile {profile.security_profile}"
        )
    if profile.message_timeout_s not in range(1, TIMEOUT_MAX_S + 1):
        return f"messageTimeout is 1 to {TIMEOUT_MAX_S} s"
    if profile.security_profile in (1, 2) and not has_password:
        return "no password: set BasicAuthPassword before"
    if profile.security_profile == 3 and csms.client_certificate_file is None:
        return "securityProfile 3 needs a client certificate, and there is none"
    if secure and not has_root:
        return "no root certificate to check the CSMS by: install one before (CSMSRootCertificate)"
    return ""


def _of_file(csms: CsmsConfig) -> dict[Key, str]:
    return {slot_key(FILE_SLOT, _URL): csms.url, slot_key(FILE_SLOT, _SECURITY): str(csms.security_profile)}
