"""16-CMD-02, 16-CMD-03, 16-MV-04 and table 1.12: configuration keys as a view on the settings."""

from __future__ import annotations

import json

import pytest

from agent.sim.virtual_time import run_virtual
from tests.conformance.v16.rig import Rig
from tests.support.fake_csms import until

# Required of the Core profile (and of SmartCharging), with their access.
REQUIRED = {
    "AuthorizeRemoteTxRequests": False,
    "ClockAlignedDataInterval": False,
    "ConnectionTimeOut": False,
    "ConnectorPhaseRotation": True,
    "GetConfigurationMaxKeys": True,
    "HeartbeatInterval": False,
    "LocalAuthorizeOffline": False,
    "LocalPreAuthorize": False,
    "MeterValuesAlignedData": False,
    "MeterValuesSampledData": False,
    "MeterValueSampleInterval": False,
    "NumberOfConnectors": True,
    "ResetRetries": False,
    "StopTransactionOnEVSideDisconnect": False,
    "StopTransactionOnInvalidId": False,
    "StopTxnAlignedData": False,
    "StopTxnSampledData": False,
    "SupportedFeatureProfiles": True,
    "TransactionMessageAttempts": False,
    "TransactionMessageRetryInterval": False,
    "UnlockConnectorOnEVSideDisconnect": True,
    "ChargeProfileMaxStackLevel": True,
    "ChargingScheduleAllowedChargingRateUnit": True,
    "ChargingScheduleMaxPeriods": True,
    "MaxChargingProfilesInstalled": True,
}


def test_16_cmd_03_all_keys_but_no_secret() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.online():
            answer = await rig.csms.ask("GetConfiguration", {})
        told = {entry["key"]: entry for entry in answer["configurationKey"]}
        missing = REQUIRED.keys() - told.keys() - {"UnlockConnectorOnEVSideDisconnect"}
        assert not missing
        for name, readonly in REQUIRED.items():
            if name in told:
                assert told[name]["readonly"] is readonly, name
        assert "AuthorizationKey" not in told
        assert "secret-of-the-station" not in json.dumps(answer)
        assert told["ChargingScheduleAllowedChargingRateUnit"]["value"] == "Current,Power"
        assert told["NumberOfConnectors"]["value"] == "2"
        assert told["MaxChargingProfilesInstalled"]["value"] == "20"

    run_virtual(main())


def test_16_cmd_03_known_and_unknown_keys_in_any_case() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.online():
            answer = await rig.csms.ask(
                "GetConfiguration", {"key": ["HEARTBEATinterval", "Nonsense", "AuthorizationKey", "heartbeatInterval"]}
            )
            assert answer == {
                "configurationKey": [{"key": "HeartbeatInterval", "readonly": False, "value": "300"}],
                "unknownKey": ["Nonsense", "AuthorizationKey"],
            }
            frame = await rig.csms.call("GetConfiguration", {"key": [f"k{number}" for number in range(65)]})
            assert frame[0] == 4

    run_virtual(main())


@pytest.mark.parametrize(
    ("key", "value", "status", "stored"),
    [
        ("MeterValueSampleInterval", "30", "Accepted", ("SampledDataCtrlr.TxUpdatedInterval", "30")),
        ("metervaluesampleinterval", " 30 ", "Accepted", ("SampledDataCtrlr.TxUpdatedInterval", "30")),
        ("MeterValueSampleInterval", "-1", "Rejected", None),
        ("MeterValueSampleInterval", "1.5", "Rejected", None),
        ("MeterValueSampleInterval", "99999999", "Rejected", None),
        ("WebSocketPingInterval", "-5", "Rejected", None),
        ("WebSocketPingInterval", "45", "Accepted", ("OCPPCommCtrlr.WebSocketPingInterval", "45")),
        ("LocalPreAuthorize", "TRUE", "Accepted", ("AuthCtrlr.LocalPreAuthorize", "true")),
        ("LocalPreAuthorize", "yes", "Rejected", None),
        (
            "MeterValuesSampledData",
            "Voltage, Current.Import",
            "Accepted",
            ("SampledDataCtrlr.TxUpdatedMeasurands", "Voltage,Current.Import"),
        ),
        ("MeterValuesSampledData", "Voltage,SoC", "Rejected", None),
        ("StopTxnAlignedData", "Voltage,Voltage", "Rejected", None),  # so the list is never longer than its MaxLength
        ("StopTxnSampledData", "", "Accepted", ("SampledDataCtrlr.TxEndedMeasurands", "")),
        ("TransactionMessageAttempts", "5", "Accepted", ("OCPPCommCtrlr.MessageAttempts[TransactionEvent]", "5")),
        ("NumberOfConnectors", "7", "Rejected", None),
        ("ChargeProfileMaxStackLevel", "7", "Rejected", None),
        ("BlinkRepeat", "1", "NotSupported", None),
        ("LocalAuthListEnabled", "true", "NotSupported", None),
        ("MaxEnergyOnInvalidId", "100", "NotSupported", None),  # an optional key: what it says is not done here
    ],
)
def test_16_cmd_02_change(key: str, value: str, status: str, stored: tuple[str, str] | None) -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.online():
            assert await rig.csms.ask("ChangeConfiguration", {"key": key, "value": value}) == {"status": status}
            before = dict(rig.model.snapshot())
            if stored is None:
                assert rig.station.settings == rig.station.settings | {
                    text: value for text, value in before.items() if text != "SecurityCtrlr.BasicAuthPassword"
                }
            else:
                assert rig.station.settings[stored[0]] == stored[1]
                [entry] = (await rig.csms.ask("GetConfiguration", {"key": [key]}))["configurationKey"]
                assert entry["value"] == stored[1]

    run_virtual(main())


@pytest.mark.parametrize(
    ("status", "told"),
    [("RebootRequired", "RebootRequired"), ("Rejected", "Rejected"), ("UnknownVariable", "NotSupported")],
)
def test_16_cmd_02_the_word_of_the_store_is_told(status: str, told: str) -> None:
    async def main() -> None:
        rig = Rig()
        rig.station.write_status = lambda _write: status
        async with rig.online():
            change = {"key": "HeartbeatInterval", "value": "60"}
            assert await rig.csms.ask("ChangeConfiguration", change) == {"status": told}

    run_virtual(main())


def test_authorization_key_is_written_and_never_read() -> None:
    """16-SEC-05."""

    async def main() -> None:
        rig = Rig()
        async with rig.online():
            change = {"key": "AuthorizationKey", "value": "0123456789abcdef0123"}
            assert await rig.csms.ask("ChangeConfiguration", change) == {"status": "Accepted"}
            assert rig.station.settings["SecurityCtrlr.BasicAuthPassword"] == "0123456789abcdef0123"
            await until(lambda: len(rig.csms.of("StatusNotification")) == 3)

    run_virtual(main())
