"""A signing meter without a wire, for tests of what asks it.

Charter: notes what it is asked, fails where it is told to, and refuses what a driver refuses (by the driver's table).
"""

from __future__ import annotations

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
