"""Power only where it may be: looked at after every event of the station, and at every move of a contact.

Charter: five questions. What the station has commanded must be allowed by everything together at the end of the very
event (opening waits for nothing). What all plugs really offer must soon be within the supply, boards that nobody has in
hand included. What the contact does must follow, within the time of wire, board and travel; a
contact that does not is welded, and the station must say so. A fault that only a driver or a technician can end must
end neither by itself nor with a restart. A transaction is one vehicle's. What comes of the commands at the plug is
``plugs``' affair. Reads the station's state to know why it commands, and the ledger's mirror to know what is
durable.

Units: ms of virtual time, mA. Sources: IEC 61851-1 annex A; charging-behaviour reference; architecture, promise 1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from agent.config.model import Config
from agent.core.effects import (
    AllowPower,
    DisableBoard,
    Effect,
    OfferCurrent,
    SetDuty,
    StopOffer,
    SwitchOutput,
)
from agent.core.evse import Evse
from agent.core.status import FaultCode
from agent.sim.virtual_time import now_ms
from agent.sim.world.alarms import is_false
from agent.sim.world.mirror import Mirror
from agent.sim.world.outlet import Outlet
from agent.sim.world.plugs import ROUNDING_MA, Plugs
from agent.sim.world.vehicle import Vehicle
from hal.boards import BoardKind
from hal.ports import CpState
from hal.sim.vehicle_port import vehicle_current_ma

if TYPE_CHECKING:
    from agent.sim.world.life import Life

OPENS_WITHIN_MS: Final = 4_000
"""From the command to an open contact or a fault: a polled board is given 3 s by the station itself."""

SUPERVISION_MS: Final = 12_000
"""So long a board goes on by itself when the station has died, at most (``PilotCapabilities.supervision_ms``)."""

FALLS_BACK_MS: Final = 15_000
"""So long after the line was lost or found, at most, until a board gives its least current, and the others the rest."""

AUTONOMOUS_MS: Final = 8_000
"""So much longer an autonomous board may take: it is found and asked first, and polled."""

UNTIL_UNPLUGGED: Final = frozenset({FaultCode.RESIDUAL_CURRENT, FaultCode.CONTACTOR_OPEN, FaultCode.OVER_CURRENT})
UNTIL_CLEARED: Final = frozenset({FaultCode.RESIDUAL_SELF_TEST, FaultCode.CONTACTOR_WELDED, FaultCode.LEDGER})
"""These end with the vehicle's leaving at the earliest, those only where a technician clears them."""

KEPT_WITHIN_MS: Final = 5_000
"""A fault that has stood for so long is on disk (a commit that stands still included) and outlives the run. That the
ledger fails does not: the next run opens it anew."""


UNSEEN_MS: Final = 90_000
"""So much longer than the resume window may a vehicle be out of sight: a machine boots, and looks for its board."""


@dataclass(slots=True)
class Standing:
    """The faults of one EVSE at the last look with the times they came, and whether the pilot has said since the last
    came that nobody is there. ``seen_ms``: when each was last there, whatever was cleared since."""

    faults: dict[FaultCode, int] = field(default_factory=dict)
    seen_ms: dict[FaultCode, int] = field(default_factory=dict)
    unplugged: bool = False

    def run_ends(self) -> None:
        """The next run must find those that had the time to reach the disk."""
        lasting = (UNTIL_UNPLUGGED | UNTIL_CLEARED) - {FaultCode.LEDGER}
        old_ms = now_ms() - KEPT_WITHIN_MS
        self.faults = {fault: ms for fault, ms in self.faults.items() if fault in lasting and ms <= old_ms}


@dataclass(slots=True)
class Commanded:
    """What the station last told the devices of one EVSE. A new run has told them nothing."""

    power: bool = False
    offer_ma: int = 0
    offers: bool = False

    @property
    def live(self) -> bool:
        return self.power or self.offers


class Watch:
    """See the module. ``wrong`` takes what must not be."""

    def __init__(
        self, config: Config, outlets: dict[int, Outlet], mirror: Mirror, wrong: Callable[[int, str], None]
    ) -> None:
        self._outlets = outlets
        self._mirror = mirror
        self._wrong = wrong
        self._loop = asyncio.get_running_loop()
        self._supply_ma = config.limits.supply_current_ma
        self._ac = {evse.id for evse in config.evse if evse.board.kind is BoardKind.AC}
        self._hard_ma = {evse.id: min(evse.max_current_ma, evse.board.limits.max_current_ma) for evse in config.evse}
        self.commanded = {evse: Commanded() for evse in outlets}
        hard_ma = {evse: ma for evse, ma in self._hard_ma.items() if evse in self._ac}
        self._plugs = Plugs(outlets, hard_ma, self._limit_ma, wrong)
        self._standing = {evse: Standing() for evse in outlets}
        self._guests: dict[int, tuple[str, Vehicle, int]] = {}  # transaction, its vehicle, and when that was last there
        self._left: set[int] = set()  # where it was seen to be gone
        self._unseen_ms = config.session.resume_window_s * 1_000 + UNSEEN_MS
        self._must_open: dict[int, asyncio.TimerHandle] = {}
        self._must_share: asyncio.TimerHandle | None = None
        self.life: Life | None = None
        self._began_ms = 0
        self.looks = 0

    def new_run(self, life: Life | None) -> None:
        """A run of the station begins, or (None) none is there."""
        self.life, self._began_ms = life, now_ms()
        for evse in self.commanded:
            self.commanded[evse] = Commanded()
            if life is None:
                self._standing[evse].run_ends()
            self.contact(evse)

    def _now_ms(self) -> int:
        """Asked at every look: the loop is at hand."""
        return round(self._loop.time() * 1_000)

    # ------------------------------------------------------------------------------- what is commanded

    def effect(self, effect: Effect) -> None:
        """The station tells a device something."""
        if isinstance(effect, AllowPower):
            self.commanded[effect.evse].power = effect.allowed
        elif isinstance(effect, SwitchOutput):
            self.commanded[effect.evse].power = effect.on
        elif isinstance(effect, SetDuty):
            offer_ma = vehicle_current_ma(effect.duty_centipercent)
            self.commanded[effect.evse].offer_ma = offer_ma
        elif isinstance(effect, OfferCurrent):
            self.commanded[effect.evse].offer_ma = effect.current_ma
            self.commanded[effect.evse].offers = effect.current_ma > 0
        elif isinstance(effect, StopOffer | DisableBoard):
            self.commanded[effect.evse].offer_ma = 0
            self.commanded[effect.evse].offers = False
        else:
            return
        self.contact(effect.evse)

    def look(self) -> None:
        """The station has handled an event."""
        life = self.life
        if life is None:
            return
        self.looks += 1
        total_ma = 0
        for number, commanded in self.commanded.items():
            evse = life.station.logic.core.evses[number]
            self._look_at_faults(evse, number)
            self._plugs.look(number)
            self._look_at_vehicle(evse, number, commanded)
            if commanded.offer_ma or commanded.power:
                self._judge(evse, number, commanded)
                if number in self._ac:
                    total_ma += commanded.offer_ma if evse.flow.tx is not None else 0
        if self._supply_ma is not None and total_ma > self._supply_ma + 2 * ROUNDING_MA:
            self._wrong(0, f"{total_ma} mA offered in all, the supply gives {self._supply_ma} mA")
        self._look_at_supply()

    def _look_at_supply(self) -> None:
        """It is exceeded now: it must not be so for long."""
        if self._over_supply_ma() == 0:
            if self._must_share is not None:
                self._must_share.cancel()
                self._must_share = None
        elif self._must_share is None:
            self._must_share = self._loop.call_later(FALLS_BACK_MS / 1_000, self._still_over_supply)

    def _still_over_supply(self) -> None:
        self._must_share = None
        if over_ma := self._over_supply_ma():
            self._wrong(0, f"the plugs offer {over_ma} mA more than the supply gives ({self._supply_ma} mA)")

    def _over_supply_ma(self) -> int:
        """By how much all AC plugs offer more than the supply, where the station could give less."""
        if self._supply_ma is None or self.life is None:
            return 0
        live = [self._outlets[number] for number in self._ac if self._outlets[number].contactor_closed]
        offered_ma = {outlet: outlet.offered_ma for outlet in live if outlet.mains}
        in_hand = any(ma for outlet, ma in offered_ma.items() if outlet.supervised)
        most_ma = self._supply_ma + len(offered_ma) * ROUNDING_MA
        return max(sum(offered_ma.values()) - most_ma, 0) if in_hand else 0

    def _look_at_vehicle(self, evse: Evse, number: int, commanded: Commanded) -> None:
        """A transaction has one vehicle. Another that takes its place soon, while nobody looks, cannot be told from it;
        nor, where unplugging does not end it at once, one that comes within the time to plug in again."""
        assert self.life is not None
        tx, vehicle, behaviour = evse.flow.tx, self._outlets[number].vehicle, self.life.station.logic.core.ctx.behaviour
        if tx is None:
            return
        if vehicle is None:
            self._look_at_leaving(number, tx.tx_id, at_once=behaviour.stop_on_unplug)
            return
        unseen_ms = self._unseen_ms + (0 if behaviour.stop_on_unplug else behaviour.connect_timeout_ms)
        tx_id, first, seen_ms = self._guests.get(number, ("", vehicle, 0))
        if tx_id != tx.tx_id or vehicle is first or self._now_ms() - seen_ms <= unseen_ms:
            self._guests[number] = tx.tx_id, vehicle, self._now_ms()
            self._left.discard(number)
        elif commanded.live:
            self._wrong(number, f"another car charges on the transaction {tx_id}")

    def _look_at_leaving(self, number: int, tx_id: str, *, at_once: bool) -> None:
        """Where it does not end the transaction at once, the time to plug in again runs from here: the last look at the
        vehicle may be minutes ago."""
        guest = self._guests.get(number)
        if not at_once and guest is not None and guest[0] == tx_id and number not in self._left:
            self._left.add(number)
            self._guests[number] = *guest[:2], self._now_ms()

    def _limit_ma(self, number: int) -> int | None:
        if self.life is None or not self.commanded[number].live:
            return None
        return self.life.station.logic.core.evses[number].allowed_ma()

    def technician(self, number: int) -> None:
        """Somebody clears what is latched here: now any fault may end."""
        if number in self._standing:
            self._standing[number] = Standing(seen_ms=self._standing[number].seen_ms)

    def _look_at_faults(self, evse: Evse, number: int) -> None:
        standing, active = self._standing[number], frozenset(evse.faults.active)
        if not active and not standing.faults:
            return
        for fault in evse.faults.active:
            if is_false(fault, self._outlets[number], standing.seen_ms.get(fault), self._began_ms):
                self._wrong(number, f"the station says {fault.value}, and there is no cause")
            standing.seen_ms[fault] = self._now_ms()
        standing.unplugged |= CpState.A in (evse.vehicle.raw, self._outlets[number].cp)
        gone = standing.faults.keys() - active
        early = gone & UNTIL_CLEARED if standing.unplugged else gone & (UNTIL_CLEARED | UNTIL_UNPLUGGED)
        for fault in early:
            self._wrong(number, f"the fault {fault.value} ends by itself, or with a restart")
        if active - standing.faults.keys():
            standing.unplugged = False
        standing.faults = {fault: standing.faults.get(fault, self._now_ms()) for fault in evse.faults.active}

    def _judge(self, evse: Evse, number: int, commanded: Commanded) -> None:
        limit_ma = self._hard_ma[number]
        if number in self._ac and commanded.offer_ma > limit_ma + ROUNDING_MA:
            self._wrong(number, f"{commanded.offer_ma} mA offered, {limit_ma} mA is the most")
        allowed_ma = evse.allowed_ma()
        if number in self._ac and commanded.offer_ma > allowed_ma + ROUNDING_MA:
            self._wrong(number, f"{commanded.offer_ma} mA offered, the limit is {allowed_ma} mA")
        if not commanded.live:
            return
        tx, open_tx = evse.flow.tx, self._mirror.open.get(number)
        if tx is None or open_tx is None or open_tx.tx_id != tx.tx_id:
            self._wrong(number, "power is allowed without a durable start of a transaction")
        if evse.faults.active:
            faults = ", ".join(fault.value for fault in evse.faults.active)
            self._wrong(number, f"power is allowed in fault ({faults})")
        if commanded.power and evse.vehicle.raw not in (CpState.C, CpState.D) and number in self._ac:
            self._wrong(number, f"power is allowed in pilot state {evse.vehicle.raw}")

    # --------------------------------------------------------------------------------- what is so

    def contact(self, number: int) -> None:
        """The contact moved, or what is wanted of it changed."""
        outlet = self._outlets[number]
        stray = outlet.contactor_closed and not self.commanded[number].live
        timer = self._must_open.pop(number, None)
        if timer is not None:
            timer.cancel()
        if stray:
            wait_ms = OPENS_WITHIN_MS if self.life is not None else OPENS_WITHIN_MS + SUPERVISION_MS
            wait_ms += AUTONOMOUS_MS if outlet.evse.board.pilot.driver.autonomous else 0
            self._must_open[number] = self._loop.call_later(wait_ms / 1_000, self._still_closed, number)
        elif outlet.contactor_closed and number not in self._mirror.open and self._is_ours(outlet):
            self._wrong(number, "the contact closes without a durable start of a transaction")

    def _still_closed(self, number: int) -> None:
        del self._must_open[number]
        outlet, life = self._outlets[number], self.life
        if not self._is_ours(outlet):
            self.contact(number)
            return
        if not outlet.contactor_closed or outlet.plug_point.welded:
            self._weld_is_told(number)
            return
        faults = set() if life is None else set(life.station.logic.core.evses[number].faults.active)
        if not outlet.evse.board.pilot.driver.autonomous:
            faults &= {FaultCode.CONTACTOR_WELDED, FaultCode.PILOT_LOST}
        if not outlet.faults:  # then nothing is welded, whatever the station calls it
            faults.discard(FaultCode.CONTACTOR_WELDED)
        if faults or (not outlet.board.reachable and outlet.now_ms() - outlet.even_since_ms < SUPERVISION_MS):
            self.contact(number)  # it is looked at again; a board that has just lost its line opens by itself
        else:
            self._wrong(number, f"the contact is still closed {OPENS_WITHIN_MS} ms after it should open ({now_ms()})")

    @staticmethod
    def _is_ours(outlet: Outlet) -> bool:
        """An autonomous board charges whoever plugs in while no station holds it: that is how it is built."""
        return outlet.supervised or not outlet.evse.board.pilot.driver.autonomous

    def _weld_is_told(self, number: int) -> None:
        """A contact that cannot open is a fault that everybody hears of. An autonomous board does not look at it while
        it sleeps, nor where it has found something else before."""
        outlet = self._outlets[number]
        if self.life is None or not outlet.contactor_closed or not outlet.board.minds_contact:
            return
        faults = set(self.life.station.logic.core.evses[number].faults.active)
        if not outlet.evse.board.pilot.driver.autonomous:
            faults &= {FaultCode.CONTACTOR_WELDED, FaultCode.PILOT_LOST}
        if not faults:
            self._wrong(number, "the contact is welded, and the station does not say so")
