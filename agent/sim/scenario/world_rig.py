"""The rig of the simulated world: the real station and gateway in virtual time, on a site without whims.

Charter: joins a quiet ``World`` (nobody comes, nothing goes wrong by itself) and a ``Listener`` at its back office into
a ``Rig``. What it can do and a rig of processes cannot: cut the power, fill the disk, set clocks, break any device.
The world's own rules hold all the time; one that is broken ends the scenario.

Must be made within a loop of virtual time. Units: milliseconds of virtual time.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

import structlog

from agent.ledger.errors import LedgerError
from agent.sim.scenario import verbs
from agent.sim.scenario.quiet_world import Car, QuietWorld
from agent.sim.scenario.reading import read_accounts
from agent.sim.scenario.rig import Account, Observation, RigTrouble, SeenEvse
from agent.sim.virtual_time import now_ms, run_virtual
from agent.sim.world.device_faults import Fault, NotHere
from agent.sim.world.life import Life
from agent.sim.world.vehicle import Habit, Kind

T = TypeVar("T")
_MEMORY: Final = Path("/dev/shm")
_START_MS: Final = 120_000  # from power to a station that is online
_FIND_MS: Final = 60_000  # a machine starts, and a supervisor may wait before it starts a process again
_REST_MS: Final = 3_600_000
_EVENTS: Final = 12


class WorldRig:
    """A rig with its disk in ``folder`` that speaks ``version`` ("1.6" or "2.0.1"). An asynchronous context manager."""

    patience = 8  # a machine boots, a lost link is tried again when its time has come

    def __init__(self, folder: Path, version: str, make: type[QuietWorld] = QuietWorld) -> None:
        self.name = f"world, OCPP {version}"
        self.evses = 2
        self.world = make(version, folder)
        self._is_16 = version == "1.6"
        self._cars: dict[int, Car] = {}
        self._ledger: tuple[int, tuple[Account, ...]] = (0, ())

    async def __aenter__(self) -> WorldRig:
        self.world.begin()
        await self._until(lambda: self.world.office.registration == "Accepted" or None, "a station", _START_MS)
        until_ms = now_ms() + _START_MS
        while not (seen := await self.look()).online or seen.undelivered:
            if now_ms() > until_ms:
                raise RigTrouble(f"the station does not come to rest: {seen.words()}")
            await self.wait(100)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.world.close()

    async def settle(self) -> None:
        """Undo what was done, let everything come to rest, and compare all accounts. Raises ``RigTrouble``."""
        world = self.world
        world.listener.moods.clear()
        world.link_up()
        world.fill_disk(False)
        world.step_machine_clock(0)
        world.csms_tells_wrong_time(0)
        for outlet in world.outlets.values():
            outlet.clear()
            outlet.unplug(forced=True)
        world.restore_power()
        async with asyncio.timeout(_REST_MS / 1_000):
            await world.rest()
        self._check_rules()

    async def wait(self, ms: int) -> None:
        await asyncio.sleep(ms / 1_000)

    @property
    def can(self) -> frozenset[type[verbs.Verb]]:
        return frozenset(_DOERS)

    # -------------------------------------------------------------------------------------- doing

    async def do(self, verb: verbs.Verb) -> str:
        """See ``Rig.do``."""
        doer: Callable[[WorldRig, Any], Coroutine[Any, Any, str | None]] = _DOERS[type(verb)]
        self.world.note(getattr(verb, "evse", 0), f"scenario: {verb.words()}")
        return await doer(self, verb) or ""

    async def _plug(self, verb: verbs.Plug) -> None:
        car = self._cars[verb.evse] = Car(Kind(), 100_000_000, self.world.chance(f"car {verb.evse}"))
        if not self.world.outlets[verb.evse].plug(car):
            raise RigTrouble(f"{verb.words()}: it does not go in")

    async def _unplug(self, verb: verbs.Unplug) -> None:
        if not self.world.outlets[verb.evse].unplug():
            raise RigTrouble(f"{verb.words()}: it does not come out")

    async def _pause(self, verb: verbs.CarPauses) -> None:
        self._car(verb).pause()

    async def _wake(self, verb: verbs.CarWakes) -> None:
        self._car(verb).wake()

    def _car(self, verb: verbs.AtEvse | verbs.Fault | verbs.FaultGone) -> Car:
        if verb.evse not in self._cars:
            raise RigTrouble(f"{verb.words()}: no car is there")
        return self._cars[verb.evse]

    async def _swipe(self, verb: verbs.Swipe) -> None:
        await self._until(lambda: self.world.life, "a station", _FIND_MS)
        self.world.swipe(verb.evse, verb.token)

    async def _fault(self, verb: verbs.Fault) -> None:
        if verb.device == "car":
            self._car(verb).take_habit(Habit(verb.name))
            return
        self.world.disturb(verb.evse)
        try:
            self.world.outlets[verb.evse].fault(Fault(f"{verb.device}_{verb.name}"), verb.param)
        except (ValueError, NotHere) as error:
            raise RigTrouble(f"{verb.words()}: {error}") from error

    async def _fault_gone(self, verb: verbs.FaultGone) -> None:
        if verb.device == "car":
            self._car(verb).lose_habits()
            return
        self.world.disturb(verb.evse)
        outlet = self.world.outlets[verb.evse]
        for fault in list(outlet.faults):
            if fault.startswith(f"{verb.device}_"):
                outlet.clear(fault)

    async def _drop_link(self, _: verbs.DropLink) -> None:
        self.world.link_down(silently=False)

    async def _restore_link(self, _: verbs.RestoreLink) -> None:
        self.world.link_up()

    async def _half_open(self, _: verbs.HalfOpenLink) -> None:
        self.world.link_half_open()

    async def _kill(self, verb: verbs.Kill) -> None:
        if verb.process is not verbs.GATEWAY:
            self.world.kill_station()
        if verb.process is not verbs.STATION:
            self.world.kill_gateway()

    async def _cut_power(self, _: verbs.CutPower) -> None:
        self.world.cut_power()

    async def _restore_power(self, verb: verbs.RestorePower) -> None:
        self.world.spoil_clock(lost=verb.clock_lost, stood=verb.clock_stood)
        self.world.restore_power()

    async def _fill_disk(self, _: verbs.FillDisk) -> None:
        self.world.fill_disk(True)

    async def _free_disk(self, _: verbs.FreeDisk) -> None:
        self.world.fill_disk(False)

    async def _step_machine_clock(self, verb: verbs.StepMachineClock) -> None:
        self.world.step_machine_clock(verb.by_s * 1_000)

    # --------------------------------------------------------------------------------------- CSMS

    async def _csms_answers(self, verb: verbs.CsmsAnswers) -> None:
        self.world.listener.moods[verb.message] = verb.mood

    async def _csms_well(self, _: verbs.CsmsWell) -> None:
        self.world.listener.moods.clear()

    async def _step_clock(self, verb: verbs.StepClock) -> str:
        self.world.step_csms_clock(verb.by_s * 1_000)
        return await self._call("TriggerMessage", {"requestedMessage": "Heartbeat"})

    async def _remote_start(self, verb: verbs.RemoteStart) -> str:
        if self._is_16:
            return await self._call("RemoteStartTransaction", {"idTag": verb.token, "connectorId": verb.evse})
        token = {"idToken": verb.token, "type": "ISO14443"}
        return await self._call("RequestStartTransaction", {"idToken": token, "remoteStartId": 1, "evseId": verb.evse})

    async def _remote_stop(self, verb: verbs.RemoteStop) -> str:
        booked = self.world.office.book.running.get(verb.evse)
        if booked is None:
            raise RigTrouble(f"{verb.words()}: it knows no open transaction")
        if self._is_16:
            return await self._call("RemoteStopTransaction", {"transactionId": booked.number})
        return await self._call("RequestStopTransaction", {"transactionId": booked.key})

    async def _reset(self, verb: verbs.Reset) -> str:
        if not self._is_16:
            return await self._call("Reset", {"type": "OnIdle" if verb.when_idle else "Immediate"})
        if verb.when_idle:
            raise RigTrouble("OCPP 1.6 has no reset when idle")
        return await self._call("Reset", {"type": "Soft"})

    async def _change_availability(self, verb: verbs.ChangeAvailability) -> str:
        status = "Operative" if verb.operative else "Inoperative"
        if self._is_16:
            return await self._call("ChangeAvailability", {"connectorId": verb.evse, "type": status})
        where = {"evse": {"id": verb.evse}} if verb.evse else {}
        return await self._call("ChangeAvailability", {"operationalStatus": status, **where})

    async def _limit(self, verb: verbs.Limit) -> str:
        schedule: dict[str, Any] = {
            "startSchedule": self.world.csms_time(),
            "chargingRateUnit": "A",
            "chargingSchedulePeriod": [{"startPeriod": 0, "limit": verb.amperes}],
        }
        profile: dict[str, Any] = {"stackLevel": 0, "chargingProfileKind": "Absolute"}
        if self._is_16:
            profile |= {"chargingProfileId": 1, "chargingProfilePurpose": "ChargePointMaxProfile"}
            profile["chargingSchedule"] = schedule
            return await self._call("SetChargingProfile", {"connectorId": 0, "csChargingProfiles": profile})
        profile |= {"id": 1, "chargingProfilePurpose": "ChargingStationMaxProfile"}
        profile["chargingSchedule"] = [{"id": 1, **schedule}]
        return await self._call("SetChargingProfile", {"evseId": 0, "chargingProfile": profile})

    async def _call(self, action: str, payload: dict[str, Any]) -> str:
        answer = await self.world.office.call(action, payload)
        return answer.status or f"{answer.fate} {answer.code}".rstrip()

    # ------------------------------------------------------------------------------------ looking

    async def look(self) -> Observation:
        """See ``Rig.look``."""
        self._check_rules()
        life, listener = self.world.life, self.world.listener
        progress = None if life is None else await life.station.service.progress()
        self._read_ledger(self.world.mirror.head_seq)
        return Observation(
            at_ms=now_ms(),
            evses=tuple([await self._see(number, life) for number in self.world.outlets]),
            station_up=life is not None,
            online=life is not None and life.station.logic.core.ctx.online,
            undelivered=None if progress is None else progress.undelivered,
            ledger=self._ledger[1],
            csms=listener.accounts(),
            told=tuple(listener.told),
            statuses=tuple(listener.statuses),
            boots=listener.boots,
            violations=listener.complaints(),
            csms_step_mwh=1_000 if self._is_16 else 1,
            events=tuple(map(str, self.world.journal.last(_EVENTS))),
        )

    async def _see(self, number: int, life: Life | None) -> SeenEvse:
        view = schedule = None
        if life is not None:
            view = life.station.logic.core.views()[number - 1]
            schedule = await life.station.service.composite_schedule(number, 1, "A")
        outlet = self.world.outlets[number]
        return SeenEvse(
            number,
            state="" if view is None else view.state.value,
            faults=() if view is None else tuple(fault.value for fault in view.faults),
            tx_id=None if view is None else view.tx_id,
            limit_ma=None if schedule is None else schedule.periods[0].limit_tenths * 100,
            plugged=outlet.vehicle is not None,
            cp=outlet.cp.value,
            contactor_closed=outlet.contactor_closed,
            signalled_ma=outlet.offered_ma,
            current_ma=outlet.current_ma,
            taken_mwh=outlet.drawn_mwh,
            metered_mwh=outlet.register_mwh,
        )

    def _read_ledger(self, head_seq: int) -> None:
        """All transactions of the ledger; read again only when it has grown."""
        if head_seq != self._ledger[0]:
            try:
                self._ledger = head_seq, read_accounts(self.world.disk.path)
            except LedgerError as error:
                raise RigTrouble(str(error)) from error

    def _check_rules(self) -> None:
        failure = self.world.failure
        if failure is not None:
            last = "\n".join(f"    {entry}" for entry in self.world.journal.last(40))
            raise RigTrouble(f"a rule of the world is broken: {failure.text}\n{last}")

    async def _until(self, find: Callable[[], T | None], what: str, within_ms: int) -> T:
        until_ms = now_ms() + within_ms
        while (found := find()) is None:
            if now_ms() > until_ms:
                raise RigTrouble(f"{what} was waited for {within_ms} ms in vain")
            await self.wait(100)
        return found


def on_a_world_rig(version: str, story: Callable[[WorldRig], Awaitable[T]], make: type[QuietWorld] = QuietWorld) -> T:
    """Run ``story`` on a rig of its own, in virtual time, with its disk in memory; the product's logs are silent."""

    async def main(folder: Path) -> T:
        async with WorldRig(folder, version, make) as rig:
            return await story(rig)

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        return run_virtual(main(Path(folder)))


_DOERS: dict[type[verbs.Verb], Any] = {
    verbs.Plug: WorldRig._plug,
    verbs.Unplug: WorldRig._unplug,
    verbs.CarPauses: WorldRig._pause,
    verbs.CarWakes: WorldRig._wake,
    verbs.Fault: WorldRig._fault,
    verbs.FaultGone: WorldRig._fault_gone,
    verbs.Swipe: WorldRig._swipe,
    verbs.DropLink: WorldRig._drop_link,
    verbs.RestoreLink: WorldRig._restore_link,
    verbs.HalfOpenLink: WorldRig._half_open,
    verbs.Kill: WorldRig._kill,
    verbs.CutPower: WorldRig._cut_power,
    verbs.RestorePower: WorldRig._restore_power,
    verbs.FillDisk: WorldRig._fill_disk,
    verbs.FreeDisk: WorldRig._free_disk,
    verbs.CsmsAnswers: WorldRig._csms_answers,
    verbs.CsmsWell: WorldRig._csms_well,
    verbs.StepClock: WorldRig._step_clock,
    verbs.StepMachineClock: WorldRig._step_machine_clock,
    verbs.RemoteStart: WorldRig._remote_start,
    verbs.RemoteStop: WorldRig._remote_stop,
    verbs.Reset: WorldRig._reset,
    verbs.ChangeAvailability: WorldRig._change_availability,
    verbs.Limit: WorldRig._limit,
}
