"""Receipts for tests: a transaction priced, recorded and sealed by the product's own parts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key

from agent.billing.facts import Bounds, Flags, Moment, Operator, Place, ReceiptFacts, Software, TariffUsed
from agent.billing.receipt import payload, seal
from agent.ocmf.record import Draft, Identification, Reading, plain_text
from agent.ocmf.record import payload as record_payload
from agent.ocmf.sign import seal as seal_record
from agent.security.keys import MeteringKey
from agent.tariff.cost import Bill, bill
from agent.tariff.currency import Rounding
from agent.tariff.fold import Session
from agent.tariff.parse import content_hash, parse_tariff
from agent.tariff.text import price_lines
from agent.tariff.usage import Activity, Point, Register, Usage

KEY = MeteringKey(derive_private_key(0x1234567, SECP256R1()))
OTHER_KEY = MeteringKey(derive_private_key(0x7654321, SECP256R1()))

BEGIN_WALL_MS = 1_774_735_800_000  # 2026-03-28 22:10 UTC
BEGIN_MWH = 1_234_567_890
OFFSET_MINUTES = 60

TARIFF: dict[str, Any] = {
    "tariffId": "day-and-night",
    "currency": "EUR",
    "energy": {
        "prices": [
            {"priceKwh": 0.29, "conditions": {"startTimeOfDay": "23:30", "endTimeOfDay": "06:00"}},
            {"priceKwh": 0.39},
        ],
        "taxRates": [{"type": "VAT", "tax": 19}],
    },
    "idleTime": {
        "prices": [{"priceMinute": 0.10, "conditions": {"minIdleTime": 600}}],
        "taxRates": [{"type": "VAT", "tax": 19}],
    },
    "fixedFee": {"prices": [{"priceFixed": 0.50}], "taxRates": [{"type": "VAT", "tax": 19}]},
}

Step = tuple[int, int, Activity]  # milliseconds since the step before, mWh since then, activity from here on


STEPS: tuple[Step, ...] = (
    (1_200_000, 3_300_000, Activity.CHARGING),
    (3_600_000, 9_876_543, Activity.IDLE),
    (1_800_000, 0, Activity.IDLE),
)


def used(tariffs: Sequence[dict[str, Any]], steps: Sequence[Step] = STEPS, begin_mwh: int = BEGIN_MWH) -> Usage:
    """A session that begins charging; each further tariff takes effect at the next step."""
    values = [parse_tariff(json.dumps(each)) for each in tariffs]
    session = Session(values[0], zone="Europe/Berlin", evse_kind="AC")
    at_ms, energy_mwh = 0, begin_mwh
    session.add(Point(0, BEGIN_WALL_MS, Activity.CHARGING, Register(0, energy_mwh)))
    for number, (step_ms, step_mwh, activity) in enumerate(steps, 1):
        at_ms, energy_mwh = at_ms + step_ms, energy_mwh + step_mwh
        register = Register(at_ms, energy_mwh)
        tariff = values[number] if number < len(values) else None
        session.add(Point(at_ms, BEGIN_WALL_MS + at_ms, activity, register, tariff))
    return session.usage()


def tariff_used(tariff: dict[str, Any]) -> TariffUsed:
    text = json.dumps(tariff)
    value = parse_tariff(text)
    return TariffUsed(content_hash=content_hash(text), tariff_id=value.tariff_id, text=text, words=price_lines(value))


def facts(tariffs: Sequence[dict[str, Any]] = (TARIFF,), usage: Usage | None = None, **changes: Any) -> ReceiptFacts:
    usage = used(tariffs) if usage is None and tariffs else usage
    begin_mwh = BEGIN_MWH if usage is None else usage.begin_mwh
    end_mwh = BEGIN_MWH + 13_176_543 if usage is None else usage.end_mwh
    lasted_ms = 6_600_000 if usage is None else usage.periods[-1].to_ms
    made = ReceiptFacts(
        operator=Operator(name="Example Charging Ltd", address="1 Example Street, 12345 Example", vat_id="DE123456789"),
        place=Place(
            identity="CP-0001",
            vendor="Example",
            model="Wallbox 11",
            serial="EX-000123",
            evse=1,
            meter_serial="EM-42",
        ),
        software=Software(version="0.1.0", checksum="ab" * 32),
        tx_id="7d0f9c1e-0000-4000-8000-000000000001",
        local_number=41,
        token="04A2B3C4D5E6F7",
        group="household",
        stop_reason="Local",
        payment_reference="",
        begin=Moment(wall_ms=BEGIN_WALL_MS, offset_minutes=OFFSET_MINUTES, time_status="I"),
        end=Moment(wall_ms=BEGIN_WALL_MS + lasted_ms, offset_minutes=OFFSET_MINUTES, time_status="I"),
        begin_mwh=begin_mwh,
        end_mwh=end_mwh,
        unassigned_before_mwh=0,
        time_zone="Europe/Berlin",
        tzdata="2026.1",
        public_key=KEY.public_hex,
        flags=Flags(estimated_split=usage is not None and usage.estimated_split),
        bounds=Bounds(),
        tariffs=tuple(tariff_used(each) for each in tariffs),
    )
    return replace(made, **changes)


def record(of: ReceiptFacts, key: MeteringKey = KEY, letters: str = "BL", number: str = "T7", **changes: Any) -> str:
    """The meter record that belongs to these facts."""
    moments = {"B": (of.begin, of.begin_mwh), "L": (of.end, of.end_mwh)}
    readings = tuple(
        Reading(
            wall_ms=at.wall_ms,
            energy_mwh=energy_mwh or 0,
            tx=letter,
            zone_offset_minutes=at.offset_minutes,
            time_status=at.time_status,
            **changes,
        )
        for letter, (at, energy_mwh) in ((each, moments[each]) for each in letters)
    )
    draft = Draft(
        readings=readings,
        meter_serial=of.place.meter_serial,
        gateway_serial=of.place.serial,
        identification=Identification(
            assigned=True,
            level="TRUSTED",
            flags=("RFID_PLAIN", "OCPP_AUTH"),
            type="ISO14443",
            data=plain_text(of.token, 40),
        ),
        charge_point_id="CP-0001 1",
        charge_point_type="CBIDC",
    )
    return seal_record(record_payload(draft, number, bytes(32)), key).decode()


def billed(of: ReceiptFacts, usage: Usage | None, **terms: Any) -> Bill | None:
    return None if usage is None else bill([parse_tariff(each.text or "") for each in of.tariffs], usage, **terms)


def sealed(
    of: ReceiptFacts | None = None,
    usage: Usage | None = None,
    *,
    key: MeteringKey = KEY,
    records: Sequence[str] | None = None,
    rounding: Rounding = Rounding.HALF_UP,
    account: Bill | None = None,
    number: int = 17,
) -> bytes:
    """A good receipt unless told otherwise."""
    if of is None:
        usage = used((TARIFF,))
        of = facts(usage=usage)
    made = account or billed(of, usage, rounding=rounding)
    told = [record(of)] if records is None else records
    line = payload(of, usage, made, seq=314, prev_hash=bytes(range(32)), number=number, records=told)
    return seal(line, key)
