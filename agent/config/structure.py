"""From a parsed TOML document to dataclasses, or to the complete list of what is wrong with it.

Charter: the glue to cattrs. Every class is checked for unknown keys, every leaf by its ``Rule``, and all
mistakes of a document are gathered with their paths. ``cattrs`` itself coerces values; since every
leaf has a rule (asserted when a class is first met), its coercions are never reached.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from cattrs import Converter
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError
from cattrs.gen import make_dict_structure_fn, override

from agent.config.fields import Rule, Unfit, show
from agent.config.problem import ConfigError, Problem, unreadable

Rules = Mapping[type, Mapping[str, Rule]]

_MAX_FILE_BYTES = 256 * 1024
_PLACE = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|(end of document))\)$", re.DOTALL)


def read_toml(file: Path) -> dict[str, Any]:
    """The document of ``file``. Raises ``ConfigError`` naming line and column of a syntax error."""
    try:
        with file.open("rb") as stream:
            raw = stream.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(str(file), [unreadable(file, error)]) from None
    if len(raw) > _MAX_FILE_BYTES:
        raise ConfigError(str(file), [Problem(str(file), f"at most {_MAX_FILE_BYTES} bytes", "more")])
    return parse_toml(raw, str(file))


def parse_toml(raw: bytes, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(name, [Problem(f"line {line}", "UTF-8 text", f"byte {raw[error.start]:#04x}")]) from None
    except tomllib.TOMLDecodeError as error:
        place = _PLACE.match(str(error))
        what, line_no, column, _ = place.groups() if place else (str(error), None, None, None)
        where = f"line {line_no}, column {column}" if line_no else "end of file"
        example = 'key = "text", key = 5, [table]'
        raise ConfigError(name, [Problem(where, "valid TOML", what or str(error), example)]) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; lists in lists in lists
        found = "too many levels" if isinstance(error, RecursionError) else "a number with too many digits"
        raise ConfigError(name, [Problem(name, "TOML for people", found)]) from None


class Structurer:
    """Builds one document. ``external`` gives rules of classes that carry none in their fields;
    ``base`` is the directory that relative paths start from."""

    def __init__(self, base: Path, external: Rules) -> None:
        self._base = base
        self._external = external
        self._converter = Converter(forbid_extra_keys=True, detailed_validation=True)
        self._converter.register_structure_hook_factory(dataclasses.is_dataclass, self._class_hook)
        self._converter.register_structure_hook_factory(_is_tuple, self._list_hook)

    def build(self, document: Mapping[str, Any], kind: type[Any], name: str) -> Any:
        """An instance of ``kind``. Raises ``ConfigError`` with every problem."""
        try:
            return self._converter.structure(document, kind)
        except ClassValidationError as error:
            raise ConfigError(name, list(self._problems(error, ""))) from None

    def rule(self, kind: type[Any], field_name: str) -> Rule | None:
        external = self._external.get(kind, {}).get(field_name)
        if external is not None:
            return external
        rule = kind.__dataclass_fields__[field_name].metadata.get("rule")
        assert rule is None or isinstance(rule, Rule)
        return rule

    def _leaf(self, convert: Callable[[object, Path], Any]) -> Callable[[Any, Any], Any]:
        return lambda value, _kind: convert(value, self._base)

    def _class_hook(self, kind: type[Any]) -> Callable[[Any, Any], Any]:
        rules = {each.name: self.rule(kind, each.name) for each in dataclasses.fields(kind)}
        overrides: dict[str, Any] = {
            name: override(struct_hook=self._leaf(rule.convert)) for name, rule in rules.items() if rule is not None
        }
        self._assert_no_bare_leaf(kind, rules)
        inner = make_dict_structure_fn(kind, self._converter, **overrides)

        def structure(value: Any, target: Any) -> Any:
            if not isinstance(value, dict):
                raise Unfit("a table", show(value), "[table]")
            return inner(value, target)

        return structure

    def _assert_no_bare_leaf(self, kind: type[Any], rules: Mapping[str, Rule | None]) -> None:
        hints = get_type_hints(kind)
        for name in (name for name, rule in rules.items() if rule is None):
            inside = [each for each in get_args(hints[name]) if each not in (type(None), Ellipsis)] or [hints[name]]
            assert all(dataclasses.is_dataclass(each) for each in inside), (kind, name)

    def _list_hook(self, kind: Any) -> Callable[[Any, Any], Any]:
        listed: Any = list.__class_getitem__(get_args(kind)[0])

        def structure(value: Any, _target: Any) -> Any:
            if not isinstance(value, list):
                raise Unfit("a list of tables", show(value), "[[table]] with double brackets")
            return tuple(self._converter.structure(value, listed))

        return structure

    def _problems(self, error: Exception, path: str) -> list[Problem]:
        """Flatten cattrs's tree of errors; the path grows on the way down."""
        if isinstance(error, ClassValidationError):
            with_notes, bare = error.group_exceptions()
            found = [
                problem
                for inner, note in with_notes
                for problem in self._field_problems(inner, error.cl, note.name, f"{path}.{note.name}".lstrip("."))
            ]
            return found + [problem for inner in bare for problem in self._problems(inner, path)]
        if isinstance(error, IterableValidationError):
            entries, bare_entries = error.group_exceptions()
            found = [problem for inner, note in entries for problem in self._problems(inner, f"{path}[{note.index}]")]
            return found + [problem for inner in bare_entries for problem in self._problems(inner, path)]
        if isinstance(error, ForbiddenExtraKeysError):
            return [self._unknown_key(error.cl, key, path) for key in sorted(error.extra_fields)]
        if isinstance(error, ConfigError):
            return [dataclasses.replace(each, path=f"{path}: {each.path}") for each in error.problems]
        if isinstance(error, Unfit):
            return [Problem(path, error.expected, error.found, error.example, error.passing)]
        raise error  # not a mistake of the file but of this program

    def _field_problems(self, error: Exception, kind: type[Any], name: str, path: str) -> list[Problem]:
        if not isinstance(error, KeyError):
            return self._problems(error, path)
        rule = self.rule(kind, name)
        if rule is None:
            brackets = "[[{}]]" if get_origin(get_type_hints(kind)[name]) is tuple else "[{}]"
            return [Problem(path, "a table", "nothing", brackets.format(re.sub(r"\[\d+]", "", path)))]
        return [Problem(path, rule.expected, "nothing", f"{name} = {rule.example}")]

    def _unknown_key(self, kind: type[Any], key: str, path: str) -> Problem:
        known = [each.name for each in dataclasses.fields(kind)]
        near = difflib.get_close_matches(key, known, n=1)
        advice = near[0] if near else ""
        return Problem(
            f"{path}.{key}".lstrip("."), f"one of the keys {', '.join(known)}", f"unknown key {show(key)}", advice
        )


def _is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple
