"""A CSMS moves the station to another one, well or by mistake: real station and gateway, over restarts.

Both are one office here, at different addresses. B09, B10, WS-10: whatever is ordered, the station can be reached
again unaided.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.config.model import CsmsConfig, OcppVersion
from agent.ocpp.endpoint import Endpoint
from agent.ocpp.link_failure import FailureKind, LinkFailure, NotConnected
from agent.ocpp.version import Version
from agent.sim.scenario.quiet_world import QuietWorld
from agent.sim.scenario.verbs import Reset, cut_power, restore_power
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from agent.sim.world.wire import Wire
from tests.unit.firmware.bundle.pki import make_root

NEW, THIRD = "ws://new.example.com/ocpp", "ws://third.example.com/ocpp"
SECURE = "wss://new.example.com/ocpp"
DELIVERED, SET = "the delivered password", "the password that a CSMS has set"
A_WHILE_MS = 300_000
MINUTES_MS = 60_000


class Moving(QuietWorld):
    """Only the CSMSs at ``up`` can be reached; ``tried`` is what came, in order, ``reached`` what was let in,
    ``asked`` how each was asked last; boots are not accepted at ``strange``, passwords where they are ``refused``."""

    def __init__(self, version: str, folder: Path) -> None:
        super().__init__(version, folder)
        assert self.config.csms is not None
        file = folder / "password"
        file.write_text(DELIVERED)
        self._configure(replace(self.config.csms, password_file=file, versions=(OcppVersion.V201, OcppVersion.V16)))
        self.old = self.config.csms.url
        self.up, self.strange, self.refused = {self.old}, set[str](), set[tuple[str, bytes | None]]()
        self.answer = "Rejected"
        self.tried, self.reached, self.asked = list[str](), list[str](), dict[str, Endpoint]()
        self._let_in = self.network.connect
        self.network.connect = self._guard  # type: ignore[method-assign]

    async def _guard(self, endpoint: Endpoint) -> Wire:
        self.tried.append(endpoint.url)
        self.asked[endpoint.url] = endpoint
        if (endpoint.url, endpoint.password) in self.refused:
            raise NotConnected(LinkFailure(FailureKind.UNAUTHORIZED, "HTTP status 401"))
        if endpoint.url not in self.up:
            raise NotConnected(LinkFailure(FailureKind.UNREACHABLE, "connection refused"))
        self.reached.append(endpoint.url)
        self.office.mind.hold_boot(self.answer, 1_000_000.0 if endpoint.url in self.strange else 0.0)
        self.office.registration = "Unregistered"
        return await self._let_in(endpoint)

    def name_in_file(self, url: str) -> None:
        assert self.config.csms is not None
        self._configure(replace(self.config.csms, url=url))

    def _configure(self, csms: CsmsConfig) -> None:
        self.config = replace(self.config, csms=csms)
        self._grounds = replace(self._grounds, config=self.config)


def moving(rig: WorldRig) -> Moving:
    assert isinstance(rig.world, Moving)
    return rig.world


async def profile(rig: WorldRig, slot: int, url: str, **other: Any) -> str:
    data = {
        "ocppVersion": "OCPP20",
        "ocppTransport": "JSON",
        "ocppCsmsUrl": url,
        "messageTimeout": 30,
        "securityProfile": 0,
        "ocppInterface": "Wired0",
    }
    asked = {"configurationSlot": slot, "connectionData": data | other}
    answer = await rig.world.office.call("SetNetworkProfile", asked)
    info = answer.payload.get("statusInfo", {})
    return " ".join(filter(None, (answer.status, info.get("additionalInfo", ""))))


async def order(rig: WorldRig, slots: str) -> str:
    return await set_variable(rig, "OCPPCommCtrlr", "NetworkConfigurationPriority", slots)


async def set_variable(rig: WorldRig, component: str, variable: str, value: str) -> str:
    where = {"component": {"name": component}, "variable": {"name": variable}}
    asked = {"setVariableData": [where | {"attributeValue": value}]}
    answer = await rig.world.office.call("SetVariables", asked)
    return str(answer.payload["setVariableResult"][0]["attributeStatus"])


async def active(rig: WorldRig) -> str:
    where = {"component": {"name": "OCPPCommCtrlr"}, "variable": {"name": "ActiveNetworkProfile"}}
    answer = await rig.world.office.call("GetVariables", {"getVariableData": [where]})
    return str(answer.payload["getVariableResult"][0]["attributeValue"])


async def move(rig: WorldRig, *up: str, slots: str = "2", wait_ms: int = A_WHILE_MS) -> None:
    """Slot 2 is the new CSMS; after a reset those at ``up`` can be reached."""
    assert await profile(rig, 2, NEW) == "Accepted"
    assert await order(rig, slots) == "RebootRequired"
    await restart(rig, *up, wait_ms=wait_ms)


async def restart(rig: WorldRig, *up: str, wait_ms: int = A_WHILE_MS) -> None:
    world = moving(rig)
    world.up = set(up)
    await rig.do(Reset())
    world.tried.clear()
    world.reached.clear()
    await rig.wait(wait_ms)


async def power_cut(rig: WorldRig) -> None:
    await rig.do(cut_power())
    moving(rig).tried.clear()
    moving(rig).reached.clear()
    await rig.wait(5_000)
    await rig.do(restore_power())
    await rig.wait(A_WHILE_MS)


def test_b10_the_station_moves_at_the_next_start_and_stays_moved() -> None:
    async def story(rig: WorldRig) -> None:
        world = moving(rig)
        old = world.old
        assert await profile(rig, 2, NEW) == "Accepted"
        assert await order(rig, "2,1") == "RebootRequired"
        world.up = {old, NEW}
        world.reached.clear()
        world.network.cut()
        await rig.wait(A_WHILE_MS)
        assert world.reached == [old], "not before the next start"
        await restart(rig, old, NEW)
        assert world.reached == [NEW]
        assert await active(rig) == "2"
        await power_cut(rig)
        assert world.reached == [NEW]
        assert (await rig.look()).online

    on_a_world_rig("2.0.1", story, Moving)


def test_b10_a_csms_that_was_never_reached_leaves_the_way_back_open() -> None:
    async def story(rig: WorldRig) -> None:
        world = moving(rig)
        await move(rig, world.old)
        assert world.tried == [NEW] * 3 + [world.old]
        assert await active(rig) == "1"
        await restart(rig, world.old, NEW)
        assert world.tried == [NEW], "a start begins with the order again"
        assert await active(rig) == "2"

    on_a_world_rig("2.0.1", story, Moving)


def test_b10_after_the_new_one_has_worked_the_old_one_is_not_gone_back_to() -> None:
    """It may belong to somebody else by now, and an hour's maintenance is no reason."""

    async def story(rig: WorldRig) -> None:
        world = moving(rig)
        await move(rig, world.old, NEW)
        world.up = {world.old}
        world.network.cut()
        world.tried.clear()
        await rig.wait(60 * MINUTES_MS)
        assert set(world.tried) == {NEW}
        assert len(world.tried) > 3
        await power_cut(rig)
        assert set(world.tried) == {NEW}
        world.up = {NEW}
        await rig.wait(2 * A_WHILE_MS)
        assert (await rig.look()).online

    on_a_world_rig("2.0.1", story, Moving)


def test_b10_of_two_ordered_ones_each_has_its_attempts_and_round_again() -> None:
    async def story(rig: WorldRig) -> None:
        world = moving(rig)
        assert await profile(rig, 3, THIRD) == "Accepted"
        await move(rig, slots="3,2", wait_ms=40 * MINUTES_MS)
        assert world.tried[:9] == [THIRD] * 3 + [NEW] * 3 + [world.old] * 3
        assert world.tried[9:12] == [THIRD] * 3
        world.up = {NEW}
        await rig.wait(40 * MINUTES_MS)
        assert world.reached == [NEW]
        assert await active(rig) == "2"
        world.up = {world.old, THIRD}
        world.network.cut()
        await rig.wait(40 * MINUTES_MS)
        assert world.reached == [NEW, THIRD]

    on_a_world_rig("2.0.1", story, Moving)


@pytest.mark.parametrize("answer", ["Rejected", "Pending"])
def test_b10_a_csms_that_does_not_accept_the_boot_is_the_wrong_one_while_there_is_another(answer: str) -> None:
    async def story(rig: WorldRig) -> None:
        world = moving(rig)
        world.strange, world.answer = {NEW}, answer
        await move(rig, world.old, NEW, wait_ms=10 * MINUTES_MS)
        assert world.reached == [NEW, world.old]
        assert await active(rig) == "1"
        await restart(rig, NEW, wait_ms=60 * MINUTES_MS)
        assert world.tried[:5] == [NEW, *[world.old] * 3, NEW]
        world.up = {world.old}
        await rig.wait(60 * MINUTES_MS)
        world.strange.clear()
        await restart(rig, world.old, NEW)
        assert world.reached == [NEW]

    on_a_world_rig("2.0.1", story, Moving)


def test_b10_a_csms_that_accepts_the_second_boot_is_not_left() -> None:
    async def story(rig: WorldRig) -> None:
        world = moving(rig)
        world.strange = {NEW}
        await move(rig, NEW, wait_ms=15_000)
        world.office.mind.hold_boot("", 0.0)
        await rig.wait(60 * MINUTES_MS)
        assert world.reached == [NEW]
        assert await active(rig) == "2"

    on_a_world_rig("2.0.1", story, Moving)


def test_b10_what_is_ordered_of_a_slot_waits_for_the_next_start() -> None:
    async def story(rig: WorldRig) -> None:
        world = moving(rig)
        old = world.old
        await move(rig, old, NEW, slots="1,2")
        assert world.reached == [old]
        assert await order(rig, "1") == "RebootRequired"
        assert await profile(rig, 2, THIRD) == "Accepted"
        world.up = {THIRD, NEW}
        world.network.cut()
        await rig.wait(20 * MINUTES_MS)
        assert THIRD not in world.tried
        assert world.reached == [old, NEW]

    on_a_world_rig("2.0.1", story, Moving)


@pytest.mark.parametrize("attempts", ["1", "2"])
def test_b10_every_password_has_its_turn_however_few_attempts_a_slot_has(attempts: str) -> None:
    async def story(rig: WorldRig) -> None:
        world = moving(rig)
        assert await set_variable(rig, "OCPPCommCtrlr", "NetworkProfileConnectionAttempts", attempts) == "Accepted"
        assert await set_variable(rig, "SecurityCtrlr", "BasicAuthPassword", SET) == "Accepted"
        await rig.wait(A_WHILE_MS)
        world.refused = {(NEW, SET.encode()), (world.old, SET.encode()), (world.old, DELIVERED.encode())}
        await move(rig, NEW, world.old, wait_ms=60 * MINUTES_MS)
        assert world.reached == [NEW]
        assert world.asked[NEW].password == DELIVERED.encode()

    on_a_world_rig("2.0.1", story, Moving)


def test_b10_each_csms_has_its_own_time_limit_and_version() -> None:
    async def story(rig: WorldRig) -> None:
        world = moving(rig)
        at_old = world.asked[world.old]
        assert (at_old.versions, at_old.message_timeout_s) == ((Version.V201, Version.V16), 30)
        assert await profile(rig, 2, NEW, messageTimeout=45, ocppVersion="OCPP16") == "Accepted"
        assert await order(rig, "2") == "RebootRequired"
        await restart(rig)
        at_new = world.asked[NEW]
        assert (at_new.versions, at_new.message_timeout_s, at_new.open_timeout_s) == ((Version.V16,), 45, 45)

    on_a_world_rig("2.0.1", story, Moving)


def test_b10_a_short_time_for_answers_is_none_for_the_handshake() -> None:
    """Over a slow mobile link it takes longer: a station that nobody reaches any more."""

    async def story(rig: WorldRig) -> None:
        world = moving(rig)
        assert await profile(rig, 2, NEW, messageTimeout=1) == "Accepted"
        assert await order(rig, "2") == "RebootRequired"
        await restart(rig)
        assert (world.asked[NEW].message_timeout_s, world.asked[NEW].open_timeout_s) == (1, 30)

    on_a_world_rig("2.0.1", story, Moving)


class Rooted(Moving):
    """With a root to check a CSMS by; the certificates of those that are ``mistrusted`` are not by it."""

    def __init__(self, version: str, folder: Path) -> None:
        super().__init__(version, folder)
        assert self.config.csms is not None
        file = folder / "ca.pem"
        file.write_text(make_root("CSMS root").certificate_pem)
        self._configure(replace(self.config.csms, ca_file=file))
        self.mistrusted, self.turns = set[str](), list[int]()

    async def _guard(self, endpoint: Endpoint) -> Wire:
        self.turns += [] if endpoint.tls is None else [endpoint.tls.turn]
        if endpoint.url in self.mistrusted:
            raise NotConnected(LinkFailure(FailureKind.TLS_CERTIFICATE, "certificate signature failure"))
        return await super()._guard(endpoint)


def rooted(rig: WorldRig) -> Rooted:
    assert isinstance(rig.world, Rooted)
    return rig.world


def test_b10_an_address_with_a_capital_letter_is_as_good_as_any() -> None:
    async def story(rig: WorldRig) -> None:
        world = rooted(rig)
        assert await profile(rig, 2, SECURE.replace("wss", "Wss"), securityProfile=2) == "Accepted"
        assert await order(rig, "2") == "RebootRequired"
        await restart(rig, SECURE, world.old)
        assert world.reached == [SECURE]

    on_a_world_rig("2.0.1", story, Rooted)


def test_ws_10_a_profile_that_makes_no_endpoint_has_its_attempts_as_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """Older software kept the address as it came."""
    monkeypatch.setattr("agent.config.networks.small_scheme", lambda url: url)

    async def story(rig: WorldRig) -> None:
        world = rooted(rig)
        assert await profile(rig, 2, SECURE.replace("wss", "Wss"), securityProfile=2) == "Accepted"
        assert await order(rig, "2") == "RebootRequired"
        await restart(rig, SECURE, world.old)
        assert world.reached == [world.old]
        assert (await rig.look()).online

    on_a_world_rig("2.0.1", story, Rooted)


def test_tls_03_after_a_certificate_that_is_refused_the_next_root_of_that_name_has_its_turn() -> None:
    """The one that worked stays."""

    async def story(rig: WorldRig) -> None:
        world = rooted(rig)
        assert await profile(rig, 2, SECURE, securityProfile=2) == "Accepted"
        assert await order(rig, "2") == "RebootRequired"
        world.mistrusted = {SECURE}
        await restart(rig, SECURE, wait_ms=10_000)
        world.mistrusted.clear()
        await rig.wait(A_WHILE_MS)
        world.network.cut()
        await rig.wait(A_WHILE_MS)
        assert world.turns == [0, 1, 1]
        assert world.reached == [SECURE, SECURE]

    on_a_world_rig("2.0.1", story, Rooted)


def test_tls_03_the_roots_of_one_slot_do_not_take_the_turns_of_another() -> None:
    """Else a slot with an attempt now and then might never come to the root that it needs."""

    async def story(rig: WorldRig) -> None:
        world, third = rooted(rig), THIRD.replace("ws", "wss")
        assert await profile(rig, 2, SECURE, securityProfile=2) == "Accepted"
        assert await profile(rig, 3, third, securityProfile=2) == "Accepted"
        assert await order(rig, "2,3") == "RebootRequired"
        world.mistrusted = {SECURE, third}
        await restart(rig, world.old, wait_ms=40 * MINUTES_MS)
        assert world.reached == [world.old]
        assert world.turns == [0, 1, 2, 0, 1, 2]

    on_a_world_rig("2.0.1", story, Rooted)


def test_b10_another_csms_need_not_know_the_password_that_the_one_before_has_set() -> None:
    async def story(rig: WorldRig) -> None:
        world = moving(rig)
        assert await set_variable(rig, "SecurityCtrlr", "BasicAuthPassword", SET) == "Accepted"
        await rig.wait(A_WHILE_MS)
        assert world.asked[world.old].password == SET.encode()
        world.refused = {(NEW, SET.encode())}
        await move(rig, NEW)
        assert world.tried == [NEW, NEW]
        assert world.asked[NEW].password == DELIVERED.encode()
        assert (await rig.look()).online

    on_a_world_rig("2.0.1", story, Moving)


@pytest.mark.parametrize(
    ("slot", "url", "other", "says"),
    [
        (1, NEW, {}, "configurationSlot is one of 2, 3"),
        (4, NEW, {}, "configurationSlot is one of 2, 3"),
        (2, "wss://new.example.com/ocpp", {}, "ocppCsmsUrl must be ws://host"),
        (2, "ws://:secret@new.example.com/", {}, "ocppCsmsUrl must be ws://host"),
        (2, "ws://new.example.com/#here", {}, "ocppCsmsUrl must be ws://host"),
        (2, NEW, {"ocppVersion": "OCPP15"}, "ocppVersion OCPP15 is not spoken here"),
        (2, NEW, {"securityProfile": 4}, "securityProfile is 0 to 3"),
        (2, NEW, {"messageTimeout": 0}, "messageTimeout is 1 to 600 s"),
        (2, "wss://new.example.com/", {"securityProfile": 3}, "needs a client certificate"),
        (2, NEW, {"ocppTransport": "SOAP"}, "only JSON"),
        (2, NEW, {"apn": {"apn": "internet", "apnAuthentication": "AUTO"}}, "the machine's network is not set by OCPP"),
    ],
)
def test_b09_what_cannot_work_is_refused_with_the_reason(slot: int, url: str, other: dict[str, Any], says: str) -> None:
    async def story(rig: WorldRig) -> None:
        refusal = await profile(rig, slot, url, **other)
        assert refusal.startswith("Rejected ")
        assert says in refusal
        assert await order(rig, str(slot) if slot in (2, 3) else "2") == "Rejected", "nothing is there"

    on_a_world_rig("2.0.1", story, Moving)


def test_b09_a_slot_in_the_order_is_not_written_to() -> None:
    async def story(rig: WorldRig) -> None:
        world = moving(rig)
        await move(rig, NEW)
        assert await profile(rig, 2, THIRD) == "Rejected slot 2 is in use"
        assert await profile(rig, 3, THIRD) == "Accepted"
        assert await profile(rig, 3, NEW) == "Accepted", "nobody uses it yet"
        assert world.reached == [NEW]

    on_a_world_rig("2.0.1", story, Moving)


def test_another_csms_in_the_configuration_file_ends_what_the_last_one_has_set() -> None:
    """A technician moves the station by its file; what was set before does not come back with the next profile."""

    async def story(rig: WorldRig) -> None:
        world = moving(rig)
        await move(rig, NEW)
        world.name_in_file(THIRD)
        world.up = {NEW, THIRD}
        await power_cut(rig)
        assert world.reached == [THIRD]
        assert await active(rig) == "1"
        assert await profile(rig, 3, world.old) == "Accepted"
        await power_cut(rig)
        assert world.reached == [THIRD]
        assert await order(rig, "2") == "Rejected", "it is empty"

    on_a_world_rig("2.0.1", story, Moving)
