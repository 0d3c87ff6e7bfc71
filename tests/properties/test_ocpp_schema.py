"""The compiled validator agrees with jsonschema on every schema of every version.

Payloads are generated from the schema itself, then damaged one place at a time, so that most verdicts
hang on a single keyword. Oracle: ``Draft4Validator`` with decimals, as the ``ocpp`` package runs it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft4Validator  # type: ignore[import-untyped]

from agent.ocpp import schema
from agent.ocpp.schema import SchemaViolation
from agent.ocpp.version import Version

DAMAGES = 20
ALL = [(version, stem) for version in Version for stem in sorted(schema._files(version))]


def load(version: Version, stem: str) -> Any:
    return json.loads(schema._files(version)[stem].read_text())


def ours(version: Version, stem: str, payload: object) -> bool:
    try:
        schema._check(version, stem, payload, None)
    except SchemaViolation:
        return False
    return True


class Oracle:
    def __init__(self, version: Version, stem: str) -> None:
        text = schema._files(version)[stem].read_text()
        self._validator = Draft4Validator(json.loads(text, parse_float=Decimal))

    def accepts(self, payload: object) -> bool:
        verdict: bool = self._validator.is_valid(json.loads(json.dumps(payload), parse_float=Decimal))
        return verdict


class Generator:
    """Random payloads of one schema, leaning towards the edges of its constraints."""

    def __init__(self, root: Mapping[str, Any], rng: random.Random) -> None:
        self._definitions = root.get("definitions", {})
        self._rng = rng

    def value(self, node: Mapping[str, Any]) -> Any:
        if "$ref" in node:
            return self.value(self._definitions[node["$ref"].removeprefix("#/definitions/")])
        match node.get("type"):
            case "object":
                return self._object(node)
            case "array":
                low, high = node.get("minItems", 0), node.get("maxItems", 3)
                count = self._rng.choice([low, min(low + 1, high), min(high, 4)])
                return [self.value(node["items"]) for _ in range(count)]
            case "string":
                if "enum" in node:
                    return self._rng.choice(node["enum"])
                return "é" * self._rng.choice([0, 1, min(node.get("maxLength", 5), 60)])
            case "integer":
                return self._rng.choice([node.get("minimum", -3), node.get("maximum", 7)])
            case "number":
                low = node.get("minimum", -2)
                return self._rng.choice([low, node.get("maximum", 8.1), low + 0.3 if "minimum" in node else 16.1])
            case "boolean":
                return self._rng.random() < 0.5
            case _:
                return self._rng.choice([None, 1, "x", [1], {"a": 1}])

    def _object(self, node: Mapping[str, Any]) -> dict[str, Any]:
        required = node.get("required", ())
        properties = node.get("properties", {})
        chosen = [name for name in properties if name in required or self._rng.random() < 0.4]
        return {name: self.value(properties[name]) for name in chosen}

    def damaged(self, payload: Any) -> Any:
        """A copy with one random place changed."""
        copy = json.loads(json.dumps(payload))
        places: list[tuple[Any, Any]] = []
        stack = [copy]
        while stack:
            value = stack.pop()
            members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
            for key, member in members:
                places.append((value, key))
                stack.append(member)
        if not places or self._rng.random() < 0.1:
            copy["strange"] = 1
            return copy
        container, key = self._rng.choice(places)
        if self._rng.random() < 0.3:
            del container[key]
        else:
            container[key] = self._changed(container[key])
        return copy

    def _changed(self, value: Any) -> Any:
        options: list[Any] = [None, True, 1, 1.0, -1, 6.25, "no such value", [], {}, "y" * 6000, 10**15]
        if isinstance(value, list):
            options += [value * 2, value * 50, value[:-1]]
        if isinstance(value, dict):
            options += [value | {"strange": 1}]
        if isinstance(value, str):
            options += [value * 2, value + "z", value.lower()]
        if isinstance(value, int | float) and not isinstance(value, bool):
            options += [value + 1, value - 1, value + 0.05, float(value)]
        return self._rng.choice(options)


@pytest.mark.parametrize("version", list(Version))
def test_rpc_11_every_schema_agrees_with_the_oracle(version: Version) -> None:
    verdicts = {True: 0, False: 0}
    for stem in sorted(schema._files(version)):
        rng = random.Random(f"{version}/{stem}")
        generator, oracle = Generator(load(version, stem), rng), Oracle(version, stem)
        payload = generator.value(load(version, stem))
        for candidate in (payload, *(generator.damaged(payload) for _ in range(DAMAGES))):
            verdict = oracle.accepts(candidate)
            assert ours(version, stem, candidate) == verdict, (version, stem, candidate)
            verdicts[verdict] += 1
    assert min(verdicts.values()) > sum(verdicts.values()) // 10, "the test must see both verdicts often"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(place=st.sampled_from(ALL), seed=st.integers(0, 2**32), value=JSON)
def test_rpc_11_arbitrary_json_in_an_arbitrary_place_agrees(place: tuple[Version, str], seed: int, value: Any) -> None:
    version, stem = place
    rng = random.Random(seed)
    root = load(version, stem)
    payload = Generator(root, rng).value(root)
    payload[rng.choice([*payload, "strange"])] = value
    assert ours(version, stem, payload) == Oracle(version, stem).accepts(payload)
    assert ours(version, stem, value) == Oracle(version, stem).accepts(value)
