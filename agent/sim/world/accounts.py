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
from agent.core.facts import Sample
from agent.core.station import Station
from agent.ledger.reader import LedgerReader
from agent.ocpp.timestamps import from_rfc3339, to_rfc3339
from agent.sim.world.back_office import BackOffice
from agent.sim.world.booking import Booked
from agent.sim.world.mirror import Mirror, Seen
from agent.sim.world.orders import Order

WH_MWH: Final = 1_000
AUDIT_EVERY: Final = 4
"""A whole audit reads every row and checks every signature: not each time, but so often that no row is removed before
it was read (``site.RETENTION_DAYS``; settled twice every eight days)."""

CLOCK_MS: Final = 120_000
"""A row and the time it tells are so near to each other: some answers of the CSMS travel half a minute."""

SAME_REASONS: Final = frozenset({"DeAuthorized", "EmergencyStop", "EVDisconnected", "Local", "PowerLoss", "Remote"})
"""These have the same name in ledger and both versions."""

IN_16: Final = {"Timeout": "EVDisconnected"}
"""What another of them stands for there."""


class Accounts:
    """See the module. ``settle`` compares what came since it was called last, and lets it go."""

    def __init__(
        self,
        ledger: Path,
        mirror: Mirror,
        office: BackOffice,
        *,
        is_16: bool,
        rewound: Callable[[int], bool],
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
        self._judge_orphans()
        for violation in self._office.violations:
            self._wrong(0, f"the CSMS complains: {violation}")
        if self.settled % AUDIT_EVERY == 1:
            self.audit()

    def compare_availability(self, promised: Mapping[int, bool | None], core: Station) -> None:
        """What the CSMS was told of each EVSE (0: the station) holds, or will when its transactions have ended."""
        for evse, promise in promised.items():
            place = core.evses[evse] if evse else core
            operative = place.operative if place.pending_operative is None else place.pending_operative
            if promise is not None and operative is not promise:
                self._wrong(evse, f"availability: operative is {operative}, the CSMS was told {promise}")

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
            if not seen.has_receipt:
                self._wrong(seen.evse, f"{seen.tx_id} has ended, and has no receipt")
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
        if booked.key not in self._mirror.known and booked.excused == 0:
            self._wrong(booked.evse, f"the CSMS knows a transaction {booked.key} that is not in the ledger")

    def _judge_orphans(self) -> None:
        """Under transactionId -1 goes on only what the CSMS refused to begin."""
        ends = sum(orphan.action == "StopTransaction" for orphan in self._office.book.orphans)
        refused = sum(row[0] == "StartTransaction" for row in self._office.excuses.excused)
        if ends > refused:
            self._wrong(0, f"{ends} ends of no transaction at the CSMS, it has refused {refused} starts")

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
        pairs = [
            ("begins at", self._told_mwh(seen.begin), booked.begin_mwh),
            ("ends at", self._told_mwh(seen.end), booked.end_mwh),
            ("is on EVSE", seen.evse, booked.evse),
            ("is paid by", seen.token.upper(), booked.id_token.upper()),
        ]
        reason = IN_16.get(seen.reason, seen.reason) if self._is_16 else seen.reason
        if reason in SAME_REASONS or booked.reason in SAME_REASONS:
            pairs.append(("ended for", reason, booked.reason))
        for what, ours, theirs in pairs:
            if ours != theirs:
                self._wrong(seen.evse, f"{name} {what} {ours} in the ledger, {theirs} at the CSMS")
        self._check_times(seen, booked)

    def _told_mwh(self, sample: Sample) -> int:
        """1.6 tells whole Wh."""
        return sample.energy_import_mwh - (sample.energy_import_mwh % WH_MWH if self._is_16 else 0)

    def _check_times(self, seen: Seen, booked: Booked) -> None:
        """Where the clock was right all the time. What was disturbed, or was ended by a reading that cannot be, may
        have ended before anybody could say so."""
        assert seen.ended_truth is not None and seen.end is not None
        begun, ended = seen.started, seen.ended_truth
        if not (begun.clock_sound and ended.clock_sound) or begun.disturbed != ended.disturbed:
            return
        times = [("began", begun.wall_ms, booked.started_at)]
        if seen.end.meter_state == "G" and not seen.rolled_over:
            times.append(("ended", ended.wall_ms, booked.ended_at))
        for what, true_ms, told in times:
            if abs(from_rfc3339(told) - true_ms) > CLOCK_MS:
                self._wrong(seen.evse, f"{seen.tx_id} {what} at {told} for the CSMS, at {to_rfc3339(true_ms)} in truth")

    def _is_excused(self, seen: Seen) -> bool:
        """Whether the CSMS itself refused or swallowed a message of this transaction."""
        begin_wh = seen.begin.energy_import_mwh // WH_MWH
        for row in self._office.excuses.excused:
            if row[:2] == ("TransactionEvent", seen.tx_id):
                return True
            if row[:2] == ("StartTransaction", seen.evse) and row[3] == begin_wh:
                return True
        return False

    def oldest_seq(self) -> int:
        """The first row that is left."""
        with LedgerReader(self._ledger) as reader:
            return reader.rows(0, 1)[0].seq

    def _is_rewound(self, reader: LedgerReader, seq: int) -> bool:
        evse = reader.rows(seq - 1, 1)[0].evse
        return evse is not None and self._rewound(evse)

    def audit(self) -> None:
        """The whole chain, every record and receipt."""
        with LedgerReader(self._ledger) as reader:
            check = DocumentCheck(key.public_der for key in reader.signing_keys())
            for each in reader.audit(number_of=check.number_of):
                self._wrong(0, f"ledger: {each.fault} at row {each.seq}: {each.detail}")
            for finding in check.findings:
                if finding.what == "register" and self._is_rewound(reader, finding.seq):
                    continue
                self._wrong(0, f"ledger: {finding.what} at row {finding.seq}: {finding.detail}")
