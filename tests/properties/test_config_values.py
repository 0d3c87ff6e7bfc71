"""Values of settings: whatever text comes, it is a value in canonical form or refused, never half taken."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.catalogue import CONTROLLERS
from agent.config.device_model import DeviceModel, SetStatus
from agent.config.variable import BadValue, Key, VariableSpec

names = st.text("abcXYZ0", min_size=1, max_size=6)
keys = st.builds(
    Key,
    names,
    names,
    st.none() | names,
    st.none() | st.integers(1, 99),
    st.none(),
    st.none() | names,
) | st.builds(Key, names, names, st.none(), st.integers(1, 99), st.integers(1, 9))
specs = st.sampled_from(sorted(CONTROLLERS.items(), key=lambda item: str(item[0])))
values = (
    st.text(max_size=30)
    | st.integers().map(str)
    | st.decimals(allow_nan=True, allow_infinity=True).map(str)
    | st.sampled_from(["true", "False", "Voltage", "voltage,Frequency", "A,W", "Heartbeat", "1", "x" * 16])
    | st.text("0123456789", min_size=900, max_size=1_100)
)


@given(keys)
def test_a_key_and_its_text_are_one(key: Key) -> None:
    assert Key.parse(str(key)) == key
    assert key.folded().folded() == key.folded()
    assert Key.parse(str(key).swapcase()).folded() == key.folded()


@given(st.text(max_size=30))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        key = Key.parse(text)
    except ValueError:
        return
    assert Key.parse(str(key)) == key


@given(specs, values)
def test_a_value_is_canonical_or_refused(named: tuple[Key, VariableSpec], value: str) -> None:
    _, spec = named
    try:
        canonical = spec.canonical(value)
    except BadValue:
        return
    assert spec.canonical(canonical) == canonical
    assert len(canonical) <= 1_000


@settings(max_examples=40)
@given(st.lists(st.tuples(specs, values), max_size=20))
def test_the_store_is_always_whole(writes: list[tuple[tuple[Key, VariableSpec], str]]) -> None:
    """After any writes every value is valid, only accepted ones show, and a restart changes nothing."""
    model = DeviceModel(CONTROLLERS)
    expected = model.snapshot(secrets=True)
    for (key, _), value in writes:
        result = model.set(key, value)
        assert result.status in (SetStatus.ACCEPTED, SetStatus.REBOOT_REQUIRED, SetStatus.REJECTED)
        if result.value is not None:
            expected[str(key)] = result.value
    assert model.snapshot(secrets=True) == expected
    again = DeviceModel(CONTROLLERS, model.persistent())
    assert again.discarded == ()
    assert again.snapshot(secrets=True) == expected
