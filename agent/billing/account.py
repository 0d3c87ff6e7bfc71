"""Usage and bill as they stand in a receipt, and back.

Charter: plain JSON values that lose nothing. Money is text with all digits of its currency, prices are exact
decimal text, volumes are integers. Nothing is computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.tariff import usage as usages
from agent.tariff.usage import Usage

if TYPE_CHECKING:
    from agent.tariff.cost import Bill


def usage_plain(usage: Usage, with_periods: bool) -> dict[str, Any]:
    """Periods stand as a table: their names once, not in every one of what may be a thousand rows."""
    plain = usages.to_plain(usage)
    rows = plain["periods"] if with_periods else []
    columns = list(rows[0]) if rows else []
    return plain | {"periods": {"columns": columns, "rows": [list(row.values()) for row in rows]}}


def bill_plain(bill: Bill) -> dict[str, Any]:
    raise NotImplementedError
