"""A new password that the CSMS does not take, or takes in another form: real station and gateway, over restarts.

Field fault 14, 16-SEC-05: the station must be reachable again unaided. The delivered password has been forgotten by
this CSMS.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.config.model import KeyEncoding
from agent.ocpp.endpoint import Endpoint
from agent.ocpp.link_failure import FailureKind, LinkFailure, NotConnected
from agent.sim.scenario.quiet_world import QuietWorld
from agent.sim.scenario.verbs import GATEWAY, Kill, cut_power, restore_power
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from agent.sim.world.wire import Wire

DELIVERED, GOOD, MISTAKE = "the delivered password", "a password that works", "a password that nobody knows"
FORTY_DIGITS = "00112233445566778899aabbccddeeff00112233"
A_WHILE_MS = 300_000


class Guarded(QuietWorld):
    """Its CSMS lets in who shows one of ``taken``; ``shown`` is what came, in order."""

    encoding = KeyEncoding.AUTO

    def __init__(self, version: str, folder: Path) -> None:
        super().__init__(version, folder)
        file = folder / "password"
        file.write_text(f"{DELIVERED}\n")
        assert self.config.csms is not None
        csms = replace(self.config.csms, password_file=file, authorization_key_encoding=self.encoding)
        self.config = replace(self.config, csms=csms)
        self._grounds = replace(self._grounds, config=self.config)
        self.taken, self.shown = {DELIVERED.encode()}, list[bytes | None]()
        self._let_in = self.network.connect
        self.network.connect = self._guard  # type: ignore[method-assign]

    async def _guard(self, endpoint: Endpoint) -> Wire:
        self.shown.append(endpoint.password)
        if endpoint.password not in self.taken:
            raise NotConnected(LinkFailure(FailureKind.UNAUTHORIZED, "HTTP status 401"))
        return await self._let_in(endpoint)


class LetsInFirst(Guarded):
    """Takes every handshake, and closes where it should have refused; all links while it is ``down``."""

    down = False

    async def _guard(self, endpoint: Endpoint) -> Wire:
        self.shown.append(endpoint.password)
        wire = await self._let_in(endpoint)
        if self.down or endpoint.password not in self.taken:
            wire.hang_up(*((1001, "going away") if self.down else (1008, "who are you?")))
        return wire


class Flapping(LetsInFirst):
    """While it is ``down`` it knows a wrong password at the handshake all the same."""

    async def _guard(self, endpoint: Endpoint) -> Wire:
        if endpoint.password not in self.taken:
            return await Guarded._guard(self, endpoint)
        return await super()._guard(endpoint)


class Hex(Guarded):
    encoding = KeyEncoding.HEX


def guarded(rig: WorldRig) -> Guarded:
    assert isinstance(rig.world, Guarded)
    return rig.world


async def set_password(rig: WorldRig, password: str, *taken: bytes, wait_ms: int = A_WHILE_MS) -> str:
    """The CSMS sets it, and lets in who shows one of ``taken`` from now on; the station finds its way, or not."""
    if rig.name.endswith("1.6"):
        answer = await rig.world.office.call("ChangeConfiguration", {"key": "AuthorizationKey", "value": password})
        status = answer.status
    else:
        where = {"component": {"name": "SecurityCtrlr"}, "variable": {"name": "BasicAuthPassword"}}
        asked = {"setVariableData": [where | {"attributeValue": password}]}
        answer = await rig.world.office.call("SetVariables", asked)
        status = str(answer.payload["setVariableResult"][0]["attributeStatus"])
    guarded(rig).taken = set(taken)
    guarded(rig).shown.clear()
    await rig.wait(wait_ms)
    return status


async def power_cut(rig: WorldRig) -> None:
    await rig.do(cut_power())
    guarded(rig).shown.clear()
    await rig.wait(5_000)
    await rig.do(restore_power())
    await rig.wait(A_WHILE_MS)


@pytest.mark.parametrize("guard", [Guarded, LetsInFirst])
@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_the_last_password_that_worked_is_the_way_back_after_a_kill_and_a_power_cut(
    version: str, guard: type[Guarded]
) -> None:
    async def story(rig: WorldRig) -> None:
        good, mistake = GOOD.encode(), MISTAKE.encode()
        assert await set_password(rig, GOOD, good) == "Accepted"
        assert guarded(rig).shown == [good]
        assert await set_password(rig, MISTAKE, good) == "Accepted"
        assert guarded(rig).shown == [mistake, good]
        guarded(rig).shown.clear()
        await rig.do(Kill(GATEWAY))
        await rig.wait(A_WHILE_MS)
        assert guarded(rig).shown == [mistake, good]
        await power_cut(rig)
        assert guarded(rig).shown == [mistake, good]
        assert (await rig.look()).online

    on_a_world_rig(version, story, guard)


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_two_new_passwords_in_a_row_a_good_one_and_a_mistake(version: str) -> None:
    """The second comes before the station had anything to ask: the call that sets it shows that the first is good."""

    async def story(rig: WorldRig) -> None:
        good, mistake = GOOD.encode(), MISTAKE.encode()
        await set_password(rig, GOOD, good, wait_ms=20_000)
        assert guarded(rig).shown == [good]
        await set_password(rig, MISTAKE, good)
        assert guarded(rig).shown == [mistake, good]
        await power_cut(rig)
        assert guarded(rig).shown == [mistake, good]

    on_a_world_rig(version, story, LetsInFirst)


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_a_link_that_is_closed_after_minutes_of_silence_refuses_nobody(version: str) -> None:
    """Balancers do so with every link, and a heartbeat may be due once a day only."""

    async def story(rig: WorldRig) -> None:
        good = GOOD.encode()
        await set_password(rig, GOOD, good, wait_ms=100_000)
        guarded(rig).network.cut()
        await rig.wait(A_WHILE_MS)
        assert guarded(rig).shown == [good, good]

    on_a_world_rig(version, story, LetsInFirst)


@pytest.mark.parametrize("guard", [LetsInFirst, Flapping])
@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_a_csms_that_flaps_loses_no_good_new_password_and_is_no_string_of_security_events(
    version: str, guard: type[LetsInFirst]
) -> None:
    async def story(rig: WorldRig) -> None:
        world = guarded(rig)
        assert isinstance(world, LetsInFirst)
        world.down = True
        await set_password(rig, GOOD, GOOD.encode(), wait_ms=20 * A_WHILE_MS)
        assert world.shown[0] == GOOD.encode() and len(world.shown) > 6
        await power_cut(rig)
        world.down = False
        await rig.wait(10 * A_WHILE_MS)
        assert world.shown[-1] == GOOD.encode() and (await rig.look()).online
        told = [each for each in world.office.book.security_events if each.startswith("FailedToAuthenticate")]
        assert len(told) <= (2 if guard is Flapping else 0), "one before the power cut, one after"
        await set_password(rig, MISTAKE, GOOD.encode())
        await power_cut(rig)
        assert world.shown == [MISTAKE.encode(), GOOD.encode()], "it was kept"

    on_a_world_rig(version, story, guard)


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("digits", [32, 36, 40])
def test_a01_16_sec_04_thirty_two_to_forty_hex_digits_work_in_both_forms_and_the_right_one_is_remembered(
    version: str, as_text: bool, digits: int
) -> None:
    async def story(rig: WorldRig) -> None:
        key = FORTY_DIGITS[:digits]
        right = key.encode() if as_text else bytes.fromhex(key)
        assert await set_password(rig, key, right) == "Accepted"
        likely = as_text == (version == "2.0.1" or digits < 40)
        assert (len(guarded(rig).shown), guarded(rig).shown[-1]) == (1 if likely else 2, right)
        await power_cut(rig)
        assert guarded(rig).shown == [right]
        assert (await rig.look()).online

    on_a_world_rig(version, story, Guarded)


def test_what_is_no_hex_is_refused_where_hex_is_demanded_and_a_bad_file_ends_nothing() -> None:
    async def story(rig: WorldRig) -> None:
        assert await set_password(rig, MISTAKE, bytes.fromhex(FORTY_DIGITS)) == "Rejected"
        assert guarded(rig).shown == []
        assert await set_password(rig, FORTY_DIGITS, bytes.fromhex(FORTY_DIGITS)) == "Accepted"
        await power_cut(rig)
        assert guarded(rig).shown == [bytes.fromhex(FORTY_DIGITS)]
        assert (await rig.look()).online

    class OpenAtFirst(Hex):
        """The file is no hex: nothing is shown, and this CSMS lets the station in all the same."""

        def __init__(self, version: str, folder: Path) -> None:
            super().__init__(version, folder)
            self.taken.add(None)  # type: ignore[arg-type]

    on_a_world_rig("1.6", story, OpenAtFirst)
