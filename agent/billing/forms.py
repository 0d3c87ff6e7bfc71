"""The forms in which a receipt leaves the station, by name.

Charter: one table from name to bytes; each form is another module's work.
"""

from __future__ import annotations

from enum import StrEnum

from agent.billing import html, text
from agent.billing.read import Receipt
from agent.billing.safe import container
from agent.billing.seal import as_json
from agent.billing.told import Told


class Form(StrEnum):
    TEXT = "text"
    HTML = "html"
    JSON = "json"
    SEALED = "sealed"  # the bytes of the ledger
    XML = "xml"  # the meter records for transparency software
    OCMF = "ocmf"  # the meter records, one per line


def written(receipt: Receipt, form: Form, told: Told | None = None) -> bytes | None:
    """None where there is nothing to write: no meter record, or one that the form cannot carry."""
    match form:
        case Form.TEXT:
            return text.render(receipt, told).encode()
        case Form.HTML:
            return html.render(receipt, told).encode()
        case Form.JSON:
            return as_json(receipt.sealed) + b"\n"
        case Form.SEALED:
            return receipt.sealed + b"\n"
        case Form.XML:
            return container(receipt)
        case Form.OCMF:
            records = "".join(f"{record}\n" for record in receipt.records)
            return records.encode() if records else None
