"""16-MV-07 and the white paper on signed meter values: how records of a transaction travel in OCPP 1.6."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from agent.core.facts import MeterFact, SampleContext, TxKind
from agent.ocmf.ocpp import read_signed_value
from agent.sim.virtual_time import run_virtual
from tests.conformance.v16.rig import NumberingCsms, Rig
from tests.support.fake_station import ocmf, sample, session_facts, signed_facts

BEGIN, WHOLE = ocmf("B"), ocmf("B", "E")
TOO_LONG = ocmf("B", "E", pad=2_500)
KEY = "b2NhOmJhc2UxNjphc24xOjMwNTk="
NOTHING_SAMPLED = {"SampledDataCtrlr.TxEndedMeasurands": "", "SampledDataCtrlr.TxUpdatedMeasurands": ""}


def settings(*, readings: str = "true", started: str = "true", key: str = "OncePerTransaction") -> dict[str, str]:
    return NOTHING_SAMPLED | {
        "SampledDataCtrlr.SignReadings": readings,
        "SampledDataCtrlr.SignStartedReadings": started,
        "OCPPCommCtrlr.PublicKeyWithSignedMeterValue": key,
        "FiscalMetering@1.PublicKey": KEY,
    }


def told(*facts: Any, rig: Rig | None = None, **changes: Any) -> Rig:
    """A rig whose CSMS has got these facts."""
    rig = rig or Rig()

    async def main() -> None:
        for name, value in settings(**changes).items():
            await rig.station.set(name, value)
        await rig.station.append(*facts)
        async with rig.online():
            await rig.drained()

    run_virtual(main())
    return rig


def signed_values(payload: dict[str, Any]) -> list[tuple[str, str, bytes, str]]:
    """(context, time, record, key) of every signed value of a message."""
    found = []
    for value in payload.get("meterValue", payload.get("transactionData", [])):
        for each in value["sampledValue"]:
            if each.get("format") == "SignedData":
                carried = read_signed_value(each["value"])
                found.append((each["context"], value["timestamp"], carried.record, carried.public_key))
    return found


def stop(rig: Rig) -> dict[str, Any]:
    [call] = rig.csms.of("StopTransaction")
    return call.payload


def test_16_mv_07_record_of_the_whole_transaction_ends_it() -> None:
    payload = stop(told(*signed_facts("tx-1", WHOLE), started="false"))
    # No measurand is configured: the record alone is transactionData.
    [value] = payload["transactionData"]
    assert value["timestamp"] == payload["timestamp"] == "2026-11-24T08:02:00.000Z"
    [sampled] = value["sampledValue"]
    text = sampled.pop("value")
    assert sampled == {
        "context": "Transaction.End",
        "format": "SignedData",
        "measurand": "Energy.Active.Import.Register",
    }
    parts = json.loads(text)
    assert parts.keys() == {"signedMeterData", "signingMethod", "encodingMethod", "publicKey"}
    assert (parts["signingMethod"], parts["encodingMethod"]) == ("", "OCMF")
    assert read_signed_value(text).record == WHOLE.encode()


def test_16_mv_07_record_of_the_start_follows_start_transaction() -> None:
    rig = told(*signed_facts("tx-1", WHOLE, begin=BEGIN, start_ms=60_000))
    actions = [action for action, _ in rig.transaction_calls()]
    assert actions == ["StartTransaction", "MeterValues", "StopTransaction"]
    begin = rig.transaction_calls()[1][1]
    assert (begin["connectorId"], begin["transactionId"]) == (1, 100)
    assert signed_values(begin) == [("Transaction.Begin", "2026-11-24T08:01:00.000Z", BEGIN.encode(), KEY)]
    # One container with both readings: only in the context of the end.
    assert [value[:1] + value[2:] for value in signed_values(stop(rig))] == [("Transaction.End", WHOLE.encode(), "")]


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
    values = [each for _, payload in rig.transaction_calls() for each in signed_values(payload)]
    assert [key for *_, key in values] == keys
    # A split transaction: all its records, in order.
    assert [record for _, _, record, _ in values][-2:] == [part.encode() for part in parts]


def test_sampled_data_sign_readings_is_the_master_switch() -> None:
    rig = told(*signed_facts("tx-1", WHOLE, begin=BEGIN), readings="false")
    assert [action for action, _ in rig.transaction_calls()] == ["StartTransaction", "StopTransaction"]
    assert "transactionData" not in stop(rig)


def test_key_goes_with_the_end_when_the_start_was_not_signed() -> None:
    # The switch was turned on while the transaction ran.
    [(_, _, _, key)] = signed_values(stop(told(*signed_facts("tx-1", WHOLE), started="true")))
    assert key == KEY


def test_key_goes_with_the_end_when_the_start_was_given_up() -> None:
    csms = NumberingCsms()
    csms.on["StartTransaction"] = ["InternalError"] * 3
    rig = told(*signed_facts("tx-1", WHOLE, begin=BEGIN), rig=Rig(csms))
    assert stop(rig)["transactionId"] == -1
    assert [key for *_, key in signed_values(stop(rig))] == [KEY]


def test_key_goes_with_the_end_when_the_signed_begin_was_refused() -> None:
    csms = NumberingCsms()
    csms.on["MeterValues"] = ["FormatViolation"] * 3
    rig = told(*signed_facts("tx-1", WHOLE, begin=BEGIN), rig=Rig(csms))
    assert stop(rig)["transactionId"] == 100
    assert [key for *_, key in signed_values(stop(rig))] == [KEY]


def test_transaction_that_began_in_another_dialect_brings_its_key() -> None:
    rig = Rig()

    async def begun_elsewhere() -> None:
        await rig.station.append(*signed_facts("tx-1", WHOLE, begin=BEGIN)[:2])
        rig.station.delivered_seq = 2

    run_virtual(begun_elsewhere())
    told(*signed_facts("tx-1", WHOLE)[1:], rig=rig)
    assert stop(rig)["transactionId"] == -1
    assert [(record, key) for _, _, record, key in signed_values(stop(rig))] == [(WHOLE.encode(), KEY)]


def test_record_without_room_is_left_out_and_delivery_goes_on() -> None:
    with capture_logs() as logs:
        rig = told(*signed_facts("tx-1", TOO_LONG, WHOLE, begin=ocmf("B", pad=2_500)), *session_facts("tx-2"))
    assert [action for action, _ in rig.transaction_calls()] == ["StartTransaction", "StopTransaction"] * 2
    first = rig.csms.of("StopTransaction")[0].payload
    assert [(record, key) for _, _, record, key in signed_values(first)] == [(WHOLE.encode(), KEY)]
    left_out = [line for line in logs if line["event"] == "signed_record_left_out"]
    assert left_out and all(line["log_level"] == "error" for line in left_out)


@pytest.mark.parametrize("started", ["true", "false"])
@pytest.mark.parametrize("begin", [BEGIN, ""])
def test_transaction_that_ends_where_it_began(started: str, begin: str) -> None:
    """No row between start and end: the records stand side by side."""
    facts = [each for each in signed_facts("tx-1", WHOLE, begin=begin) if getattr(each, "kind", None) != TxKind.UPDATED]
    rig = told(*facts, started=started)
    values = [each for _, payload in rig.transaction_calls() for each in signed_values(payload)]
    wanted = [("Transaction.Begin", BEGIN.encode())] if begin and started == "true" else []
    assert [(context, record) for context, _, record, _ in values] == [*wanted, ("Transaction.End", WHOLE.encode())]
    assert [bool(key) for *_, key in values] == [True, *[False] * len(wanted)]


def test_what_is_no_record_is_no_begin_record() -> None:
    rig = told(*signed_facts("tx-1", WHOLE, begin="OCMF|broken"))
    assert [action for action, _ in rig.transaction_calls()] == ["StartTransaction", "StopTransaction"]
    assert [record for _, _, record, _ in signed_values(stop(rig))] == [WHOLE.encode()]


def test_16_tx_15_thinning_never_drops_the_record() -> None:
    rig = Rig()

    async def main() -> None:
        for name, value in settings(started="false").items():
            await rig.station.set(name, value)
        await rig.station.set("SampledDataCtrlr.TxEndedMeasurands", "Energy.Active.Import.Register,Voltage")
        await rig.station.append(*signed_facts("tx-1", WHOLE, periodic=500))
        async with rig.online():
            await rig.drained()

    run_virtual(main())
    data = stop(rig)["transactionData"]
    assert sum(len(value["sampledValue"]) for value in data) < 320
    assert [record for _, _, record, _ in signed_values(stop(rig))] == [WHOLE.encode()]
    contexts = [value["sampledValue"][0]["context"] for value in data]
    assert contexts[0] == "Transaction.Begin" and contexts[-2:] == ["Transaction.End", "Transaction.End"]


def test_readings_outside_transactions_are_not_signed() -> None:
    rig = told(MeterFact(1, sample(SampleContext.CLOCK, 0, 5_000_000)))
    assert all(signed_values(call.payload) == [] for call in rig.csms.of("MeterValues"))


# ------------------------------------------------------------------------------------ configuration


def configuration(rig: Rig, *names: str) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        async with rig.online():
            await asyncio.sleep(1)
            return await rig.csms.ask("GetConfiguration", {"key": list(names)} if names else {})

    answer = run_virtual(main())
    return {each["key"]: each for each in answer.get("configurationKey", [])}


def test_meter_public_key_of_each_connector() -> None:
    rig = Rig()
    rig.station.settings |= {"FiscalMetering@1.PublicKey": "k" * 500, "FiscalMetering@2.PublicKey": "k" * 501}
    rig.start_gateway()
    found = {name: entry for name, entry in configuration(rig).items() if name.startswith("MeterPublicKey")}
    # A key that has no room is missing: half of it would verify nothing.
    assert found == {"MeterPublicKey1": {"key": "MeterPublicKey1", "readonly": True, "value": "k" * 500}}
    rig.station.settings["FiscalMetering@1.PublicKey"] = ""
    rig.start_gateway()
    assert "MeterPublicKey1" not in configuration(rig)


def test_signing_keys_are_read_and_written() -> None:
    rig = Rig()

    async def main() -> list[str]:
        async with rig.online():
            await asyncio.sleep(1)
            changes = [
                ("PublicKeyWithSignedMeterValue", "EveryMeterValue"),
                ("PublicKeyWithSignedMeterValue", "Sometimes"),
                ("SampledDataSignReadings", "false"),
                ("SampledDataSignReadings", "perhaps"),
                ("SampledDataSignStartedReadings", "TRUE"),
                ("MeterPublicKey1", "mine"),
            ]
            asked = [await rig.csms.ask("ChangeConfiguration", {"key": key, "value": value}) for key, value in changes]
            return [answer["status"] for answer in asked]

    rig.station.settings["FiscalMetering@1.PublicKey"] = KEY
    rig.start_gateway()
    assert run_virtual(main()) == ["Accepted", "Rejected", "Accepted", "Rejected", "Accepted", "Rejected"]
    rig.start_gateway()
    names = ("PublicKeyWithSignedMeterValue", "SampledDataSignReadings", "SampledDataSignStartedReadings")
    values = [entry["value"] for entry in configuration(rig, *names).values()]
    assert sorted(values) == ["EveryMeterValue", "false", "true"]


def test_csms_transaction_id_0_is_a_known_one() -> None:
    """16-TX-08: the number is opaque."""
    rig = told(*signed_facts("tx-1", WHOLE, begin=BEGIN), rig=Rig(NumberingCsms(first=0)))
    assert [key for *_, key in signed_values(stop(rig))] == [""]
