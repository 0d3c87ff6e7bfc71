"""Which registers count for billing: those of published records and of the format's table."""

from __future__ import annotations

import pytest

from agent.ocmf.obis import is_billing, is_compensated


@pytest.mark.parametrize(
    ("code", "billing", "compensated"),
    [
        ("01-00:01.08.00*FF", True, False),
        ("01-00:01.08.00.FF", True, False),
        ("1-b:1.8.0", True, False),
        ("1-0:1.8.1", True, False),
        ("1-0:1.8.0*255", True, False),
        ("1-0:98.8.0.FF", True, True),
        ("1-0:9E.8.0", True, False),
        ("01-00:B0.08.00*FF", True, False),
        ("01-00:b1.08.00*ff", True, True),
        ("01-00:B3.08.00*FF", True, True),
        ("01-00:C7.08.00*00", True, False),
        ("01-00:C8.08.00*FF", False, False),
        ("1-0:2.8.0.FF", False, False),
        ("1-0:1.7.0", False, False),
        ("7-0:1.8.0", False, False),
        ("1-0:1.8.0*198", False, False),  # a stored earlier period
        ("01-00:B1.08.00*01", False, False),
        ("01-00:00.08.06.FF", False, False),
        ("1-0:1.8", False, False),
        ("", False, False),
        (None, False, False),
    ],
)
def test_registers(code: str | None, billing: bool, compensated: bool) -> None:
    assert (is_billing(code), is_compensated(code)) == (billing, compensated)
