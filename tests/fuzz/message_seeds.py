"""Right requests of a CSMS, one or two for each action that a dialect takes.

Charter: data only. Sources: the schemas of OCPP 1.6 and 2.0.1; the station is that of ``tests/conformance``.
"""

from __future__ import annotations

import json
from typing import Any, Final

Request = tuple[str, dict[str, Any]]

_NOON: Final = "2026-11-24T12:00:00Z"
_TARIFF: Final = {"tariffId": "T-1", "currency": "EUR", "energy": {"prices": [{"priceKwh": 0.3}]}}
_PROFILE_16: Final = {
    "chargingProfileId": 1,
    "transactionId": 7,
    "stackLevel": 0,
    "chargingProfilePurpose": "TxDefaultProfile",
    "chargingProfileKind": "Recurring",
    "recurrencyKind": "Daily",
    "validFrom": "2026-11-24T08:00:00Z",
    "validTo": "2026-12-24T08:00:00+01:00",
    "chargingSchedule": {
        "duration": 3600,
        "startSchedule": "2026-11-24T08:00:00.5Z",
        "chargingRateUnit": "A",
        "chargingSchedulePeriod": [
            {"startPeriod": 0, "limit": 8.1, "numberPhases": 3},
            {"startPeriod": 60, "limit": 16},
        ],
        "minChargingRate": 6.0,
    },
}
_PROFILE_201: Final = {
    "id": 3,
    "stackLevel": 2,
    "chargingProfilePurpose": "TxDefaultProfile",
    "chargingProfileKind": "Absolute",
    "validFrom": "2026-11-24T08:00:00Z",
    "validTo": "2026-11-24T09:00:01+01:00",
    "transactionId": "tx-1",
    "chargingSchedule": [
        {
            "id": 11,
            "startSchedule": "2026-11-24T08:00:00.5Z",
            "duration": 3600,
            "chargingRateUnit": "W",
            "minChargingRate": 6,
            "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 8.1, "numberPhases": 1, "phaseToUse": 2}],
        }
    ],
}
_COST: Final = {
    "cost": 1.25,
    "state": "Charging",
    "transactionId": 7,
    "timestamp": _NOON,
    "meterValue": 1_000,
    "chargingPrice": {"kWhPrice": 0.3, "hourPrice": 1.0},
    "idlePrice": {"graceMinutes": 5, "hourPrice": 2.0},
}
_VENDORS: Final[tuple[tuple[str, str, dict[str, Any]], ...]] = (
    ("evsed", "SetDefaultTariff", {"evseId": 0, "tariff": _TARIFF}),
    ("evsed", "GetTariffs", {"evseId": 0}),
    ("evsed", "ClearTariffs", {"tariffIds": ["T-1"], "evseId": 1}),
    ("evsed", "ChangeTransactionTariff", {"transactionId": "tx-1", "tariff": _TARIFF}),
    ("evsed", "TransactionLimit", {"transactionId": "tx-1", "transactionLimit": {"maxCost": 10.5, "maxTime": 60}}),
    ("org.openchargealliance.costmsg", "SetUserPrice", {"idToken": "04A2B3C4", "priceText": "0.39 EUR/kWh"}),
    ("org.openchargealliance.costmsg", "RunningCost", _COST),
    ("org.openchargealliance.costmsg", "FinalCost", {"cost": 3.5, "transactionId": 7, "priceText": "thanks"}),
)
_LOCATION: Final = "https://files.example.com/fw.evsb"
_TOKEN: Final = {"idToken": "04A2B3C4D5E6F7", "type": "ISO14443"}
_VARIABLE: Final = {"component": {"name": "SampledDataCtrlr"}, "variable": {"name": "TxUpdatedInterval"}}

REQUESTS_16: Final[tuple[Request, ...]] = (
    ("ChangeAvailability", {"connectorId": 1, "type": "Inoperative"}),
    ("ChangeConfiguration", {"key": "MeterValueSampleInterval", "value": "60"}),
    ("ChangeConfiguration", {"key": "MeterValuesSampledData", "value": "Energy.Active.Import.Register,Voltage"}),
    ("ClearCache", {}),
    ("ClearChargingProfile", {"id": 1, "connectorId": 0, "chargingProfilePurpose": "TxProfile", "stackLevel": 0}),
    *(
        ("DataTransfer", {"vendorId": vendor, "messageId": message, "data": json.dumps(data)})
        for vendor, message, data in _VENDORS
    ),
    ("ExtendedTriggerMessage", {"requestedMessage": "FirmwareStatusNotification"}),
    ("GetCompositeSchedule", {"connectorId": 1, "duration": 3600, "chargingRateUnit": "A"}),
    ("GetConfiguration", {"key": ["HeartbeatInterval", "AuthorizationKey"]}),
    ("RemoteStartTransaction", {"connectorId": 1, "idTag": "04A2B3C4", "chargingProfile": _PROFILE_16}),
    ("RemoteStopTransaction", {"transactionId": 7}),
    ("Reset", {"type": "Soft"}),
    ("SetChargingProfile", {"connectorId": 1, "csChargingProfiles": _PROFILE_16}),
    ("TriggerMessage", {"requestedMessage": "MeterValues", "connectorId": 1}),
    ("UnlockConnector", {"connectorId": 2}),
    ("UpdateFirmware", {"location": _LOCATION, "retrieveDate": _NOON, "retries": 3, "retryInterval": 60}),
    (
        "SignedUpdateFirmware",
        {
            "requestId": 7,
            "firmware": {
                "location": _LOCATION,
                "retrieveDateTime": _NOON,
                "installDateTime": _NOON,
                "signingCertificate": "-----BEGIN CERTIFICATE-----",
                "signature": "c2ln",
            },
        },
    ),
)

REQUESTS_201: Final[tuple[Request, ...]] = (
    ("ChangeAvailability", {"operationalStatus": "Inoperative", "evse": {"id": 1, "connectorId": 1}}),
    ("ClearCache", {}),
    ("CostUpdated", {"totalCost": 1.25, "transactionId": "tx-1"}),
    ("CostUpdated", {"totalCost": 1.5, "transactionId": "tx-1", "customData": {"vendorId": _VENDORS[6][0], **_COST}}),
    ("ClearChargingProfile", {"chargingProfileCriteria": {"evseId": 1, "stackLevel": 2}}),
    ("ClearChargingProfile", {"chargingProfileId": 3}),
    *(("DataTransfer", {"vendorId": vendor, "messageId": message, "data": data}) for vendor, message, data in _VENDORS),
    ("GetBaseReport", {"requestId": 5, "reportBase": "FullInventory"}),
    ("GetCompositeSchedule", {"duration": 3600, "evseId": 0, "chargingRateUnit": "W"}),
    ("GetTransactionStatus", {"transactionId": "tx-1"}),
    ("GetVariables", {"getVariableData": [{"attributeType": "Actual", **_VARIABLE}]}),
    (
        "RequestStartTransaction",
        {"remoteStartId": 1, "idToken": _TOKEN, "evseId": 1, "groupIdToken": _TOKEN, "chargingProfile": _PROFILE_201},
    ),
    ("RequestStopTransaction", {"transactionId": "tx-1"}),
    ("Reset", {"type": "OnIdle", "evseId": 1}),
    ("SetChargingProfile", {"evseId": 1, "chargingProfile": _PROFILE_201}),
    ("SetVariables", {"setVariableData": [{"attributeValue": "60", **_VARIABLE}]}),
    ("TriggerMessage", {"requestedMessage": "TransactionEvent", "evse": {"id": 1, "connectorId": 1}}),
    ("UnlockConnector", {"evseId": 1, "connectorId": 1}),
    (
        "UpdateFirmware",
        {
            "requestId": 7,
            "retries": 2,
            "retryInterval": 60,
            "firmware": {
                "location": _LOCATION,
                "retrieveDateTime": _NOON,
                "installDateTime": _NOON,
                "signingCertificate": "-----BEGIN CERTIFICATE-----",
                "signature": "c2ln",
            },
        },
    ),
)


def request_frames(requests: tuple[Request, ...]) -> list[bytes]:
    return [json.dumps([2, "id-1", action, payload]).encode() for action, payload in requests]
