"""The rig of real processes: supervisor, station and gateway on simulated boards at ptys, a real WebSocket to a CSMS.

Charter: joins ``Stage`` (processes, bench) and ``BackOffice`` (CSMS) into a ``Rig`` in real time. What it cannot do it
does not claim: a power cut would need another boot of the kernel (boot id and monotonic time are the kernel's) and
lost writes, a full disk a file system of its own. Those are for the simulated world.

Settings are short so that scenarios take seconds; ``_SETTINGS`` has them. Units: milliseconds of this machine's
monotonic clock.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from agent.core.facts import Token
from agent.ipc.client import RemoteStation
from agent.ipc.port import Progress, StationLost, StationStatus
from agent.ipc.profiles import CompositeSchedule
from agent.ledger.errors import LedgerError
from agent.sim.bench import BadOrder
from agent.sim.scenario import verbs
from agent.sim.scenario.back_office import BackOffice
from agent.sim.scenario.reading import read_accounts
from agent.sim.scenario.rig import Account, Observation, RigTrouble, SeenEvse
from agent.sim.stage import Stage
from hal.sim.vehicle_port import vehicle_current_ma

_EVENTS_KEPT = 40
_FIND_S = 15.0  # the supervisor may still wait before it starts a process again
_ANSWER_S = 10.0
_LIMIT_PROFILE = 1  # the id that ``SimCsms.limit`` uses
_SETTINGS = """\
[settings.OCPPCommCtrlr]
"MessageAttempts[TransactionEvent]" = 2
"MessageAttemptInterval[TransactionEvent]" = 1
RetryBackOffRandomRange = 0
WebSocketPingInterval = 1

[timing]
raise_limit_every_ms = 500

"""
_TOKEN = '[[token]]\nid = "{card}"\n\n'


class ProcessRig:
    """A rig in ``folder`` that speaks ``version`` ("1.6" or "2.0.1"). An asynchronous context manager."""

    def __init__(self, folder: Path, version: str, boards: tuple[str, ...] = ("mcu_ac",)) -> None:
        self.name = f"processes, OCPP {version}"
        self.evses = len(boards)
        cards = "".join(_TOKEN.format(card=card) for card in (verbs.CARD, verbs.OTHER_CARD))
        self._csms = BackOffice(version)
        self._stage = Stage(folder, None, (version,), sample_s=1, boards=boards, extra=_SETTINGS + cards)
        self._supervisor: asyncio.subprocess.Process | None = None
        self._events: deque[str] = deque(maxlen=_EVENTS_KEPT)
        self._states: dict[int, str] = {}
        self._limited = False
        self._ledger: tuple[int, tuple[Account, ...]] = (0, ())

    async def __aenter__(self) -> ProcessRig:
        self._stage.url = await self._csms.start()
        self._stage.lay_out()
        try:
            await self._stage.start_bench()
            self._supervisor = await self._stage.launch("run")
            async with asyncio.timeout(_FIND_S):
                await self._csms.connected.wait()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stage.stop()
        self._csms.drop_dead()
        await self._csms.stop()

    async def settle(self, within_s: float = 30.0) -> None:
        """As after the start: nothing plugged, nothing wrong, nothing limited, all told. Raises ``RigTrouble``."""
        self._csms.moods.clear()
        await self._restore_link(verbs.RestoreLink())
        for evse in range(1, self.evses + 1):
            for action in ("clear", "ready", "unplug"):
                await self._order(evse, action)
        try:
            async with asyncio.timeout(within_s):
                while not _at_rest(await self.look()):
                    await self.wait(100)
                if self._csms.clock_offset_s:
                    await self._step_clock(verbs.StepClock(-self._csms.clock_offset_s))
                if self._limited:
                    await self._lift_limit()
        except (OSError, TimeoutError) as error:
            raise RigTrouble(f"the rig does not come to rest: {(await self.look()).words()}") from error

    async def wait(self, ms: int) -> None:
        await asyncio.sleep(ms / 1_000)

    patience = 1

    @property
    def can(self) -> frozenset[type[verbs.Verb]]:
        return frozenset(_DOERS)

    # -------------------------------------------------------------------------------------- doing

    async def do(self, verb: verbs.Verb) -> str:
        """See ``Rig.do``."""
        self._events.append(verb.words())
        doer: Callable[[ProcessRig, Any], Awaitable[str]] = _DOERS[type(verb)]
        try:
            return await asyncio.wait_for(doer(self, verb), _FIND_S + _ANSWER_S)
        except (OSError, TimeoutError, StationLost, BadOrder) as error:
            raise RigTrouble(f"{verb.words()}: {error or type(error).__name__}") from error

    async def _plug(self, verb: verbs.Plug) -> str:
        return await self._order(verb.evse, "plug")

    async def _unplug(self, verb: verbs.Unplug) -> str:
        return await self._order(verb.evse, "unplug")

    async def _pause(self, verb: verbs.CarPauses) -> str:
        return await self._order(verb.evse, "pause")

    async def _wake(self, verb: verbs.CarWakes) -> str:
        return await self._order(verb.evse, "ready")

    async def _fault(self, verb: verbs.Fault) -> str:
        if verb.device == "car":
            return await self._order(verb.evse, "habit", verb.name)
        param = () if verb.param is None else (str(verb.param),)
        return await self._order(verb.evse, "fault", verb.device, verb.name, *param)

    async def _fault_gone(self, verb: verbs.FaultGone) -> str:
        return await self._order(verb.evse, "clear", verb.device)

    async def _order(self, evse: int, action: str, *arguments: str) -> str:
        await self._stage.order(evse, action, *arguments)
        return ""

    async def _swipe(self, verb: verbs.Swipe) -> str:
        station = await self._stage.station(_FIND_S)
        try:
            said = await station.present_token(Token(verb.token), verb.evse)
        finally:
            await station.close()
        self._events.append(f"the station says: {said}")
        return said

    async def _drop_link(self, _: verbs.DropLink) -> str:
        await self._csms.set_away(True)
        return ""

    async def _restore_link(self, _: verbs.RestoreLink) -> str:
        self._csms.drop_dead()
        await self._csms.set_away(False)
        return ""

    async def _half_open(self, _: verbs.HalfOpenLink) -> str:
        self._csms.go_half_open()
        return ""

    async def _kill(self, verb: verbs.Kill) -> str:
        both = (verbs.Process.STATION, verbs.Process.GATEWAY)
        for process in both if verb.process is verbs.Process.BOTH else (verb.process,):
            os.kill(await self._pid_of(process.value), signal.SIGKILL)
        return ""

    async def _pid_of(self, command: str) -> int:
        """The supervisor's child that runs this command, as soon as there is one."""
        assert self._supervisor is not None
        supervisor = self._supervisor.pid
        while True:
            for child in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
                if command.encode() in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                    return int(child)
            await asyncio.sleep(0.05)

    # --------------------------------------------------------------------------------------- CSMS

    async def _csms_answers(self, verb: verbs.CsmsAnswers) -> str:
        self._csms.moods[verb.message] = verb.mood
        return ""

    async def _csms_well(self, _: verbs.CsmsWell) -> str:
        self._csms.moods.clear()
        return ""

    async def _step_clock(self, verb: verbs.StepClock) -> str:
        self._csms.clock_offset_s += verb.by_s
        return await self._call("TriggerMessage", requested_message="Heartbeat")

    async def _remote_start(self, verb: verbs.RemoteStart) -> str:
        if self._csms.version == "1.6":
            return await self._call("RemoteStartTransaction", id_tag=verb.token, connector_id=verb.evse)
        token = {"id_token": verb.token, "type": "ISO14443"}
        return await self._call("RequestStartTransaction", id_token=token, remote_start_id=1, evse_id=verb.evse)

    async def _remote_stop(self, verb: verbs.RemoteStop) -> str:
        keys = [booked.key for booked in self._csms.book.open if booked.evse == verb.evse]
        if not keys:
            raise RigTrouble(f"{verb.words()}: it knows no open transaction")
        if self._csms.version == "1.6":
            return await self._call("RemoteStopTransaction", transaction_id=self._csms.number_of(keys[-1]))
        return await self._call("RequestStopTransaction", transaction_id=keys[-1])

    async def _reset(self, verb: verbs.Reset) -> str:
        if self._csms.version != "1.6":
            return await self._call("Reset", type="OnIdle" if verb.when_idle else "Immediate")
        if verb.when_idle:
            raise RigTrouble("OCPP 1.6 has no reset when idle")
        return await self._call("Reset", type="Soft")

    async def _change_availability(self, verb: verbs.ChangeAvailability) -> str:
        status = "Operative" if verb.operative else "Inoperative"
        if self._csms.version == "1.6":
            return await self._call("ChangeAvailability", connector_id=verb.evse, type=status)
        where = {"evse": {"id": verb.evse}} if verb.evse else {}
        return await self._call("ChangeAvailability", operational_status=status, **where)

    async def _lift_limit(self) -> None:
        name = "id" if self._csms.version == "1.6" else "charging_profile_id"
        await self._call("ClearChargingProfile", **{name: _LIMIT_PROFILE})
        self._limited = False

    async def _limit(self, verb: verbs.Limit) -> str:
        self._limited = True
        return _status(await self._csms.limit(float(verb.amperes)))

    async def _call(self, name: str, **payload: Any) -> str:
        return _status(await self._csms.call(name, **payload))

    # ------------------------------------------------------------------------------------ looking

    async def look(self) -> Observation:
        """See ``Rig.look``."""
        status, progress, schedules = await self._ask_station()
        evses = [await self._see(number, status, schedules) for number in range(1, self.evses + 1)]
        self._note_states(evses)
        book = self._csms.book
        return Observation(
            at_ms=time.monotonic_ns() // 1_000_000,
            evses=tuple(evses),
            station_up=status is not None,
            online=status is not None and status.online,
            undelivered=None if progress is None else progress.undelivered,
            ledger=self._read_ledger(status),
            csms=self._csms.accounts(),
            told=tuple(self._csms.told),
            statuses=tuple(book.statuses),
            boots=book.boots,
            violations=tuple(book.violations),
            csms_step_mwh=1_000 if self._csms.version == "1.6" else 1,
            events=(*list(self._csms.events)[-6:], *list(self._events)[-6:]),
        )

    async def _ask_station(
        self,
    ) -> tuple[StationStatus | None, Progress | None, dict[int, CompositeSchedule | None]]:
        try:
            station = await RemoteStation.connect(self._stage.run_dir / "station.sock")
        except StationLost:
            return None, None, {}
        try:
            status, progress = await station.status(), await station.progress()
            numbers = range(1, self.evses + 1)
            return status, progress, {evse: await station.composite_schedule(evse, 1, "A") for evse in numbers}
        except StationLost:
            return None, None, {}
        finally:
            await station.close()

    async def _see(
        self, evse: int, status: StationStatus | None, schedules: dict[int, CompositeSchedule | None]
    ) -> SeenEvse:
        try:
            board = await self._stage.order(evse, "status")
        except OSError as error:
            raise RigTrouble(f"the bench is gone, see {self._stage.folder / 'sim-bench.log'}") from error
        view = None if status is None else status.evses[evse - 1]
        schedule = schedules.get(evse)
        return SeenEvse(
            evse,
            state="" if view is None else view.state.value,
            faults=() if view is None else tuple(fault.value for fault in view.faults),
            tx_id=None if view is None else view.tx_id,
            limit_ma=None if schedule is None else schedule.periods[0].limit_tenths * 100,
            plugged=board["plugged"],
            cp=board["cp"],
            contactor_closed=board["relay_closed"],
            signalled_ma=vehicle_current_ma(board["duty_centipercent"]),
            current_ma=board["current_ma"],
            taken_mwh=board["taken_mwh"],
            metered_mwh=board["metered_mwh"],
        )

    def _note_states(self, evses: list[SeenEvse]) -> None:
        for view in evses:
            if self._states.get(view.evse) != view.state:
                self._states[view.evse] = view.state
                self._events.append(view.words())

    def _read_ledger(self, status: StationStatus | None) -> tuple[Account, ...]:
        """All transactions of the ledger; read again only when it has grown."""
        if status is not None and status.head_seq != self._ledger[0]:
            try:
                self._ledger = status.head_seq, read_accounts(self._stage.folder / "data" / "ledger.sqlite")
            except LedgerError as error:
                raise RigTrouble(str(error)) from error
        return self._ledger[1]


def _at_rest(seen: Observation) -> bool:
    return seen.online and seen.undelivered == 0 and all(evse.state == "Available" for evse in seen.evses)


def _status(answer: Any) -> str:
    """What the station answered; a CALLERROR is no status."""
    return "CallError" if answer is None else str(answer.status)


_DOERS: dict[type[verbs.Verb], Any] = {
    verbs.Plug: ProcessRig._plug,
    verbs.Unplug: ProcessRig._unplug,
    verbs.CarPauses: ProcessRig._pause,
    verbs.CarWakes: ProcessRig._wake,
    verbs.Fault: ProcessRig._fault,
    verbs.FaultGone: ProcessRig._fault_gone,
    verbs.Swipe: ProcessRig._swipe,
    verbs.DropLink: ProcessRig._drop_link,
    verbs.RestoreLink: ProcessRig._restore_link,
    verbs.HalfOpenLink: ProcessRig._half_open,
    verbs.Kill: ProcessRig._kill,
    verbs.CsmsAnswers: ProcessRig._csms_answers,
    verbs.CsmsWell: ProcessRig._csms_well,
    verbs.StepClock: ProcessRig._step_clock,
    verbs.RemoteStart: ProcessRig._remote_start,
    verbs.RemoteStop: ProcessRig._remote_stop,
    verbs.Reset: ProcessRig._reset,
    verbs.ChangeAvailability: ProcessRig._change_availability,
    verbs.Limit: ProcessRig._limit,
}
