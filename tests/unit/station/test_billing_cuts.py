"""What old rows take along when they are removed from the ledger of a whole station."""

from __future__ import annotations

from agent.ledger.retention import CutOrder
from agent.tariff.parse import content_hash
from tests.support.billing_world import NOON_MS, BillingWorld, Site
from tests.unit.station.test_billing_prices import FLAT, kwh, only, text


def test_a_cut_leaves_the_tariffs_of_what_is_left_and_those_that_are_taken_up_while_it_is_under_way() -> None:
    """Each price has an id of its own, as OCPP 2.1 asks."""
    spot = [text(f"spot-{number}", energy=[kwh(number / 10)]) for number in range(6)]
    with BillingWorld(Site.selling(FLAT)) as made:
        for each in spot[1:4]:
            made.live_tariff(each)
        made.charge(10)  # on the last of these
        made.live_tariff(spot[4])
        made.advance(5_000)
        before = only(made)
        made.live_tariff(spot[5])
        begin_seq = next(row.seq for row in made.all_rows() if row.kind == "tx_started")
        order = CutOrder(begin_seq - 1, 10**9, 10**15, "boot", 1, NOON_MS, "S", made.billing.tariffs_in_use())
        made.live_tariff(spot[2])
        while made._book.cut(order) is not None:
            pass
        kept = {f"spot-{number}": made.archive.tariff_text(content_hash(each)) for number, each in enumerate(spot)}
        assert [name for name, found in kept.items() if found is None] == ["spot-0", "spot-1"]
        made.charge(10)
        made.crash()
        made.unplug()
        made.finish()
        after = made.receipts()[-1]
        assert [each.facts.tariffs[0].tariff_id for each in (before, after)] == ["spot-3", "spot-2"]
        assert after.bill is not None and made.audit() == []
