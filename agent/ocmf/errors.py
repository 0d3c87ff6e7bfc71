"""What is wrong with a record, by name.

Charter: the one error a reader raises (the record cannot be read at all), and the finding (it can be
read, and this is what to know about it). Nobody but a programmer ever sees anything else.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class OcmfError(Exception):
    """This is not a readable record, container or key; says where and what to do."""

    def __init__(self, section: str, problem: str, remedy: str, *, key: str = "", offset: int = 0) -> None:
        place = f"{section}, key {key!r}" if key else section
        super().__init__(f"{place} (byte {offset}): {problem}; {remedy}")
        self.section, self.key, self.offset = section, key, offset
        self.problem, self.remedy = problem, remedy


class Code(enum.StrEnum):
    """Why a record is not billable, or what else to know."""

    FORMAT_VERSION = "format_version"
    PAGINATION = "pagination"
    FISCAL = "fiscal"
    SERIAL_MISSING = "serial_missing"
    USER_MISSING = "user_missing"
    IDENTIFICATION_ERROR = "identification_error"
    WORD_UNKNOWN = "word_unknown"
    INHERITED = "inherited"

    BEGIN_MISSING = "begin_missing"
    END_MISSING = "end_missing"
    READING_ORDER = "reading_order"
    EXCEPTION = "exception"
    METER_STATE = "meter_state"
    ENERGY_UNUSABLE = "energy_unusable"
    TIME_UNUSABLE = "time_unusable"
    TIME_UNREADABLE = "time_unreadable"
    TIME_STATUS = "time_status"
    TIME_BACKWARDS = "time_backwards"
    VALUE_UNREADABLE = "value_unreadable"
    VALUE_NEGATIVE = "value_negative"
    VALUE_AS_TEXT = "value_as_text"
    ENERGY_BACKWARDS = "energy_backwards"
    OBIS = "obis"
    UNIT = "unit"
    LOSS = "loss"
    EVENT_COUNTER = "event_counter"

    PAIR_MISMATCH = "pair_mismatch"
    PAGINATION_GAP = "pagination_gap"
    PAGINATION_TWICE = "pagination_twice"
    PAGINATION_ORDER = "pagination_order"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found in a record, in plain words. ``blocks``: no bill may rest on this record."""

    code: Code
    text: str
    blocks: bool = True
