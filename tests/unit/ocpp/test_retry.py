"""Which form of a message is due, and that every story of a message ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ocpp.metering import forms
from agent.ocpp.retry import CODES_OF_A_MESSAGE, HANG_UPS, PATIENCE_S, Retry, RetryPolicy

POLICY = RetryPolicy(3, 60)


@pytest.mark.parametrize(
    ("readings", "signed", "lengths"),
    [(0, 0, [0]), (0, 2, [2, 0]), (1, 0, [1, 0]), (2, 1, [3, 0]), (9, 1, [10, 3, 0])],
)
def test_less_and_less_of_readings_and_signed_ones_to_the_last(readings: int, signed: int, lengths: list[int]) -> None:
    values, records = [{"n": number} for number in range(readings)], [{"s": number} for number in range(signed)]
    each = forms(values, records)
    assert [len(form) for form in each] == lengths
    assert each[0] == values + records
    assert all(record in form for form in each[:-1] for record in records)


@given(
    st.integers(1, 3),
    st.lists(st.sampled_from([None, 1000, 1001, 1006, 1008, 1011, *CODES_OF_A_MESSAGE]), min_size=HANG_UPS + 3),
)
def test_whatever_the_code_hanging_up_for_ever_is_given_up_but_never_soon(count: int, codes: list[int | None]) -> None:
    retry, now_s = Retry(1), 0.0
    for number, code in enumerate(codes * 2):
        assert not retry.is_over(POLICY) or (number >= HANG_UPS and now_s >= PATIENCE_S)
        now_s += PATIENCE_S / HANG_UPS
        retry.connected(now_s, count)
        retry.proven()
        retry.hung_up(now_s, code, count)
    assert retry.is_over(POLICY)
    assert retry.form == count - 1, "every form had its turn"


@given(st.lists(st.sampled_from(["cut", "silent", "swallowed", "refused"]), max_size=200))
def test_only_what_was_refused_or_swallowed_ends_it_while_nobody_proves_the_csms(steps: list[str]) -> None:
    retry, now_s, failures = Retry(1), 0.0, 0
    for step in steps:
        now_s += PATIENCE_S
        retry.connected(now_s, 1)
        match step:
            case "cut":
                retry.hung_up(now_s, None, 1)
            case "refused":
                retry.refused(now_s, POLICY)
                failures += 1
            case _:
                retry.timed_out(now_s, POLICY)
        if step == "swallowed":
            retry.lived(at_once=True)
            failures += 1
        assert retry.is_over(POLICY) == (failures >= POLICY.attempts)


def test_a_refusal_is_waited_out_on_the_next_connection_and_silence_is_not() -> None:
    retry = Retry(1)
    retry.refused(0.0, POLICY)
    retry.connected(10.0, 1)
    assert retry.not_before_s == 60.0
    retry.timed_out(60.0, POLICY)
    retry.connected(70.0, 1)
    assert retry.not_before_s == 70.0
    retry.timed_out(100.0, POLICY)
    retry.lived(at_once=True)
    retry.connected(110.0, 1)
    assert retry.not_before_s == 220.0, "that was an answer"


def test_the_id_of_a_denied_message_is_used_up_and_that_of_an_unanswered_one_is_not() -> None:
    retry = Retry(1)
    retry.sends = 1
    retry.denied()
    retry.sends = 3
    retry.connected(0.0, 1)
    assert retry.sends == 1


def test_what_times_out_again_after_a_sign_of_life_is_an_attempt_and_counts_once() -> None:
    retry = Retry(1)
    retry.timed_out(0.0, POLICY)
    retry.lived(at_once=False)
    assert retry.failures == 0, "it may have been the CSMS"
    retry.timed_out(100.0, POLICY)
    assert retry.failures == 1
    retry.lived(at_once=True)
    assert retry.failures == 1
    retry.connected(200.0, 1)
    retry.timed_out(300.0, POLICY)
    assert retry.failures == 1, "a new link, which may be dead"
