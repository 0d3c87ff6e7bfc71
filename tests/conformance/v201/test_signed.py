"""J01, J02 with signed readings, and the white paper on signed meter values: how records travel in OCPP 2.0.1."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from agent.core.facts import MeterFact, SampleContext, TxKind
from agent.ipc.port import CsmsTx
from agent.ocmf.ocpp import read_signed_value
from agent.sim.virtual_time import run_virtual
from tests.conformance.v201.rig import Rig, accepting_csms
from tests.support.fake_station import ocmf, sample, session_facts, signed_facts

BEGIN, WHOLE = ocmf("B"), ocmf("B", "E")
TOO_LONG = ocmf("B", "E", pad=2_500)
KEY = "b2NhOmJhc2UxNjphc24xOjMwNTk="
REGISTER = "Energy.Active.Import.Register"


def told(
    *facts: Any,
    rig: Rig | None = None,
    readings: str = "true",
    started: str = "true",
    key: str = "OncePerTransaction",
    more: dict[str, str] | None = None,
) -> Rig:
    """A rig whose CSMS has got these facts."""
    rig = rig or Rig()
    settings = {
        "SampledDataCtrlr.SignReadings": readings,
        "SampledDataCtrlr.SignStartedReadings": started,
        "OCPPCommCtrlr.PublicKeyWithSignedMeterValue": key,
        "FiscalMetering@1.PublicKey": KEY,
    }

    async def main() -> None:
        for name, value in (settings | (more or {})).items():
            await rig.station.set(name, value)
        await rig.station.append(*facts)
        async with rig.online():
            await rig.drained()

    run_virtual(main())
    return rig


def signed_values(event: dict[str, Any]) -> list[tuple[str, bytes, str]]:
    """(context, record, key) of every signed value of an event."""
    found = []
    for value in event.get("meterValue", []):
        for each in value["sampledValue"]:
            if "signedMeterValue" in each:
                assert each["measurand"] == REGISTER
                carried = read_signed_value(each["signedMeterValue"])
                found.append((each["context"], carried.record, carried.public_key))
    return found


def all_signed(rig: Rig) -> list[tuple[str, str, bytes, str]]:
    return [(event["eventType"], *each) for event in rig.events() for each in signed_values(event)]


def test_record_of_the_whole_transaction_stands_at_the_end_reading() -> None:
    event = told(*signed_facts("tx-1", WHOLE), started="false").events()[-1]
    assert event["eventType"] == "Ended"
    [sampled] = event["meterValue"][-1]["sampledValue"]
    assert (sampled["context"], sampled["measurand"], sampled["value"]) == ("Transaction.End", REGISTER, 4_000.9)
    parts = sampled["signedMeterValue"]
    assert parts.keys() == {"signedMeterData", "signingMethod", "encodingMethod", "publicKey"}
    assert (parts["signingMethod"], parts["encodingMethod"]) == ("", "OCMF")
    assert signed_values(event) == [("Transaction.End", WHOLE.encode(), KEY)]


def test_record_of_the_start_stands_in_started() -> None:
    rig = told(*signed_facts("tx-1", WHOLE, begin=BEGIN))
    assert all_signed(rig) == [
        ("Started", "Transaction.Begin", BEGIN.encode(), KEY),
        ("Ended", "Transaction.End", WHOLE.encode(), ""),  # one container with both readings: only at the end
    ]


@pytest.mark.parametrize(
    ("policy", "started", "keys"),
    [
        ("Never", "false", ["", ""]),
        ("Never", "true", ["", "", ""]),
        ("OncePerTransaction", "false", [KEY, ""]),
        ("OncePerTransaction", "true", [KEY, "", ""]),
        ("EveryMeterValue", "false", [KEY, KEY]),
        ("EveryMeterValue", "true", [KEY, KEY, KEY]),
        ("of a later version", "true", ["", "", ""]),
    ],
)
def test_public_key_with_signed_meter_value(policy: str, started: str, keys: list[str]) -> None:
    parts = ocmf("B", "T"), ocmf("T", "E")
    begin = BEGIN if started == "true" else ""
    rig = told(*signed_facts("tx-1", *parts, begin=begin), started=started, key=policy)
    assert [key for *_, key in all_signed(rig)] == keys
    # A split transaction: all its records, in order, each at a reading of the same register.
    assert [record for _, _, record, _ in all_signed(rig)][-2:] == [part.encode() for part in parts]
    end = [each for value in rig.events()[-1]["meterValue"] for each in value["sampledValue"]][-2:]
    assert len({each["value"] for each in end}) == 1 and {each["context"] for each in end} == {"Transaction.End"}


def test_sign_readings_is_the_master_switch() -> None:
    assert all_signed(told(*signed_facts("tx-1", WHOLE, begin=BEGIN), readings="false")) == []


@pytest.mark.parametrize("measurands", ["", "Voltage"])
def test_records_go_out_where_nobody_asked_for_the_register(measurands: str) -> None:
    names = ("SampledDataCtrlr.TxStartedMeasurands", "SampledDataCtrlr.TxEndedMeasurands")
    rig = told(*signed_facts("tx-1", WHOLE, begin=BEGIN), more=dict.fromkeys(names, measurands))
    assert [each[:2] for each in all_signed(rig)] == [("Started", "Transaction.Begin"), ("Ended", "Transaction.End")]
    ended = rig.events()[-1]
    assert ended["meterValue"][-1]["timestamp"] == ended["timestamp"]


def test_key_goes_with_the_end_when_the_start_was_not_signed() -> None:
    assert all_signed(told(*signed_facts("tx-1", WHOLE))) == [("Ended", "Transaction.End", WHOLE.encode(), KEY)]


def test_ws_03_transaction_that_began_in_1_6_brings_its_key() -> None:
    rig = Rig()

    async def begun_elsewhere() -> None:
        await rig.station.append(*signed_facts("tx-1", WHOLE, begin=BEGIN)[:2])
        await rig.station.delivered(2, CsmsTx("tx-1", 7))

    run_virtual(begun_elsewhere())
    told(*signed_facts("tx-1", WHOLE)[1:], rig=rig)
    assert all_signed(rig) == [("Ended", "Transaction.End", WHOLE.encode(), KEY)]


def test_20_te_06_start_that_was_given_up_is_made_up_for() -> None:
    csms = accepting_csms()
    csms.on["TransactionEvent"] = ["InternalError"] * 3
    rig = told(*signed_facts("tx-1", WHOLE, begin=BEGIN), *session_facts("tx-2"), rig=Rig(csms))
    assert [key for kind, _, _, key in all_signed(rig) if kind == "Ended"] == [KEY]
    first = [event for event in rig.events() if event["transactionInfo"]["transactionId"] == "tx-1"]
    # Who never got the first event does not know where it is.
    assert all(event["evse"] == {"id": 1, "connectorId": 1} for event in first)
    assert ["evse" in event for event in rig.events() if event not in first] == [True, False, False, False]


def test_record_without_room_is_left_out_and_delivery_goes_on() -> None:
    with capture_logs() as logs:
        rig = told(*signed_facts("tx-1", TOO_LONG, WHOLE, begin=ocmf("B", pad=2_500)), *session_facts("tx-2"))
    assert [event["eventType"] for event in rig.events()].count("Ended") == 2
    assert all_signed(rig) == [("Ended", "Transaction.End", WHOLE.encode(), KEY)]
    left_out = [line for line in logs if line["event"] == "signed_record_left_out"]
    assert left_out and all(line["log_level"] == "error" for line in left_out)


def test_key_without_room_is_left_out() -> None:
    rig = told(*signed_facts("tx-1", WHOLE), more={"FiscalMetering@1.PublicKey": "k" * 2_501})
    assert [key for *_, key in all_signed(rig)] == [""]


@pytest.mark.parametrize("started", ["true", "false"])
@pytest.mark.parametrize("begin", [BEGIN, ""])
def test_transaction_that_ends_where_it_began(started: str, begin: str) -> None:
    """No row between start and end: the records stand side by side."""
    facts = [each for each in signed_facts("tx-1", WHOLE, begin=begin) if getattr(each, "kind", None) != TxKind.UPDATED]
    found = all_signed(told(*facts, started=started))
    wanted = [("Started", "Transaction.Begin", BEGIN.encode())] if begin and started == "true" else []
    assert [each[:3] for each in found] == [*wanted, ("Ended", "Transaction.End", WHOLE.encode())]
    assert [bool(key) for *_, key in found] == [True, *[False] * len(wanted)]


def test_j02_thinning_never_drops_the_record() -> None:
    more = {
        "SampledDataCtrlr.TxEndedMeasurands": f"{REGISTER},Voltage",
        "SampledDataCtrlr.TxEndedInterval": "60",
    }
    rig = told(*signed_facts("tx-1", WHOLE, periodic=500), started="false", more=more)
    values = rig.events()[-1]["meterValue"]
    assert sum(len(value["sampledValue"]) for value in values) < 320
    assert signed_values(rig.events()[-1]) == [("Transaction.End", WHOLE.encode(), KEY)]
    assert values[0]["sampledValue"][0]["context"] == "Transaction.Begin"


def test_j01_readings_outside_transactions_are_not_signed() -> None:
    rig = told(MeterFact(1, sample(SampleContext.CLOCK, 0, 5_000_000)))
    assert all("signedMeterValue" not in str(call.payload) for call in rig.csms.of("MeterValues"))
