"""What a gateway tells the station that cannot be true, or asks for and there is not: the station stays as it was."""

from __future__ import annotations

import dataclasses
import enum
import itertools
import types
import typing
from typing import Any

import pytest

from agent.core.facts import VariableName
from agent.ipc.codec import CodecError, to_plain
from agent.ipc.monitors import MonitorType, MonitorWrite, SetMonitorStatus
from agent.ipc.profiles import CompositeSchedule
from agent.ipc.server import METHODS, _arguments
from agent.ipc.wire import MAX_CALL_BYTES, TooLarge, frame
from agent.sim.scenario import verbs
from agent.sim.scenario.expectations import online, preparing
from agent.sim.scenario.play import expect, play, scenario
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from agent.station.service import StationService

YEAR_10000_MS = 253_402_300_800_000


def service(rig: WorldRig) -> StationService:
    assert rig.world.life is not None
    return rig.world.life.station.service


def test_a_clock_outside_the_calendar_is_not_taken() -> None:
    async def story(rig: WorldRig) -> list[int]:
        seen = []
        for wall_ms in (-1, YEAR_10000_MS, 2**62):
            before_ms = (await service(rig).status()).wall_ms
            await service(rig).clock(wall_ms)
            seen.append((await service(rig).status()).wall_ms - before_ms)
        return seen

    assert on_a_world_rig("2.0.1", story) == [0, 0, 0]


def test_a_believable_clock_is_taken() -> None:
    async def story(rig: WorldRig) -> int:
        before_ms = (await service(rig).status()).wall_ms
        await service(rig).clock(before_ms + 3_600_000)
        return (await service(rig).status()).wall_ms - before_ms

    assert 0 <= on_a_world_rig("2.0.1", story) - 3_600_000 < 5_000, "and the time until it is on disk"


def test_a_schedule_in_a_unit_that_nobody_knows_is_none() -> None:
    async def story(rig: WorldRig) -> dict[str | None, CompositeSchedule | None]:
        return {unit: await service(rig).composite_schedule(1, 60, unit) for unit in ("A", "W", None, "Ah", "")}

    found = on_a_world_rig("1.6", story)
    assert [unit for unit, schedule in found.items() if schedule is None] == ["Ah", ""]
    assert found["A"] is not None and found["A"].unit == "A"


@pytest.mark.parametrize(
    "text",
    ["x" * 600, "\u00e9" * 65, "x" * 80_000, "\x01" * 20_000, "0" * 80_000 + "1", "A\0", "\u0390" * 255],
    ids=[
        *("longer than a key", "not ascii", "longer than a value", "long once escaped", "a long number"),
        *("a C string's end", "longer than a key once folded"),
    ],
)
def test_no_text_that_fits_into_a_call_ends_the_station(text: str) -> None:
    """Every method, while a transaction runs: an exception would be an error of our own, and end the process."""

    async def story(rig: WorldRig) -> None:
        await rig.do(verbs.Plug(1))
        await rig.do(verbs.Swipe(token=verbs.CARD, evse=1))
        await rig.wait(10_000)
        running = (await rig.look()).evses[0].tx_id
        assert running is not None
        asked = 0
        for method, hints in METHODS.items():
            names = [name for name in hints if name != "return"]
            choices = [[*made_of(hints[name], text), *([running] if name == "tx_id" else [])] for name in names]
            for values in itertools.product(*choices):
                plain = {name: to_plain(value, hints[name]) for name, value in zip(names, values, strict=True)}
                try:
                    frame({"call": 1, "method": method, "args": plain}, MAX_CALL_BYTES)
                    given = _arguments(method, plain)
                except (TooLarge, CodecError):
                    continue
                answer = await getattr(service(rig), method)(**given)
                frame({"answer": 1, "value": to_plain(answer, hints["return"])})
                asked += 1
        assert asked > len(METHODS) / 2

    on_a_world_rig("2.0.1", story)


def test_a_monitor_of_a_known_variable_takes_no_value_that_is_no_number() -> None:
    async def story(rig: WorldRig) -> set[SetMonitorStatus]:
        name = VariableName("OCPPCommCtrlr", "HeartbeatInterval")
        values = ("abc", "true", "NaN", "sNaN", "1e999999999", "Infinity", "-Infinity")
        writes = [MonitorWrite(name, kind, value, 5) for value in values for kind in MonitorType]
        given = _arguments("set_monitors", {"writes": to_plain(writes, list[MonitorWrite])})
        answers = await service(rig).set_monitors(**given)
        await rig.wait(5_000)
        assert (await rig.look()).online
        return {each.status for each in answers}

    assert on_a_world_rig("2.0.1", story) == {SetMonitorStatus.REJECTED}


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_a_token_that_ends_like_a_c_string_charges_like_any_other(version: str) -> None:
    """The CSMS's word on it comes back with the start, and is no word that the cache could keep."""

    async def story(rig: WorldRig) -> list[str]:
        await play(scenario("a car comes", expect(online()), verbs.Plug(1), expect(preparing())), rig)
        assert await rig.do(verbs.RemoteStart("A\0")) == "Accepted"
        await rig.wait(30_000)
        states = [(await rig.look()).evses[0].state]
        await rig.do(verbs.Swipe("A\0", 1))
        await rig.wait(30_000)
        return [*states, (await rig.look()).evses[0].state]

    assert on_a_world_rig(version, story) == ["Charging", "Finishing"]


def made_of(hint: Any, text: str) -> list[Any]:
    """Values of a type, with this text wherever one may stand: one at least, and of a union one of each kind."""
    arguments = typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        fields = typing.get_type_hints(hint)
        made = [made_of(fields[field.name], text) for field in dataclasses.fields(hint)]
        most = max(map(len, made), default=0)
        return [hint(*(each[number % len(each)] for each in made)) for number in range(most)]  # type: ignore[operator]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return list(hint)
    match typing.get_origin(hint):
        case typing.Union | types.UnionType:
            return [made for each in arguments if each is not type(None) for made in made_of(each, text)]
        case origin if origin in (list, tuple):
            return [origin([made]) for made in made_of(arguments[0], text)]
        case origin if origin is dict:
            return [{"id": 1, text: text}]
    return [{int: 1, bool: True}.get(hint, text)]
