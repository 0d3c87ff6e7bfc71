"""Signing meters without a wire, for tests of what asks them.

Charter: note what they are asked, fail where they are told to, and refuse what a driver refuses (by the driver's
table).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key

from agent.ocmf.record import Draft, Identification, Reading, payload
from agent.ocmf.sign import seal
from agent.security.keys import MeteringKey
from hal.meters.record_life import RecordEvent, RecordLife
from hal.ports import DeviceTimeout, HeldRecord, RecordRequest, SignedRecord


class SimSigner:
    """Its records are numbered; ``text`` is that of the one it holds from before. ``fails``: what it does not answer;
    ``ends_as``: how its record ends."""

    def __init__(
        self,
        held: RecordEvent = RecordEvent.SAYS_IDLE,
        fails: str = "",
        text: bytes = b"0",
        ends_as: RecordEvent = RecordEvent.SAYS_READY,
    ) -> None:
        self.life = RecordLife("meter")
        self.life.happened(held)
        self.text = text
        self.begun = 0
        self.fails = fails
        self.ends_as = ends_as
        self.asked: list[str] = []
        self.request: RecordRequest | None = None

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if what == self.fails:
            raise DeviceTimeout("meter", "mute")

    def loses_supply(self) -> None:
        """It ends its record by itself."""
        self.life.happened(RecordEvent.SAYS_READY)

    async def held_record(self) -> HeldRecord:
        self._ask("held")
        return self.life.held

    async def begin_record(self, request: RecordRequest) -> None:
        self._ask("begin")
        self.life.happened(RecordEvent.BEGIN)
        self.life.happened(RecordEvent.SAYS_RUNNING)
        self.begun += 1
        self.text = b"%d" % self.begun
        self.request = request

    async def end_record(self) -> SignedRecord:
        self._ask("end")
        return self._finish()

    def _finish(self) -> SignedRecord:
        if self.life.held is HeldRecord.RUNNING:
            self.life.happened(RecordEvent.END)
            self.life.happened(self.ends_as)
        self._ask("fetch")
        if self.life.held is not HeldRecord.FINISHED:
            raise self.life.in_the_way(RecordEvent.FETCHED)
        self.life.happened(RecordEvent.FETCHED)
        return SignedRecord(self.text, b"key")

    async def abort_record(self) -> None:
        self._ask("abort")
        if self.life.held is not HeldRecord.NOTHING:
            self.life.happened(RecordEvent.ABORT)
            self.life.happened(RecordEvent.SAYS_IDLE)

    async def pending_record(self) -> SignedRecord | None:
        self._ask("pending")
        return None if self.life.held is HeldRecord.NOTHING else self._finish()

    async def confirm_record(self) -> None:
        self._ask("confirm")
        if self.life.held is not HeldRecord.NOTHING:
            self.life.happened(RecordEvent.CONFIRM)
            self.life.happened(RecordEvent.SAYS_IDLE)

    async def public_key(self) -> bytes:
        self._ask("key")
        return b"key"


@dataclass(frozen=True)
class Shown:
    """What a meter shows: its register, and the time if it has one."""

    energy_mwh: int
    wall_ms: int | None


class SealingSigner(SimSigner):
    """Its records are true and signed, of what ``look`` says that its register and a right clock show."""

    key = MeteringKey(derive_private_key(0xABCDEF, SECP256R1()))

    def __init__(self, look: Callable[[], tuple[int, int]], serial: str, *, has_time: bool = False) -> None:
        super().__init__()
        self._look = look
        self._serial = serial
        self._off_ms: int | None = 0 if has_time else None  # its clock minus a right one
        self._begin: Shown | None = None
        self._end: Shown | None = None

    def _shown(self) -> Shown:
        energy_mwh, wall_ms = self._look()
        return Shown(energy_mwh, None if self._off_ms is None else wall_ms + self._off_ms)

    def loses_supply(self) -> None:
        self._end = self._shown()
        super().loses_supply()

    async def begin_record(self, request: RecordRequest) -> None:
        await super().begin_record(request)
        if request.utc_ms is not None:
            self._off_ms = request.utc_ms - self._look()[1]
        self._begin, self._end = self._shown(), None

    def _finish(self) -> SignedRecord:
        self._end = self._end or self._shown()
        super()._finish()
        assert self.request is not None
        who = Identification(assigned=self.request.id_assigned, data=self.request.id_data)
        readings = tuple(map(self._reading, "BE", (self._begin, self._end)))
        draft = Draft(readings=readings, meter_serial=self._serial, identification=who)
        ours = payload(draft, f"T{self.begun}", bytes(32))
        self.text = seal(re.sub(rb',"UH":"[0-9a-f]{64}"', b"", ours), self.key)  # only ours have a place in a ledger
        return SignedRecord(self.text, self.key.public_der)

    @staticmethod
    def _reading(letter: str, shown: Shown | None) -> Reading:
        assert shown is not None
        return Reading(
            wall_ms=shown.wall_ms or 0,
            energy_mwh=shown.energy_mwh,
            tx=letter,
            zone_offset_minutes=60,
            time_status="U" if shown.wall_ms is None else "S",
        )

    async def public_key(self) -> bytes:
        self._ask("key")
        return self.key.public_der
