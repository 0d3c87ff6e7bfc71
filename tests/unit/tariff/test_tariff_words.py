"""What people are told: price lines, machine text, the bill explained, warnings, quotes, the command line."""

from __future__ import annotations

import argparse
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from agent.cli.tariffs import check as check_command
from agent.cli.tariffs import quote as quote_command
from agent.tariff.check import check, check_skipped
from agent.tariff.model import EvseKind, Tariff
from agent.tariff.parse import parse_tariff
from agent.tariff.quote import Profile, quote
from agent.tariff.text import bill_lines, machine, price_lines
from tests.support.tariff_json import HOUR_MS, MINUTE_MS, kwh, minute, tariff, window

VAT = [{"type": "VAT", "tax": 19}]
FEE = {"prices": [{"priceFixed": 1}]}
DIGEST = "0123456789abcdef" * 4


def parsed(**parts: Any) -> Tariff:
    return parse_tariff(tariff(**parts))


# -------------------------------------------------------------------------------------------- words


def test_prices_stand_in_the_order_that_drivers_are_owed() -> None:
    plan = parsed(
        reservationTime=minute(0.05),
        fixedFee=FEE,
        idleTime=minute((0.1, {"minIdleTime": 600})),
        energy=kwh((0.3, window("22:00", "00:00") | {"dayOfWeek": ["Sunday", "Monday"]}), 0.5, taxRates=VAT),
        minCost={"inclTax": 2},
    )
    assert price_lines(plan) == (
        "Energy: 0.30 EUR per kWh (0.357 EUR with tax) from 22:00 to 24:00 and on Monday, Sunday;"
        " else 0.50 EUR per kWh (0.595 EUR with tax)",
        "Idle: 0.10 EUR per minute from 10 min of idling on",
        "Start: 1.00 EUR per session",
        "Reservation: 0.05 EUR per minute",
        "At least: 2.00 EUR with tax for the whole session",
    )
    assert price_lines(parsed()) == ("Free of charge",)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"energy": kwh(0.5, taxRates=VAT), "fixedFee": FEE}, "001;EUR;100;59.5;0;0"),
        ({"energy": kwh(0.5), "idleTime": minute(0.1)}, "002;EUR;0;50;10"),
        ({"chargingTime": minute(0.1), "idleTime": minute(0.1), "fixedFee": FEE}, "003;EUR;100;10"),
        (
            {
                "energy": kwh(0.5),
                "chargingTime": minute((0.1, {"minTime": 14_400})),
                "idleTime": minute((0.1, {"minTime": 14_400})),
            },
            "001;EUR;0;50;10;240",
        ),
        ({"energy": kwh(0.5), "idleTime": minute((0.1, {"minIdleTime": 60}))}, None),
        ({"energy": kwh((0.5, window("00:00", "06:00")))}, None),
        ({"energy": kwh(0.5, 0.6)}, None),
        ({"energy": kwh(0.5), "maxCost": {"inclTax": 9}}, None),
        ({"energy": kwh(0.0000005)}, None),
        ({"energy": kwh(0.5), "currency": "JPY"}, None),
        ({"energy": {"prices": [{"priceKwh": 0.5, "stepSize": 1000}]}}, None),
        ({"energy": kwh(0.5), "reservationTime": minute(1)}, None),
        ({"chargingTime": minute(0.1)}, None),
        ({}, None),
    ],
)
def test_machine_text(parts: dict[str, Any], text: str | None) -> None:
    assert machine(parsed(**parts), DIGEST) == (text or "T;0123456789abcdef")


def test_machine_text_is_ascii_without_bars() -> None:
    text = machine(parsed(tariffId="Süd|1;a" + "\U0001f50c" * 53), DIGEST)
    assert text == "S?d?1?a" + "?" * 53 + ";0123456789abcdef"


def test_bill_is_explained_line_by_line() -> None:
    plan = parsed(energy=kwh(0.3, taxRates=VAT), idleTime=minute(0.1), fixedFee=FEE, maxCost={"exclTax": 5})
    profile = Profile(datetime(2026, 6, 10, 12), 10_000, ((0, 11_000),), idle_min=20)
    found = quote(plan, profile, zone="Europe/Berlin").bill
    assert found is not None
    assert bill_lines(found) == (
        "Energy: 10.000 kWh at 0.30 EUR/kWh = 3.00 EUR",
        "Idle time: 20 min at 0.10 EUR/min = 2.00 EUR",
        "Start fee: 1 at 1.00 EUR = 1.00 EUR",
        "VAT 19 % of 3.00 EUR = 0.57 EUR",
        "above the maximum cost: -1.00 EUR, tax -0.09 EUR",
        "Total 5.00 EUR without tax, 5.48 EUR with tax",
    )


# ----------------------------------------------------------------------------------------- warnings


@pytest.mark.parametrize(
    ("parts", "warnings"),
    [
        ({"energy": kwh((1, window("22:00", "06:00")), 2)}, []),
        (
            {"energy": kwh((1, window("22:00", "06:00")))},
            ["$.energy: no price at 06:00-22:00: this costs nothing then"],
        ),
        (
            {"energy": kwh((1, {"dayOfWeek": ["Monday"]} | window("08:00", "00:00")))},
            [
                "$.energy: no price on Monday at 00:00-08:00: this costs nothing then",
                "$.energy: no price on Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday: this costs nothing then",
            ],
        ),
        (
            {"energy": kwh((1, {"validFromDate": "2026-06-01", "validToDate": "2026-06-02"}))},
            [
                "$.energy: no price before 2026-06-01: this costs nothing then",
                "$.energy: no price from 2026-06-02: this costs nothing then",
            ],
        ),
        ({"idleTime": minute((1, {"minIdleTime": 60}))}, []),
        ({"energy": kwh(1, 2)}, ["$.energy.prices[1]: never counts: always hidden by earlier prices [0]"]),
        (
            {"energy": kwh((1, window("00:00", "12:00")), (2, window("12:00", "00:00")), (3, {"minEnergy": 5}))},
            ["$.energy.prices[2]: never counts: always hidden by earlier prices [0, 1]"],
        ),
        (
            {"energy": kwh((1, {"minEnergy": 5}), (2, {"minEnergy": 6}), 3)},
            ["$.energy.prices[1]: never counts: always hidden by earlier prices [0]"],
        ),
        ({"energy": kwh((1, {"minEnergy": 6}), (2, {"minEnergy": 5}), 3)}, []),
        (
            {"energy": kwh((1, {"maxPower": 6}), (2, {"maxPower": 5}), 3)},
            ["$.energy.prices[1]: never counts: always hidden by earlier prices [0]"],
        ),
        ({"energy": kwh((1, {"evseKind": "AC"}), (2, {"evseKind": "DC"}), 3)}, []),
        (
            {"energy": kwh((1, {"minEnergy": 5, "maxEnergy": 5}), 3)},
            ["$.energy.prices[0].conditions: minEnergy is not below maxEnergy: never holds"],
        ),
        (
            {"energy": kwh((1, window("05:00", "05:00")), 3)},
            [
                "$.energy.prices[0].conditions: startTimeOfDay equals endTimeOfDay: never holds"
                " (for a whole day leave both out)"
            ],
        ),
        (
            {"energy": kwh(3), "minCost": {"exclTax": 5}, "maxCost": {"exclTax": 4, "inclTax": 3}},
            [
                "$.maxCost: exclTax is above inclTax",
                "$.minCost.exclTax: above maxCost.exclTax: every session costs maxCost",
            ],
        ),
    ],
)
def test_warnings(parts: dict[str, Any], warnings: list[str]) -> None:
    assert [str(each) for each in check(parsed(**parts))] == warnings


def test_prices_that_the_clock_jumps_over_are_found() -> None:
    plan = parsed(energy=kwh((1, window("02:15", "02:45")), (2, window("02:30", "03:30")), 3))
    march_ms = 1_772_323_200_000
    assert [str(each) for each in check_skipped(plan, "Europe/Berlin", march_ms)] == [
        "$.energy.prices[0]: does not occur on 2026-03-29: the clock jumps over it"
    ]
    assert check_skipped(plan, "UTC", march_ms) == []


def test_many_dated_prices_are_checked_in_time() -> None:
    quarter = [
        (0.1, {"validFromDate": f"2026-06-{day:02d}", "validToDate": f"2026-06-{day + 1:02d}"} | window(hour, ""))
        for day in range(1, 22)
        for hour in [f"{each:02d}:00" for each in range(23)]
    ]
    prices = [(price, {key: value for key, value in held.items() if value}) for price, held in quarter]
    assert len(check(parsed(energy=kwh(*reversed(prices))))) > 0


# ------------------------------------------------------------------------------------------- quotes


def test_quote_takes_readings_at_the_boundaries() -> None:
    plan = parsed(energy=kwh((0.3, window("22:00", "06:00")), 0.5))
    found = quote(plan, Profile(datetime(2026, 3, 29, 0, 30), 60_000, ((0, 12_000),)), zone="Europe/Berlin")
    assert [(each.energy, each.energy_mwh, each.charging_ms) for each in found.usage.periods] == [
        (0, 54_000_000, 4 * HOUR_MS + 30 * MINUTE_MS),  # 00:30 to 06:00 has no hour from 02:00 to 03:00
        (1, 6_000_000, 30 * MINUTE_MS),
    ]
    assert not found.usage.estimated_split


@pytest.mark.parametrize(
    ("profile", "energy_mwh", "charging_ms"),
    [
        (Profile(datetime(2026, 6, 1), 10_000, ((0, 11_000), (1800, 9_000))), 10_000_000, 3_600_000),
        (Profile(datetime(2026, 6, 1), 10_000, charging_min=45), 10_000_000, 45 * MINUTE_MS),
        (Profile(datetime(2026, 6, 1), 10_000, ((0, 6_000),), charging_min=30), 3_000_000, 30 * MINUTE_MS),
        (Profile(datetime(2026, 6, 1), 1_000, ((0, 6_000),), charging_min=30), 1_000_000, 30 * MINUTE_MS),
        (Profile(datetime(2026, 6, 1), 0, idle_min=5), 0, 0),
        (Profile(datetime(2026, 6, 1), 1, ((0, 7),)), 1_000, 514_286),
    ],
)
def test_quote_of_a_profile(profile: Profile, energy_mwh: int, charging_ms: int) -> None:
    usage = quote(parsed(energy=kwh(1)), profile, zone="UTC").usage
    assert (usage.energy_mwh, usage.charging_ms, usage.idle_ms) == (
        *(energy_mwh, charging_ms),
        profile.idle_min * MINUTE_MS,
    )


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        (Profile(datetime(2026, 6, 1), 5), "power_w: expected a power that ends"),
        (Profile(datetime(2026, 6, 1), 5, ((0, 5), (9, 0))), "power_w: expected a power that ends"),
        (Profile(datetime(2026, 6, 1), -1), "energy_wh: expected 0"),
        (Profile(datetime(2026, 6, 1), 5, ((1, 5),)), "power_w: expected steps"),
        (Profile(datetime(2026, 6, 1), 5, ((0, -5),)), "power_w: expected 0"),
        (Profile(datetime(2026, 6, 1), 5, charging_min=0), "charging_min: expected more"),
        (Profile(datetime(2026, 6, 1), 5_000_000, ((0, 1),)), "the session: expected at most"),
        (Profile(datetime(2026, 6, 1), 5, ((0, 5),), idle_min=-1), "idle_min"),
    ],
)
def test_profile_that_makes_no_sense_is_refused(profile: Profile, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        quote(parsed(energy=kwh(1)), profile, zone="UTC")


# ------------------------------------------------------------------------------------- command line


def asked(file: Path, **more: Any) -> argparse.Namespace:
    return argparse.Namespace(**({"file": file, "json": False, "zone": None} | more))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tariff.json"
    path.write_text(json.dumps(tariff(energy=kwh((0.3, window("22:00", "06:00"))), fixedFee=FEE)))
    return path


def test_check_says_prices_and_warnings(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_command(asked(file, zone="Europe/Berlin")) == 0
    said = capsys.readouterr().out
    assert "tariff T, no errors, 1 warnings" in said
    assert "0.30 EUR per kWh from 22:00 to 06:00" in said
    assert "warning: $.energy: no price at 06:00-22:00" in said
    assert check_command(asked(file, json=True)) == 0
    assert [each["path"] for each in json.loads(capsys.readouterr().out)["findings"]] == ["$.energy"]


def test_check_says_every_problem(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text('{"tariffId": "", "currency": "EUR", "x": 1}')
    assert check_command(asked(file)) == 1
    assert "$.tariffId: expected a text of 1 to 60 characters" in capsys.readouterr().err
    assert check_command(asked(file, json=True)) == 1
    assert [each["path"] for each in json.loads(capsys.readouterr().out)["problems"]] == ["$.x", "$.tariffId"]


SPEC = "start=2026-03-29T00:30,energy_wh=20000,power_w=11000,idle_min=30,kind=AC"


def test_quote_says_periods_and_lines(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quote_command(asked(file, profile=SPEC, zone="Europe/Berlin")) == 0
    said = capsys.readouterr().out
    assert "2026-03-29 00:30:00 CET" in said
    assert "Total 7.00 EUR without tax, 7.00 EUR with tax" in said
    assert quote_command(asked(file, profile=SPEC, json=True)) == 0
    assert json.loads(capsys.readouterr().out)["bill"]["total_incl_minor"] == 700


def test_quote_takes_the_profile_from_a_file(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = tmp_path / "profile.json"
    plain = {"start": "2026-03-29T00:30", "energy_wh": 9000, "power_w": [[0, 11000], [60, 7000]], "kind": "DC"}
    profile.write_text(json.dumps(plain | {"brand": "V"}))
    assert quote_command(asked(file, profile=str(profile), json=True)) == 0
    assert json.loads(capsys.readouterr().out)["usage"]["end_mwh"] == 9_000_000


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ({"profile": "start=noon"}, 2, "--profile: start: expected a local time"),
        ({"profile": "begin=1"}, 2, "--profile: no setting 'begin'; there are start"),
        ({"profile": "energy_wh=1"}, 2, "--profile: start is missing"),
        ({"profile": "nowhere.json"}, 2, "--profile nowhere.json: No such file"),
        ({"profile": SPEC, "zone": "Moon/Sea"}, 2, "--zone Moon/Sea: expected a time zone"),
        ({"profile": SPEC, "zone": "../x"}, 2, "--zone ../x: expected a time zone"),
        ({"profile": SPEC, "file": Path("nowhere.json")}, 2, "tariff nowhere.json: No such file"),
        ({"profile": "start=2026-01-01,energy_wh=5"}, 1, "profile: power_w: expected a power"),
    ],
)
def test_quote_says_what_to_change(
    file: Path, how: dict[str, Any], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quote_command(asked(**({"file": file} | how))) == code
    assert capsys.readouterr().err.startswith(f"evsed: {said}")


def test_kinds_of_evse() -> None:
    plan = parsed(energy=kwh((1, {"evseKind": "DC"}), 2))
    for kind, price in ((EvseKind.DC, 0), (EvseKind.AC, 1)):
        profile = Profile(datetime(2026, 6, 1), 1_000, ((0, 6_000),), evse_kind=kind)
        assert {each.price for each in quote(plan, profile, zone="UTC").usage.volumes} == {price}
