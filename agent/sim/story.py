"""The demo's story, and the comparison at its end.

Charter: domain verbs over a ``Stage`` and a ``SimCsms``; what happens, in words, goes to ``tell``. The
comparison takes the four books: what the cars took, what the meters counted, what the ledger holds,
what the CSMS was told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial

from agent.billing.read import parse as parse_receipt
from agent.billing.verdicts import State
from agent.billing.verdicts import verify as verify_receipt
from agent.core.facts import Token
from agent.core.status import ConnectorState
from agent.ipc.codec import decode_fact
from agent.ledger.reader import LedgerReader
from agent.ocmf.public_key import parse_key
from agent.sim.csms import SimCsms
from agent.sim.stage import Stage
from agent.tariff.currency import minor_text

Tell = Callable[[str], None]
_CARDS = {1: "04A1B2C3D4E5F6", 2: "04B2C3D4E5F6A1", 3: "04C3D4E5F6A1B2"}


class StoryFailed(Exception):
    """Something that the story waits for did not happen."""


@dataclass(frozen=True, slots=True)
class Books:
    """Energy of one EVSE by each witness, in mWh; ``csms`` None where a foreign CSMS keeps it."""

    evse: int
    car_mwh: int
    meter_mwh: int
    ledger_mwh: int
    csms_mwh: int | None
    transactions: int

    def agree(self, csms_step_mwh: int) -> bool:
        """Car and meter to the last mWh; the ledger within the meter's own register step (float32:
        0.25 Wh a reading); the CSMS within what its messages can express."""
        ledger_ok = abs(self.ledger_mwh - self.meter_mwh) <= 500 * max(1, self.transactions)
        csms_ok = self.csms_mwh is None or abs(self.csms_mwh - self.ledger_mwh) <= csms_step_mwh * self.transactions
        return self.car_mwh == self.meter_mwh and ledger_ok and csms_ok


class Onlooker:
    """Who tells a story must see what happens on its stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def _online(self) -> bool:
        status = await self._stage.status()
        return status is not None and status.online

    async def _is(self, evse: int, state: ConnectorState) -> bool:
        status = await self._stage.status()
        return status is not None and status.evses[evse - 1].state is state

    async def _until(self, what: str, is_so: Callable[[], Awaitable[bool]], within_s: float = 60.0) -> None:
        deadline_s = asyncio.get_running_loop().time() + within_s
        while not await is_so():
            if asyncio.get_running_loop().time() > deadline_s:
                raise StoryFailed(f"waited {within_s:.0f} s for {what}")
            await asyncio.sleep(0.1)


class Story(Onlooker):
    """Plug in, authorize, charge, limit lowered, CSMS lost and back, unplug."""

    def __init__(self, stage: Stage, csms: SimCsms | None, tell: Tell, *, pace_s: float) -> None:
        super().__init__(stage)
        self._csms = csms
        self._tell = tell
        self._pace_s = pace_s

    async def play(self) -> None:
        evses = range(1, len(self._stage.boards) + 1)
        self._tell("the station boots and looks for its CSMS")
        await self._until("the CSMS link", self._online)
        for evse in evses:
            await self._arrive(evse)
        await self._pause("charging")
        if self._csms is not None:
            await self._limit_and_loss(self._csms)
        await self._tell_costs(evses)
        for evse in evses:
            self._tell(f"EVSE {evse}: the driver unplugs")
            await self._stage.order(evse, "unplug")
        for evse in evses:
            await self._until(f"EVSE {evse} to be free", partial(self._is, evse, ConnectorState.AVAILABLE))
        if self._csms is not None:
            await self._until("the CSMS to know everything", self._all_told)
        self._tell("everything is told")

    async def _arrive(self, evse: int) -> None:
        self._tell(f"EVSE {evse}: a car plugs in")
        await self._stage.order(evse, "plug")
        await self._until(f"EVSE {evse} to see the car", lambda: self._is(evse, ConnectorState.PREPARING))
        if evse == 2 and self._csms is not None:
            self._tell("EVSE 2: the CSMS starts remotely")
            await self._remote_start(self._csms, evse)
        else:
            self._tell(f"EVSE {evse}: the driver swipes a card")
            await self.swipe(evse)
        await self._until(f"EVSE {evse} to charge", lambda: self._is(evse, ConnectorState.CHARGING))
        self._tell(f"EVSE {evse}: charging")

    async def swipe(self, evse: int) -> str:
        station = await self._stage.station()
        try:
            return await station.present_token(Token(_CARDS.get(evse, "04FFFFFFFFFFFF")), evse)
        finally:
            await station.close()

    async def _remote_start(self, csms: SimCsms, evse: int) -> None:
        if csms.version == "1.6":
            await csms.call("RemoteStartTransaction", id_tag="REMOTE-7", connector_id=evse)
        else:
            token = {"id_token": "REMOTE-7", "type": "Central"}
            await csms.call("RequestStartTransaction", id_token=token, remote_start_id=7, evse_id=evse)

    async def _limit_and_loss(self, csms: SimCsms) -> None:
        self._tell("the CSMS limits the whole station to 20 A")
        await csms.limit(20.0)
        await self._until("the limit to hold", self._limited)
        await self._pause("charging at the limit")
        self._tell("the CSMS is lost; charging goes on, facts wait in the ledger")
        await csms.set_away(True)
        await self._pause("charging alone")
        self._tell("the CSMS is back")
        await csms.set_away(False)
        await self._until("the CSMS link", self._online)
        self._tell("the CSMS lifts the limit")
        await csms.limit(200.0)
        await self._pause("charging on")

    async def _tell_costs(self, evses: Iterable[int]) -> None:
        """What the drivers see of money while they charge."""
        status = await self._stage.status()
        prices = {} if status is None else {price.evse: price for price in status.prices}
        costs = (f"EVSE {evse} {prices[evse].cost}" for evse in evses if evse in prices and prices[evse].cost)
        self._tell(f"cost so far: {', '.join(costs)}")

    # -------------------------------------------------------------------------------------- looking

    async def _limited(self) -> bool:
        status = await self._stage.status()
        if status is None:
            return False
        return sum(self._stage.at_supply_ma(view.evse, view.offered_ma) for view in status.evses) <= 20_000

    async def _all_told(self) -> bool:
        station = await self._stage.station()
        try:
            progress = await station.progress()
        finally:
            await station.close()
        return progress.undelivered == 0

    async def _pause(self, what: str) -> None:
        self._tell(f"{what} for {self._pace_s:.0f} s")
        await asyncio.sleep(self._pace_s)


@dataclass(frozen=True, slots=True)
class Proof:
    """A receipt, and what is wrong with it (nothing, if all is well)."""

    evse: int
    tx_id: str
    energy_mwh: int
    cost: str
    csms_has_record: bool | None  # None where a foreign CSMS keeps its books
    wrong: tuple[str, ...]


def read_proofs(stage: Stage, csms: SimCsms | None) -> list[Proof]:
    """All receipts of the ledger, judged by the station's public key; and whether the CSMS holds the same record."""
    found = []
    booked = [] if csms is None else csms.book.transactions.values()
    sent = {signed.record for transaction in booked for signed in transaction.signed}
    with LedgerReader(stage.folder / "data" / "ledger.sqlite") as reader:
        keys = [parse_key(key.public_der) for key in reader.signing_keys()]
        for row in reader.rows(0, 1_000, kinds=("receipt",)):
            receipt = parse_receipt(row.body)
            bad = [each.text for each in verify_receipt(receipt, keys[0]) if each.state is not State.GOOD]
            cost = "-" if receipt.bill is None else minor_text(receipt.bill.total_incl, receipt.bill.currency)
            unit = "" if receipt.bill is None else f" {receipt.bill.currency}"
            energy_mwh = receipt.energy_mwh or 0
            told = None if csms is None else receipt.records[-1].encode() in sent
            place, tx_id = receipt.facts.place, receipt.facts.tx_id
            found.append(Proof(place.evse, tx_id, energy_mwh, cost + unit, told, tuple(bad)))
    return found


async def read_books(stage: Stage, csms: SimCsms | None) -> list[Books]:
    """All four books, EVSE by EVSE."""
    ledger = ledger_energy(stage)
    found = []
    for evse in range(1, len(stage.boards) + 1):
        view = await stage.order(evse, "status")
        mwh, count = ledger.get(evse, (0, 0))
        told = None
        if csms is not None:
            told = round(sum(b.wh for b in csms.book.transactions.values() if b.evse == evse) * 1_000)
        found.append(Books(evse, view["taken_mwh"], view["metered_mwh"], mwh, told, count))
    return found


def ledger_energy(stage: Stage) -> dict[int, tuple[int, int]]:
    """(end minus begin register in mWh, number of transactions) by EVSE, over all ended transactions."""
    begins: dict[str, int] = {}
    sums: dict[int, tuple[int, int]] = {}
    with LedgerReader(stage.folder / "data" / "ledger.sqlite") as reader:
        after = 0
        while page := reader.rows(after, 500, kinds=("tx_started", "tx_ended")):
            for row in page:
                fact = decode_fact(row.kind, row.body)
                energy_mwh = fact.samples[-1].energy_import_mwh  # type: ignore[union-attr]
                assert row.tx_id is not None and row.evse is not None
                if row.kind == "tx_started":
                    begins[row.tx_id] = energy_mwh
                else:
                    mwh, count = sums.get(row.evse, (0, 0))
                    sums[row.evse] = (mwh + energy_mwh - begins[row.tx_id], count + 1)
            after = page[-1].seq
    return sums
