"""A tariff's JSON as a value with its numbers as written, and the hash that names its content.

Charter: reading JSON strictly (one document, no NaN, no name twice, limits on size and depth) and the canonical
form. What the fields mean is for ``parse``.

Canonical form, hashed with SHA-256: no white space; names of an object sorted by Unicode code point; strings with
the two-character escapes of JSON where they exist, else ``\\u00xx`` below space and ``\\uxxxx`` (surrogate pairs,
lower case) beyond ASCII; numbers exactly as written, so ``0.30`` and ``0.3`` are two contents: which of them stood on a
receipt must stay provable. From a dict the numbers' text is the shortest that gives the value; hash the bytes where
there are any.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from agent.tariff.number import Written, written
from agent.tariff.problem import Problem, TariffError, inner_path

MAX_BYTES = 64 * 1024
MAX_DEPTH = 16


class Object(dict[str, Any]):
    """An object of the text, and the names that stood in it more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(name for name, _ in pairs) if len(pairs) > len(self) else {}
        self.twice = sorted(name for name, count in counts.items() if count > 1)


def read(data: bytes | str | dict[str, Any]) -> tuple[Any, list[Problem]]:
    """Objects, lists, strings, booleans, None, and numbers as ``Written``, and what is wrong with them.
    ``TariffError`` when it is no JSON at all."""
    loaded = _from_dict(data, 0) if isinstance(data, dict) else _from_text(data)
    return loaded, list(_problems(loaded, "$"))


def load(data: bytes | str | dict[str, Any]) -> Any:
    """The same value; ``TariffError`` when anything is wrong with it."""
    loaded, problems = read(data)
    if problems:
        raise TariffError(problems)
    return loaded


def content_hash(data: bytes | str | dict[str, Any]) -> str:
    """SHA-256 of the canonical form, hex."""
    return hashlib.sha256(canonical(load(data)).encode("ascii")).hexdigest()


def canonical(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{canonical(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    return str(value) if isinstance(value, Written) else json.dumps(value)


def _from_text(data: bytes | str) -> Any:
    try:
        raw = data.encode() if isinstance(data, str) else data
        if len(raw) > MAX_BYTES:
            raise _refused(f"at most {MAX_BYTES} bytes", f"{len(raw)} bytes")
        return json.loads(
            raw.decode(), parse_float=Written, parse_int=Written, parse_constant=Written, object_pairs_hook=Object
        )
    except UnicodeError as error:
        raise _refused("UTF-8 text", str(error)) from error
    except RecursionError as error:
        raise _refused(f"at most {MAX_DEPTH} levels", "many more") from error
    except json.JSONDecodeError as error:
        raise _refused("JSON", f"{error.msg} in line {error.lineno}, column {error.colno}") from error


def _from_dict(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise _refused(f"at most {MAX_DEPTH} levels", "more")
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise _refused("names that are text", "another kind of name")
        return {name: _from_dict(each, depth + 1) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_from_dict(each, depth + 1) for each in value]
    number = written(value)
    if number is not None or value is None or isinstance(value, str | bool):
        return value if number is None else number
    raise _refused("JSON values", f"a {type(value).__name__}")


def _problems(value: Any, path: str, depth: int = 0) -> Iterator[Problem]:
    if depth > MAX_DEPTH:
        yield Problem(path, f"at most {MAX_DEPTH} levels", "more")
        return
    if isinstance(value, dict):
        for name in value.twice if isinstance(value, Object) else []:
            yield Problem(inner_path(path, name), "each name once", "the name twice")
        for name, each in value.items():
            yield from _problems(each, inner_path(path, name), depth + 1)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _problems(each, f"{path}[{index}]"[:200], depth + 1)
    elif isinstance(value, Written) and value.lstrip("-")[:1].isalpha():
        yield Problem(path, "a number", str(value))


def _refused(expected: str, found: str) -> TariffError:
    return TariffError([Problem("$", expected, found)])
