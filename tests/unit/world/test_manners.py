"""Bad manners are bad: malformed answers are of no use, odd times are still times, every manner is drawn."""

from __future__ import annotations

import random

import pytest

from agent.ocpp import schema
from agent.ocpp.answers import Answers
from agent.ocpp.frames import Malformed, Result, parse
from agent.ocpp.timestamps import BadTimestamp, from_rfc3339
from agent.ocpp.version import Version
from agent.sim.world import manners as bad
from agent.sim.world.desk import frame_text
from agent.sim.world.manners import Manner, Manners, Rates
from tests.support.fake_station import T0_MS

V16, V201 = Version.V16, Version.V201


def test_timestamps_come_in_every_form_and_nonsense_when_asked() -> None:
    rng = random.Random(1)
    odd = [bad.timestamp(T0_MS, Manners(odd_timestamps=1.0), rng) for _ in range(100)]
    assert len(dict.fromkeys(odd)) == 6
    assert {from_rfc3339(text) for text in odd} == {T0_MS}
    nonsense = [bad.timestamp(T0_MS, Manners(nonsense_time=1.0), rng) for _ in range(100)]
    assert len(dict.fromkeys(nonsense)) == 7
    for text in nonsense:
        try:
            assert from_rfc3339(text) != T0_MS
        except BadTimestamp:
            assert text in ("now", "")


@pytest.mark.parametrize(
    ("version", "action", "answer"),
    [
        (V16, "BootNotification", {"status": "Accepted", "currentTime": "2026-11-24T08:00:00Z", "interval": 60}),
        (V16, "Authorize", {"idTagInfo": {"status": "Accepted"}}),
        (V16, "StartTransaction", {"transactionId": 0, "idTagInfo": {"status": "Accepted"}}),
        (V16, "StopTransaction", {"idTagInfo": {"status": "Accepted"}}),
        (V16, "MeterValues", {}),
        (V201, "TransactionEvent", {"idTokenInfo": {"status": "Accepted"}}),
        (V201, "Heartbeat", {"currentTime": "2026-11-24T08:00:00Z"}),
    ],
)
def test_a_malformed_answer_is_malformed(version: Version, action: str, answer: dict[str, object]) -> None:
    """Else it would be counted as a refusal that the station never saw."""
    schema.check_response(version, action, answer)
    for seed in range(50):
        spoiled = bad.spoil(action, answer, random.Random(seed))
        frame = parse(frame_text([3, "a", spoiled]), version)
        assert isinstance(frame, Malformed if not isinstance(spoiled, dict) else Result)
        with pytest.raises(schema.SchemaViolation):
            if isinstance(spoiled, dict):
                Answers(version).take(action, spoiled)
            else:
                schema.check_response(version, action, spoiled)


@pytest.mark.parametrize(
    ("version", "action", "answer", "nulls"),
    [
        (V16, "Authorize", {"idTagInfo": {"status": "Accepted", "parentIdTag": "FAMILY"}}, 1),
        (V16, "StartTransaction", {"transactionId": 0, "idTagInfo": {"status": "Accepted"}}, 2),
        (V16, "StopTransaction", {}, 1),
        (V16, "MeterValues", {}, 0),
        (V201, "Authorize", {"idTokenInfo": {"status": "Blocked"}}, 6),
        (V201, "TransactionEvent", {"idTokenInfo": {"status": "Blocked"}}, 10),
        (V201, "TransactionEvent", {}, 5),
    ],
)
def test_nulls_are_of_optional_fields_and_say_nothing(
    version: Version, action: str, answer: dict[str, object], nulls: int
) -> None:
    full = bad.with_nulls(action, answer)
    assert frame_text([full]).count(b"null") == nulls
    Answers(version).take(action, full)
    assert full == answer


def test_which_answers_have_nulls_hangs_on_what_is_answered_alone() -> None:
    struck = [bad.strikes_by(f"id-{number}", 0.2) for number in range(1_000)]
    assert 150 < sum(struck) < 250 and struck == [bad.strikes_by(f"id-{number}", 0.2) for number in range(1_000)]
    assert not any(bad.strikes_by(f"id-{number}", 0.0) for number in range(1_000))


def test_rates_draw_every_manner() -> None:
    assert Rates(error=1.0).draw(random.Random(1)) is Manner.ERROR
    drawn = [Rates(0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1).draw(random.Random(seed)) for seed in range(200)]
    assert set(drawn) == set(Manner)
