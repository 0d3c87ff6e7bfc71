"""CustomerInformation: what is kept of a customer, told and cleared (N09, N10).

Charter: from the request to the station's question, from its words to NotifyCustomerInformation messages. What there
is to tell, and what may be cleared, is the station's business; what may be is cleared before it is answered.

A request that names no customer, or several in different ways, is Invalid: nobody knows whose data is meant. One that
asks for nothing is Rejected (N09.FR.07).

Sources: OCPP 2.0.1 part 2 N09, N10.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from agent.ipc.monitors import CustomerRequest
from agent.ocpp.frames import Payload
from agent.ocpp.timestamps import to_rfc3339
from agent.ocpp.v201.messages import read_id_token, status

DATA_MAX_CHARS: Final = 512

_NOTHING_TO_CLEAR: Final = (
    "No data that may be cleared was found. Transactions in the ledger, if there are any, are kept by law."
)


def read(request: Payload) -> CustomerRequest | Payload:
    """What is asked for; or the CustomerInformationResponse that refuses it."""
    if not request["report"] and not request["clear"]:
        return status("Rejected", "MissingParam", "neither report nor clear is asked for")
    named = [name for name in ("idToken", "customerIdentifier", "customerCertificate") if request.get(name)]
    if len(named) != 1:
        return status("Invalid", "InvalidValue", "one of idToken, customerIdentifier and customerCertificate")
    return CustomerRequest(
        request["report"],
        request["clear"],
        read_id_token(request["idToken"]) if "idToken" in named else None,
        request["customerIdentifier"] if "customerIdentifier" in named else None,
        request["customerCertificate"]["serialNumber"] if "customerCertificate" in named else None,
    )


def nothing(request: CustomerRequest) -> str:
    """In place of words, where nothing was found (N09.FR.06, N10.FR.04, 06)."""
    return "No data was found." if request.report else _NOTHING_TO_CLEAR


def report_parts(request_id: int, generated_wall_ms: int, words: str) -> Iterator[Payload]:
    """The NotifyCustomerInformationRequests that carry ``words``, which are not empty."""
    for seq_no, first in enumerate(range(0, len(words), DATA_MAX_CHARS)):
        after = first + DATA_MAX_CHARS
        part: dict[str, Any] = {
            "requestId": request_id,
            "generatedAt": to_rfc3339(generated_wall_ms),
            "seqNo": seq_no,
            "data": words[first:after],
        }
        yield part | ({"tbc": True} if after < len(words) else {})
