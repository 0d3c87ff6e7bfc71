"""The receipt as a driver reads it, word for word."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from agent.billing.facts import Flags
from agent.billing.read import parse
from agent.billing.text import WIDTH, render
from agent.billing.told import Told
from tests.unit.billing import making
from tests.unit.billing.making import TARIFF
from tests.unit.billing.strangers import HOSTILE, hostile_receipt

GOLDEN = """\
================================================================================
RECEIPT 17
Example Charging Ltd
1 Example Street, 12345 Example
VAT id DE123456789

================================================================================
Energy          13.176543 kWh
Time (h:mm:ss)  1:50:00
Total           7.91 EUR
================================================================================

What it costs
--------------------------------------------------------------------------------
Item                                                How much         Price   EUR
Energy                                          9.876543 kWh  0.29 EUR/kWh  2.86
Energy                                             3.300 kWh  0.39 EUR/kWh  1.29
Idle time                                            0:20:00  0.10 EUR/min  2.00
Start fee                                                1 x      0.50 EUR  0.50
VAT 19 %                                             on 6.65                1.26
--------------------------------------------------------------------------------
Total EUR                                 net 6.65, tax 1.26                7.91
Prices are without tax. Lines of one kind are added up, then rounded once
(HALF_UP); the total is the sum of the lines.

Session
--------------------------------------------------------------------------------
Begin            2026-03-28 23:10:00 UTC+01:00
End              2026-03-29 01:00:00 UTC+01:00
Place            CP-0001, EVSE 1
Token            04A2B3C4D5E6F7
Group            household
Stopped by       Local
Charging         1:20:00
Connected, idle  0:30:00

Tariff day-and-night
--------------------------------------------------------------------------------
- at night
- dearer by day

Meter
--------------------------------------------------------------------------------
Meter                              EM-42
Register at begin                  1234.567890 kWh
Register at end                    1247.744433 kWh
Difference                         13.176543 kWh
Begin                              2026-03-28 22:10:00.000 UTC (informative
                                   clock)
End                                2026-03-29 00:00:00.000 UTC (informative
                                   clock)
Metered before, in no transaction  0.000000 kWh

Periods
--------------------------------------------------------------------------------
From (UTC+01:00) 2026-03-28 23:10:00
  To 2026-03-28 23:30:00, Energy 3.300 kWh, Charging 0:20:00, Idle 0:00:00,
  Prices energy 0.39 EUR/kWh, EUR 1.287
From (UTC+01:00) 2026-03-28 23:30:00
  To 2026-03-29 00:40:00, Energy 9.876543 kWh, Charging 1:00:00, Idle 0:10:00,
  Prices energy 0.29 EUR/kWh, EUR 2.864197
From (UTC+01:00) 2026-03-29 00:40:00
  To 2026-03-29 01:00:00, Energy 0.000 kWh, Charging 0:00:00, Idle 0:20:00,
  Prices idle 0.10 EUR/min, EUR 2.00
Amounts are without tax and not rounded yet; fees and taxes stand in the bill.

Identity
--------------------------------------------------------------------------------
Transaction               7d0f9c1e-0000-4000-8000-000000000001
Transaction, as a number  41
Station                   Example Wallbox 11, serial EX-000123
Software                  0.1.0, files ababababababababababababababababababababa
                          bababababababababababab
Time zone                 Europe/Berlin, tzdata 2026.1
Tariff day-and-night      fd02a21820a68fb51c39d05adac3767f8e29ebceb6ad33aeb83b1f
                          cd568243fe
Ledger row                314
Hash of the row before    000102030405060708090a0b0c0d0e0f101112131415161718191a
                          1b1c1d1e1f
Public key                3059301306072A8648CE3D020106082A8648CE3D03010703420004
                          088BB9FF22AB291A74C86FC677BA897BAADEE370CC6129B82D170B
                          A3FC26415C442DA9A716067956D91EAA02B93AD409490E87CD5E75
                          8EA6A331A1DEB75BA846

How to check this receipt
--------------------------------------------------------------------------------
* Take the public key (KEY) from the charger's label or from the operator and
  compare it with the one above: a key that came with the receipt proves
  nothing.
* The first command checks the signature, the meter records and the sums, and
  computes the cost again from the tariff in the receipt. FILE is the receipt,
  or the page that holds it.
* The receipt holds one meter record (OCMF), signed one by one. The second
  command checks them alone; so does any transparency software that opens the
  file of records (RECORDS).
    evsed receipt verify FILE --key KEY
    evsed ocmf verify RECORDS --key KEY
"""


def test_golden() -> None:
    usage = making.used((TARIFF,))
    of = making.facts(usage=usage)
    # The words of a tariff are another's work and may change.
    of = replace(of, tariffs=(replace(of.tariffs[0], words=("at night", "dearer by day")),))
    assert render(parse(making.sealed(of, usage))) == GOLDEN


def test_no_tariff() -> None:
    shown = render(parse(making.sealed(making.facts(()))))
    assert "Total           priced by the operator" in shown
    assert "! This station knows no price for the transaction" in shown
    assert "What it costs" not in shown


def test_no_tariff_but_periods() -> None:
    usage = making.used((TARIFF,))
    bare = tuple(replace(each, tariff=None, energy=None, charging_time=None, idle_time=None) for each in usage.periods)
    shown = render(parse(making.sealed(making.facts(()), replace(usage, periods=bare, volumes=()))))
    assert re.search(r"\n2026-03-28 23:10:00 +2026-03-28 23:30:00 +3.300 kWh +0:20:00 +0:00:00\n", shown)
    assert "Prices" not in shown


def test_time_is_that_of_the_monotonic_clock() -> None:
    usage = making.used((TARIFF,))
    of = making.facts(usage=usage)
    shown = render(parse(making.sealed(replace(of, begin=replace(of.begin, wall_ms=0, time_status="U")), usage)))
    assert "Time (h:mm:ss)  1:50:00" in shown
    assert "1970-01-01 00:00:00.000 UTC (clock not set)" in shown


def test_what_the_operator_told_is_marked() -> None:
    shown = render(parse(making.sealed(making.facts(()))), Told("12.30", True, "Thank you"))
    assert "says that this transaction costs 12.30 in the end." in shown
    assert "did not sign it" in shown
    assert "so far" in render(parse(making.sealed()), Told("1", False))


def test_zero_energy() -> None:
    usage = making.used((TARIFF,), [(60_000, 0, making.STEPS[0][2])])
    shown = render(parse(making.sealed(making.facts(usage=usage), usage)))
    assert "Energy          0.000 kWh" in shown
    assert "Total           0.60 EUR" in shown


@pytest.mark.parametrize(("currency", "total"), [("JPY", "8 JPY"), ("KWD", "7.915 KWD")])
def test_currencies(currency: str, total: str) -> None:
    tariff = TARIFF | {"currency": currency}
    usage = making.used((tariff,))
    shown = render(parse(making.sealed(making.facts((tariff,), usage), usage)))
    assert f"Total           {total}" in shown


@pytest.mark.parametrize("name", Flags.__dataclass_fields__)
def test_every_flag_is_told(name: str) -> None:
    of = making.facts(())
    plain = render(parse(making.sealed(of)))
    flagged = render(parse(making.sealed(replace(of, flags=replace(of.flags, **{name: True})))))
    assert flagged.count("\n! ") == plain.count("\n! ") + 1


@pytest.mark.parametrize(
    "left_out", [("periods",), ("periods", "tariff_texts"), ("periods", "tariff_texts", "records")]
)
def test_what_is_left_out_is_told(left_out: tuple[str, ...]) -> None:
    shown = render(replace(parse(making.sealed(making.facts(()))), left_out=left_out))
    assert shown.count("\n! ") == 1 + len(left_out)


def test_periods_over_a_change_of_the_offset_are_in_utc() -> None:
    of = making.facts()
    of = replace(of, end=replace(of.end, offset_minutes=120))
    assert "From (UTC+00:00) 2026-03-28 22:10:00" in render(parse(making.sealed(of, making.used((TARIFF,)))))


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_strangers_stay_texts(text: str) -> None:
    shown = render(hostile_receipt(text), Told(text, True, text))
    assert all(char == "\n" or char.isprintable() for char in shown)
    assert [line for line in shown.splitlines() if line.startswith("Total  ")] == ["Total           7.91 EUR"]


def test_lines_are_no_wider_than_a_page() -> None:
    for text in ("x" * 200, "word " * 60):
        assert max(map(len, render(hostile_receipt(text)).splitlines())) <= WIDTH
