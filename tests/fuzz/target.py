"""What is fuzzed: one parser, how it may refuse, and a few right inputs.

Charter: the value that the tables list, and the one way to feed it. A target ends in a value or in one of the errors
that its module declares, in few words; everything else (also ``RecursionError``, ``MemoryError``, ``OverflowError``)
is a finding. A target may check more of what it accepts by ``assert``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

WORDS_MAX_CHARS: Final = 2_000
WORDS_PER_BYTE: Final = 200
"""An error may name every mistake, so its words grow with the input; but no byte may buy a page."""


@dataclass(frozen=True, slots=True)
class Target:
    """``parse`` takes the bytes; ``errors`` are what it declares; ``seeds`` makes right inputs, on demand since that
    takes time; ``max_bytes`` is the longest input worth trying."""

    name: str
    parse: Callable[[bytes], object]
    seeds: Callable[[], Sequence[bytes]]
    errors: tuple[type[Exception], ...] = ()
    max_bytes: int = 4096


class Wordy(AssertionError):
    """An error that takes too many words, as if the input should be told in full."""


def feed(target: Target, data: bytes) -> None:
    """Raises what is a finding; returns otherwise."""
    try:
        target.parse(data)
    except target.errors as error:
        if len(words := str(error)) > WORDS_MAX_CHARS + WORDS_PER_BYTE * len(data):
            raise Wordy(f"{type(error).__name__} of {len(words)} characters for {len(data)} bytes") from None
