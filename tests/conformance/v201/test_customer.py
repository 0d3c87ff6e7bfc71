"""N09, N10: what is kept of a customer, told and cleared. TC_N_27 to 32, 62."""

from __future__ import annotations

from typing import Any

import pytest

from agent.core.facts import Token
from agent.ipc.monitors import CustomerRequest
from agent.sim.virtual_time import run_virtual
from tests.conformance.v201.rig import Rig

TOKEN = {"idToken": {"idToken": "04A2B3", "type": "ISO14443"}}
IDENTIFIER = {"customerIdentifier": "fleet-7"}
CERTIFICATE = {
    "customerCertificate": {
        "hashAlgorithm": "SHA256",
        "issuerNameHash": "aa",
        "issuerKeyHash": "bb",
        "serialNumber": "42",
    }
}
WORDS = "Authorization cache: token 04a2b3 is Accepted.\nTransactions in the ledger, kept by law: 1:\n- tx-1 on EVSE 1"


def request(report: bool, clear: bool, *whose: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"requestId": 9, "report": report, "clear": clear}
    for each in whose:
        found |= each
    return found


@pytest.mark.parametrize(
    ("whose", "asked"),
    [
        (TOKEN, {"token": Token("04A2B3", "ISO14443")}),
        (IDENTIFIER, {"identifier": "fleet-7"}),
        (CERTIFICATE, {"certificate": "42"}),
    ],
)
@pytest.mark.parametrize(("report", "clear"), [(True, False), (True, True), (False, True)])
def test_n09_n10_the_station_is_asked_and_its_words_are_told(
    whose: dict[str, Any], asked: dict[str, Any], report: bool, clear: bool
) -> None:
    """TC_N_27, 30, 32."""

    async def main() -> None:
        rig = Rig()
        rig.station.customer_words = WORDS
        async with rig.registered():
            assert await rig.csms.ask("CustomerInformation", request(report, clear, whose)) == {"status": "Accepted"}
            (told,) = await rig.came("NotifyCustomerInformation")
        assert told.payload == {
            "requestId": 9,
            "seqNo": 0,
            "generatedAt": "2026-11-24T08:00:00.000Z",
            "data": WORDS,
        }
        assert rig.station.customer_requests == [CustomerRequest(report, clear, **asked)]

    run_virtual(main())


@pytest.mark.parametrize(
    ("report", "clear", "words"),
    [
        (True, False, "No data was found."),
        (True, True, "No data was found."),
        (False, True, "No data that may be cleared"),
    ],
)
def test_n09_fr_06_n10_fr_04_fr_06_nothing_found_is_told_too(report: bool, clear: bool, words: str) -> None:
    """TC_N_28, 31."""

    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            await rig.csms.ask("CustomerInformation", request(report, clear, TOKEN))
            (told,) = await rig.came("NotifyCustomerInformation")
        assert told.payload["data"].startswith(words)

    run_virtual(main())


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (request(False, False, TOKEN), "Rejected"),  # N09.FR.07, TC_N_29
        (request(False, False), "Rejected"),
        (request(True, False), "Invalid"),
        (request(True, True, TOKEN, IDENTIFIER), "Invalid"),
        (request(False, True, IDENTIFIER, CERTIFICATE), "Invalid"),
        (request(True, False, {"customerIdentifier": ""}), "Invalid"),
    ],
)
def test_n09_what_is_not_carried_out(asked: dict[str, Any], status: str) -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            answer = await rig.csms.ask("CustomerInformation", asked)
            await rig.came("Heartbeat")
        assert answer["status"] == status
        assert answer["statusInfo"]["additionalInfo"]
        assert rig.station.customer_requests == []
        assert rig.csms.of("NotifyCustomerInformation") == []

    run_virtual(main())


@pytest.mark.parametrize(("chars", "parts"), [(512, 1), (513, 2), (1_300, 3)])
def test_n09_fr_05_many_words_come_in_parts(chars: int, parts: int) -> None:
    async def main() -> None:
        rig = Rig()
        rig.station.customer_words = words = "ü" * chars
        async with rig.registered():
            await rig.csms.ask("CustomerInformation", request(True, False, TOKEN))
            told = [call.payload for call in await rig.came("NotifyCustomerInformation", parts)]
        assert "".join(part["data"] for part in told) == words
        assert [part["seqNo"] for part in told] == list(range(parts))
        assert [part.get("tbc", False) for part in told] == [True] * (parts - 1) + [False]

    run_virtual(main())
