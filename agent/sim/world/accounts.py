"""Whether all accounts agree once everything has come to rest: ledger, CSMS, meters, documents.

Charter: looked at in calm weather. The ledger's transactions, as the mirror saw them become durable, must each be
booked once at the CSMS with the same registers, in the same order, unless the CSMS itself drove the station to drop
one (``excuses``). The chain of rows and the signed documents in it must be whole.

Units: mWh; registers at a 1.6 CSMS are whole Wh. Sources: field faults 1, 2, 5, 12; checklist 16-TX, 20-TE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from agent.billing.ledger_check import DocumentCheck
from agent.charging.store import Criteria, ProfileSet
from agent.core.station import Station
from agent.ledger.reader import LedgerReader
from agent.sim.world.back_office import BackOffice
from agent.sim.world.booking import Booked
from agent.sim.world.mirror import Mirror, Seen
from agent.sim.world.orders import Availability, Order

WH_MWH: Final = 1_000
AUDIT_EVERY: Final = 8
"""A whole audit reads every row and checks every signature: not each time."""


class Accounts:
    """See the module. ``settle`` compares what came since it was called last, and lets it go."""

    def __init__(
        self,
        ledger: Path,
        mirror: Mirror,
        office: BackOffice,
        *,
        is_16: bool,
        rewound: Callable[[], bool],
        wrong: Callable[[int, str], None],
    ) -> None:
        self._ledger = ledger
        self._mirror = mirror
        self._office = office
        self._is_16 = is_16
        self._rewound = rewound
        self._wrong = wrong
        self.settled = self.compared = self.excused = 0

    def settle(self) -> None:
        self.settled += 1
        for evse, seen in self._mirror.open.items():
            self._wrong(evse, f"{seen.tx_id} is still open in the ledger, and nobody charges")
        self._compare()
        for violation in self._office.violations:
            self._wrong(0, f"the CSMS complains: {violation}")
        if self.settled % AUDIT_EVERY == 1:
            self.audit()

    def compare_availability(self, promised: Mapping[int, Availability | None], core: Station) -> None:
        """What the CSMS was told of each EVSE (0: the station) holds, unless it was to take effect later."""
        for evse, promise in promised.items():
            if promise is None or promise.scheduled:
                continue
            operative = core.evses[evse].operative if evse else core.operative
            if operative is not promise.operative:
                self._wrong(evse, f"availability: operative is {operative}, the CSMS was told {promise.operative}")

    def compare_profiles(self, orders: Iterable[Order], installed: ProfileSet) -> None:
        """A charging profile that was accepted last is there. Those before it may have expired and left; one of a
        transaction leaves with it."""
        for order in reversed(list(orders)):
            if order.action in ("SetChargingProfile", "ClearChargingProfile") and order.answer.status != "Rejected":
                break
        else:
            return
        profile = order.payload.get("chargingProfile", order.payload.get("csChargingProfiles"))
        if profile is None or order.answer.status != "Accepted" or profile["chargingProfilePurpose"] == "TxProfile":
            return
        number = profile.get("id", profile.get("chargingProfileId"))
        if not installed.select(Criteria(ids=frozenset({number}))):
            self._wrong(0, f"charging profile {number} was accepted, and is not installed")

    def _compare(self) -> None:
        ended, self._mirror.ended = self._mirror.ended, []
        booked = list(self._office.book.transactions.values())
        for seen in ended:
            found = next((each for each in booked if self._same(seen, each)), None)
            if found is None:
                self._missing(seen)
                continue
            booked.remove(found)
            self.compared += 1
            self._check(seen, found)
            self._office.book.forget(found.key)
        for each in booked:
            self._stranger(each)
            self._office.book.forget(each.key)

    def _same(self, seen: Seen, booked: Booked) -> bool:
        if not self._is_16:
            return booked.key == seen.tx_id
        begin_mwh = seen.begin.energy_import_mwh
        return booked.evse == seen.evse and booked.begin_mwh == begin_mwh - begin_mwh % WH_MWH

    def _missing(self, seen: Seen) -> None:
        if self._is_excused(seen):
            self.excused += 1
        else:
            self._wrong(seen.evse, f"{seen.tx_id} is in the ledger, and the CSMS has never heard of it")

    def _stranger(self, booked: Booked) -> None:
        if booked.key not in self._mirror.known and not self._is_16:
            self._wrong(booked.evse, f"the CSMS knows a transaction {booked.key} that is not in the ledger")

    def _check(self, seen: Seen, booked: Booked) -> None:
        name, excuses = seen.tx_id, booked.excused > 0 or self._is_excused(seen)
        for note in booked.disorder:
            if not excuses:
                self._wrong(seen.evse, f"{name} at the CSMS: {note}")
        if booked.starts > 1 or booked.ends > 1:
            self._wrong(seen.evse, f"{name} at the CSMS: {booked.starts} starts, {booked.ends} ends")
        if excuses:
            self.excused += 1
            return
        if (booked.starts, booked.ends) != (1, 1):
            self._wrong(seen.evse, f"{name} at the CSMS: {booked.starts} starts, {booked.ends} ends")
        if missing := booked.seq_nos.missing:
            self._wrong(seen.evse, f"{name} at the CSMS: no seqNo {missing[:5]}")
        assert seen.end is not None
        end_mwh = seen.end.energy_import_mwh
        told_mwh = booked.end_mwh
        if self._is_16:
            end_mwh -= end_mwh % WH_MWH
        if told_mwh != end_mwh:
            self._wrong(seen.evse, f"{name} ends at {end_mwh} mWh in the ledger, at {told_mwh} mWh at the CSMS")

    def _is_excused(self, seen: Seen) -> bool:
        """Whether the CSMS itself refused or swallowed a message of this transaction."""
        begin_wh = seen.begin.energy_import_mwh // WH_MWH
        for row in self._office.excuses.excused:
            if row[:2] == ("TransactionEvent", seen.tx_id):
                return True
            if row[:2] == ("StartTransaction", seen.evse) and row[3] == begin_wh:
                return True
        return False

    def audit(self) -> None:
        """The whole chain, every record and receipt."""
        with LedgerReader(self._ledger) as reader:
            check = DocumentCheck(key.public_der for key in reader.signing_keys())
            for each in reader.audit(number_of=check.number_of):
                self._wrong(0, f"ledger: {each.fault} at row {each.seq}: {each.detail}")
            for finding in check.findings:
                if finding.what == "register" and self._rewound():
                    continue
                self._wrong(0, f"ledger: {finding.what} at row {finding.seq}: {finding.detail}")
