"""``[price]``, ``[metering]`` and ``[operator]``: what is right, and every mistake under its own key."""

from __future__ import annotations

import errno
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent.cli.main import main
from agent.config.load import check_file, load
from agent.config.money import AfterDamage, TimePolicy, TokenInRecord
from agent.config.problem import ConfigError
from agent.config.tariff_files import tariff_warnings
from tests.unit.config.test_config_cross import HEAD, evse

TARIFF = {"tariffId": "site", "currency": "EUR", "energy": {"prices": [{"priceKwh": 0.4}]}}


def configured(folder: Path, text: str, **tariffs: object) -> Path:
    """A configuration file with tariff files beside it."""
    for name, tariff in tariffs.items():
        (folder / f"{name}.json").write_text(tariff if isinstance(tariff, str) else json.dumps(tariff))
    file = folder / "evsed.toml"
    file.write_text(HEAD + text + evse(1))
    return file


def test_everything_that_can_be_said_of_money(tmp_path: Path) -> None:
    text = """
[price]
tariff = "site.json"
live_tariff = "live.json"
time_policy = "never"
minimum_billable_wh = 100
[[price.assign]]
group = "household"
tariff = "flat.json"
[[price.assign]]
token = "04AB"
evse = 1
max_cost = "20.00"
max_energy_wh = 5_000
max_time_s = 3_600
[metering]
token_in_record = "hash"
after_damage = "refuse"
retention_days = 30
[operator]
name = "Example"
"""
    config = load(configured(tmp_path, text, site=TARIFF, flat=TARIFF | {"tariffId": "flat"}))
    assert config.price.tariff == tmp_path / "site.json"
    assert config.price.time_policy is TimePolicy.NEVER
    assert [each.max_cost for each in config.price.assign] == [None, Decimal("20.00")]
    assert config.metering.token_in_record is TokenInRecord.HASH
    assert config.metering.after_damage is AfterDamage.REFUSE
    assert config.operator.name == "Example"


def test_a_tariff_file_that_cannot_be_read_just_now_is_no_mistake_of_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = configured(tmp_path, '[price]\ntariff = "site.json"\n', site=TARIFF)
    real = Path.open

    def fails(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.name == "site.json":
            raise OSError(errno.EIO, "Input/output error")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", fails)
    with pytest.raises(ConfigError) as raised:
        load(file)
    (problem,) = raised.value.problems
    assert problem.passing
    assert "Input/output error" in str(problem)


def test_without_any_of_it_there_are_defaults(tmp_path: Path) -> None:
    config = load(configured(tmp_path, ""))
    assert (config.price.tariff, config.price.assign) == (None, ())
    assert config.metering.retention_days == 3_650
    assert config.metering.after_damage is AfterDamage.CHARGE


ONE = '[[price.assign]]\ntariff = "site.json"\n'


@pytest.mark.parametrize(
    ("text", "tariffs", "path"),
    [
        ('[price]\ntariff = "gone.json"\n', {}, "price.tariff"),
        ('[price]\ntariff = "site.json"\n', {"site": "{"}, "price.tariff: site.json: $"),
        ('[price]\ntariff = "site.json"\n', {"site": "9" * 70_000}, "price.tariff"),
        (
            '[price]\ntariff = "site.json"\n',
            {"site": {**TARIFF, "energy": {"prices": [{"priceKwh": -1}]}}},
            "price.tariff: site.json: $.energy.prices[0].priceKwh",
        ),
        ('[price]\ntariff = "site.json"\n', {"site": TARIFF | {"x": 1}}, "price.tariff: site.json: $.x"),
        (
            '[price]\ntariff = "site.json"\n',
            {"site": TARIFF | {"tariffId": "spot \ud83d"}},
            "price.tariff: site.json: $.tariffId",
        ),
        (
            f'[price]\ntariff = "a.json"\n{ONE}',
            {"a": TARIFF, "site": TARIFF | {"currency": "CHF"}},
            "price.assign[0].tariff",
        ),
        ("[[price.assign]]\nevse = 7\nmax_time_s = 60\n", {}, "price.assign[0].evse"),
        ('[[price.assign]]\ngroup = "x"\n', {}, "price.assign[0]"),
        ('[[price.assign]]\nmax_cost = "-1"\n', {}, "price.assign[0].max_cost"),
        ('[[price.assign]]\nmax_cost = "NaN"\n', {}, "price.assign[0].max_cost"),
        ('[[price.assign]]\nmax_cost = "0.1234567"\n', {}, "price.assign[0].max_cost"),
        ("[[price.assign]]\nmax_cost = 1.5\n", {}, "price.assign[0].max_cost"),
        ('[price]\ntime_policy = "sometimes"\n', {}, "price.time_policy"),
        ('[metering]\nformat_version = "2.0"\n', {}, "metering.format_version"),
        ("[metering]\nretention_days = 0\n", {}, "metering.retention_days"),
        ("[metering]\nsigned = false\n", {}, "metering.signed"),
        ('[operator]\nname = "a\\nb"\n', {}, "operator.name"),
    ],
)
def test_each_mistake_is_told_under_its_key(tmp_path: Path, text: str, tariffs: dict[str, object], path: str) -> None:
    problems = check_file(configured(tmp_path, text, **tariffs))
    assert [problem.path for problem in problems] == [path]
    assert all(problem.expected and problem.found for problem in problems)


def test_all_mistakes_of_a_tariff_are_told_at_once(tmp_path: Path) -> None:
    broken = {"tariffId": "x", "currency": "EURO", "energy": {"prices": [{"priceKwh": "a"}, {}]}}
    problems = check_file(configured(tmp_path, '[price]\ntariff = "site.json"\n', site=broken))
    assert len(problems) >= 3


def test_negative_prices_need_to_be_allowed(tmp_path: Path) -> None:
    tariff = {**TARIFF, "energy": {"prices": [{"priceKwh": -0.1}]}}
    text = '[price]\ntariff = "site.json"\nallow_negative = true\n'
    assert check_file(configured(tmp_path, text, site=tariff)) == []


ALONE = HEAD.partition("[csms]")[0] + '[[token]]\nid = "04AB"\n'
PREPAID = '[[price.assign]]\ntoken = "04AB"\nmax_cost = "20.00"\n'
OF_TOKEN = '[[price.assign]]\ntoken = "{}"\ntariff = "site.json"\n'


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (PREPAID, ["price.assign[0].max_cost"]),
        (PREPAID + 'tariff = "site.json"\n', []),
        (PREPAID + OF_TOKEN.format("04ab"), []),
        (PREPAID + OF_TOKEN.format("04AC"), ["price.assign[0].max_cost"]),
        (PREPAID + '[[price.assign]]\ngroup = "household"\ntariff = "site.json"\n', []),
        (PREPAID + "evse = 1\n" + '[[price.assign]]\nevse = 1\ntariff = "site.json"\n', []),
        ('[price]\ntariff = "site.json"\n' + PREPAID, []),
        ('[price]\nlive_tariff = "live.json"\n' + PREPAID, []),
        ('[csms]\nurl = "ws://csms.example/ocpp"\n' + PREPAID, []),
        ('[[price.assign]]\ntoken = "04AB"\nmax_energy_wh = 1_000\n', []),
    ],
)
def test_a_limit_of_money_needs_a_price(tmp_path: Path, text: str, problems: list[str]) -> None:
    file = configured(tmp_path, "", site=TARIFF)
    file.write_text(ALONE + text + evse(1))
    assert [each.path for each in check_file(file)] == problems


NIGHT = TARIFF | {"energy": {"prices": [{"priceKwh": 0.2, "conditions": {"startTimeOfDay": "22:00"}}]}}
BOTH = '[price]\ntariff = "site.json"\n[[price.assign]]\nevse = 1\ntariff = "night.json"\n'


@pytest.mark.parametrize("zone", ["", "UTC", "Europe/Berlin"])
def test_prices_by_local_time_need_a_time_zone_that_somebody_said(tmp_path: Path, zone: str) -> None:
    """UTC is nobody's night but where it is said."""
    file = configured(tmp_path, BOTH, site=NIGHT, night=NIGHT | {"tariffId": "night"})
    said = f'time_zone = "{zone}"\n' if zone else ""
    file.write_text(file.read_text().replace("[station]\n", f"[station]\n{said}"))
    problems = [] if zone else ["station.time_zone"]
    assert [each.path for each in check_file(file)] == problems
    file.write_text(file.read_text().replace('"site.json"', '"flat.json"'))
    (tmp_path / "flat.json").write_text(json.dumps(TARIFF))
    found = check_file(file)
    assert [each.path for each in found] == problems
    assert all("price.assign[0].tariff" in each.expected for each in found)


@pytest.mark.parametrize(
    ("live", "zone", "warned"),
    [
        (NIGHT, False, 1),
        (NIGHT, True, 0),
        (TARIFF, False, 0),
        ("no tariff", False, 0),
        (b"\xff\xfe", False, 0),
        ("9" * 70_000, False, 0),
        (None, False, 0),  # not there yet
    ],
)
def test_a_live_tariff_that_is_there_by_now_is_warned_of_where_there_is_no_time_zone(
    tmp_path: Path, live: object, zone: bool, warned: int
) -> None:
    """It will be refused, and where there is no other all energy given away. Its writer may say another any time: a
    station that does not start for it would sell nothing at all."""
    file = configured(tmp_path, '[price]\nlive_tariff = "live.json"\n')
    if zone:
        file.write_text(file.read_text().replace("[station]\n", '[station]\ntime_zone = "UTC"\n'))
    if live is not None:
        text = live if isinstance(live, bytes | str) else json.dumps(live)
        (tmp_path / "live.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert check_file(file) == []
    config = load(file)
    found = list(tariff_warnings(config.price, 0, has_time_zone=config.station.has_time_zone))
    assert len(found) == warned and all("price.live_tariff" in each for each in found)


def test_a_tariff_that_prices_nothing_yet_is_told_and_is_no_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At a start nobody may know the time: it must not keep a charger from starting."""
    later = TARIFF | {"tariffId": "later", "validFrom": "2999-01-01T00:00:00Z"}
    file = configured(tmp_path, BOTH, site=TARIFF, night=later)
    told = "price.assign[0].tariff: night.json: $.validFrom: 2999-01-01 00:00:00 UTC is in the future"
    assert main(["check-config", str(file)]) == 0
    assert f"{file}: no errors\nwarning: {told}" in capsys.readouterr().out
    assert main(["check-config", str(file), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["problems"] == [] and said["warnings"][0].startswith(told)
    assert main(["tariff", "check", str(tmp_path / "night.json")]) == 0
    assert "warning: $.validFrom: 2999-01-01" in capsys.readouterr().out
