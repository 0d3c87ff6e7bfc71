"""The trace of messages, and the lines that a person sees of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.cli.trace import trace_line
from agent.telemetry.ring_file import RingFile, RingReader, entries
from agent.telemetry.trace import FRAME_MAX_CHARS, REMEMBERED, FrameTrace

AT_MS = 1_795_507_200_120


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.jsonl"


def noted(path: Path, *frames: tuple[str, str]) -> list[dict[str, Any]]:
    trace = FrameTrace(RingFile(path), lambda: AT_MS)
    for direction, frame in frames:
        trace.note(direction, frame)
    return list(entries(RingReader(path).last(10_000)))


def test_an_answer_has_the_action_of_its_call(path: Path) -> None:
    found = noted(
        path,
        ("out", '[2,"1","Heartbeat",{}]'),
        ("in", '[2,"1","Reset",{"type":"Soft"}]'),  # the CSMS's ids are its own
        ("in", '[3,"1",{"currentTime":"x"}]'),
        ("out", '[4,"1","NotSupported","",{}]'),
        ("in", '[3,"1",{}]'),  # answered already
    )
    assert [(each["direction"], each["kind"], each["action"]) for each in found] == [
        ("out", "call", "Heartbeat"),
        ("in", "call", "Reset"),
        ("in", "result", "Heartbeat"),
        ("out", "error", "Reset"),
        ("in", "result", ""),
    ]
    assert found[0] == {
        "timestamp": "2026-11-24T08:00:00.120Z",
        "direction": "out",
        "kind": "call",
        "id": "1",
        "action": "Heartbeat",
        "chars": 22,
        "frame": '[2,"1","Heartbeat",{}]',
    }


@pytest.mark.parametrize(
    "frame", ["<unreadable, 9 bytes>", "{}", "[]", "[2]", '["2","1","x"]', "[7,1,2]", "[" * 10_000]
)
def test_what_is_no_frame_is_kept_as_it_came(path: Path, frame: str) -> None:
    (found,) = noted(path, ("in", frame))
    assert (found["kind"], found["action"], found["frame"]) == ("", "", frame[:FRAME_MAX_CHARS])
    assert found["chars"] == len(frame)


def test_a_long_frame_is_cut(path: Path) -> None:
    (found,) = noted(path, ("out", json.dumps([2, "1", "DataTransfer", {"data": "é" * 9_000}])))
    assert found["action"] == "DataTransfer" and len(found["frame"]) == FRAME_MAX_CHARS


def test_calls_without_answers_are_forgotten(path: Path) -> None:
    calls = [("out", f'[2,"{number}","Heartbeat",{{}}]') for number in range(REMEMBERED + 1)]
    found = noted(path, *calls, ("in", '[3,"0",{}]'), ("in", '[3,"1",{}]'))
    assert [each["action"] for each in found[-2:]] == ["", "Heartbeat"]


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        (
            {"direction": "out", "kind": "call", "action": "Reset", "id": "7", "frame": '[2,"7","Reset",{"a":"ä"}]'},
            '11-24 08:00:00.120 -> Reset                            7                                    {"a": "ä"}',
        ),
        (
            {"direction": "in", "kind": "error", "action": "", "id": "7", "frame": '[4,"7","X","d",{}]'},
            '11-24 08:00:00.120 <- ? !                              7                                    "X" "d" {}',
        ),
        (
            {"direction": "in", "kind": "", "frame": "a\x1b[2Jb"},
            "11-24 08:00:00.120 <- ? ?                                                                   a\\x1b[2Jb",
        ),
        ({}, "11-24 08:00:00.120 ?? ? ?                                                                   "),
    ],
)
def test_lines_for_people_obey_nobody(entry: dict[str, Any], line: str) -> None:
    assert trace_line({"timestamp": "2026-11-24T08:00:00.120Z"} | entry) == line
