"""Sessions: how they end, and whose form a form is."""

from __future__ import annotations

from agent.web.sessions import ABSOLUTE_S, IDLE_S, SESSIONS_MAX, Sessions


def test_session_lives_while_it_is_used_and_eight_hours_at_most() -> None:
    sessions = Sessions()
    session_id, now_s = sessions.begin(0.0), 0.0
    while now_s + IDLE_S / 2 < ABSOLUTE_S:
        now_s += IDLE_S / 2
        assert sessions.find(session_id, now_s) is not None
    assert sessions.find(session_id, ABSOLUTE_S) is None


def test_idle_session_ends() -> None:
    sessions = Sessions()
    session_id = sessions.begin(0.0)
    assert sessions.find(session_id, IDLE_S) is None


def test_stream_that_only_listens_does_not_keep_a_session() -> None:
    sessions = Sessions()
    session = sessions.find(sessions.begin(0.0), 0.0)
    assert session is not None
    assert sessions.lives(session, IDLE_S - 1)
    assert not sessions.lives(session, IDLE_S)


def test_logged_out_is_out() -> None:
    sessions = Sessions()
    session_id = sessions.begin(0.0)
    session = sessions.find(session_id, 0.0)
    assert session is not None
    sessions.end(session)
    assert sessions.find(session_id, 0.0) is None
    assert not sessions.lives(session, 0.0)


def test_the_oldest_of_too_many_ends() -> None:
    sessions = Sessions()
    ids = [sessions.begin(float(number)) for number in range(SESSIONS_MAX + 1)]
    assert [sessions.find(each, 10.0) is not None for each in ids] == [False] + [True] * SESSIONS_MAX


def test_unknown_ids_of_any_shape_are_nobody() -> None:
    sessions = Sessions()
    sessions.begin(0.0)
    assert [sessions.find(each, 0.0) for each in (None, "", "x", "\ud800", "y" * 10_000)] == [None] * 5


def test_form_token_is_the_sessions_own() -> None:
    sessions = Sessions()
    one, other = (sessions.find(sessions.begin(0.0), 0.0) for _ in range(2))
    assert one is not None and other is not None
    assert one.owns(one.form_token)
    assert not one.owns(other.form_token)
    assert not one.owns("")
