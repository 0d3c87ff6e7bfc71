"""Load sharing holds its promises for every station limit and every mix of demands (16-SC-01, 16-SC-12)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.charging.sharing import Demand, allocate

MINIMUM_MA = 6_000
demand_lists = st.lists(
    st.builds(
        Demand,
        evse_id=st.integers(1, 20),
        started_ms=st.integers(0, 5),
        wanted_ma=st.integers(0, 40_000) | st.sampled_from((5_999, 6_000, 6_001, 16_000, 32_000)),
    ),
    max_size=8,
    unique_by=lambda demand: demand.evse_id,
)
station_limits = st.integers(-1_000, 300_000) | st.integers(0, 40).map(lambda amps: amps * 1000)


@given(station_limits, demand_lists)
def test_shares_keep_the_limit_the_minimum_and_the_demand(limit_ma: int, demands: list[Demand]) -> None:
    shares = allocate(limit_ma, demands)
    assert shares.keys() == {demand.evse_id for demand in demands}
    assert sum(shares.values()) <= max(limit_ma, 0)
    for demand in demands:
        assert shares[demand.evse_id] == 0 or MINIMUM_MA <= shares[demand.evse_id] <= demand.wanted_ma


@given(station_limits, demand_lists)
def test_nothing_is_left_while_a_served_vehicle_wants_more(limit_ma: int, demands: list[Demand]) -> None:
    shares = allocate(limit_ma, demands)
    left_ma = limit_ma - sum(shares.values())
    unsatisfied = [d for d in demands if 0 < shares[d.evse_id] < d.wanted_ma]
    assert not unsatisfied or left_ma == 0
    waiting = [d for d in demands if shares[d.evse_id] == 0 and d.wanted_ma >= MINIMUM_MA]
    assert not waiting or limit_ma < MINIMUM_MA * (sum(share > 0 for share in shares.values()) + 1)


@given(station_limits, demand_lists)
def test_who_started_first_is_served_first_and_the_served_share_evenly(limit_ma: int, demands: list[Demand]) -> None:
    shares = allocate(limit_ma, demands)
    able = sorted((d for d in demands if d.wanted_ma >= MINIMUM_MA), key=lambda d: (d.started_ms, d.evse_id))
    served = [shares[d.evse_id] > 0 for d in able]
    assert served == sorted(served, reverse=True)
    most_ma = max(shares.values(), default=0)
    for demand in able:  # nobody who wants more has less than another, but for the odd milliampere
        if 0 < shares[demand.evse_id] < demand.wanted_ma:
            assert shares[demand.evse_id] >= most_ma - 1


@given(station_limits, st.integers(0, 20_000), demand_lists)
def test_a_higher_limit_serves_no_fewer_and_gives_no_less_in_all(
    limit_ma: int, more_ma: int, demands: list[Demand]
) -> None:
    low, high = allocate(limit_ma, demands), allocate(limit_ma + more_ma, demands)
    served_low = {evse_id for evse_id, share in low.items() if share}
    served_high = {evse_id for evse_id, share in high.items() if share}
    assert served_low <= served_high
    assert sum(low.values()) <= sum(high.values())
    if served_low == served_high:
        assert all(low[evse_id] <= high[evse_id] + 1 for evse_id in low)


@given(station_limits, demand_lists.flatmap(lambda demands: st.tuples(st.just(demands), st.permutations(demands))))
def test_the_order_of_asking_does_not_matter(limit_ma: int, orders: tuple[list[Demand], list[Demand]]) -> None:
    assert allocate(limit_ma, orders[0]) == allocate(limit_ma, orders[1])
