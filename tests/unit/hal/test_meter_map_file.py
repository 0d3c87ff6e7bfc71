"""Register map files: the shipped ones load, and each mistake is told with its key."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources

import pytest

from hal.meters.map_file import load_map, parse_map
from hal.meters.registers import Quantity, RegisterMapError, plan_blocks

GOOD = """
model = "Test meter"
source = "test"
function = 3
type = "u32"
word_order = "big"
max_registers = 20
energy_step_mwh = 10_000
[quantities]
power         = { address = 0x0000, unit = "kW", divide = 100, min = -10, max = 10.5, type = "s16" }
energy_import = { address = 0x0010, unit = "Wh", min = 0, max = 1_000_000, function = 4, word_order = "little" }
[serial]
address = 0x0100
"""


def test_defaults_are_inherited_and_overridden() -> None:
    meter = parse_map("good", GOOD)
    power, energy = meter.quantities[Quantity.POWER], meter.quantities[Quantity.ENERGY_IMPORT]
    assert (power.function, power.type, power.word_order, power.width) == (3, "s16", "big", 1)
    assert (power.port_units, power.divide) == (1_000_000, 100)
    assert (int(power.low), int(power.high)) == (-10_000_000, 10_500_000)
    assert (energy.function, energy.type, energy.word_order, energy.port_units) == (4, "u32", "little", 1_000)
    assert meter.serial is not None
    assert (meter.serial.function, meter.serial.address, meter.serial.width) == (3, 0x0100, 2)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('model = "Test meter"', "", "bad: model: missing"),
        ('source = "test"', 'source = ""', "bad: source: must be text"),
        ('source = "test"', 'source = "test"\nspeed = 9600', "bad: speed: unknown key"),
        ("max_registers = 20", "max_registers = 126", "bad: max_registers: must be a whole number from 1 to 125"),
        ("max_registers = 20", "max_registers = true", "bad: max_registers: must be a whole number"),
        ("energy_step_mwh = 10_000", "", "bad: energy_step_mwh: missing"),
        ("function = 3", "function = 5", "bad: quantities.power.function: must be a whole number from 3 to 4"),
        ('type = "u32"', 'type = "u24"', "bad: quantities.energy_import.type: must be one of"),
        ('word_order = "little"', 'word_order = "middle"', "bad: quantities.energy_import.word_order: must be one of"),
        ("address = 0x0000,", "", "bad: quantities.power.address: missing"),
        ("address = 0x0000", "address = 65_536", "bad: quantities.power.address: must be a whole number"),
        ("address = 0x0010", "address = 0xFFFF", "bad: quantities.energy_import: ends beyond"),
        ('unit = "kW"', 'unit = "kWh"', "bad: quantities.power.unit: must be one of W, kW"),
        ("divide = 100", "divide = 0", "bad: quantities.power.divide: must be a whole number"),
        ("max = 10.5", "max = nan", "bad: quantities.power.max: must be finite"),
        ("max = 10.5", "max = -10", "bad: quantities.power.max: must be greater than min"),
        ("max = 10.5", 'max = "10"', "bad: quantities.power.max: must be a number"),
        ("power  ", "pwoer  ", "bad: quantities.pwoer: unknown quantity"),
        ("power  ", "voltage_l1  ", "bad: quantities.voltage_l1.unit: must be one of V"),
        ("energy_import =", "energy_export =", "bad: quantities.energy_import: missing"),
        ("divide = 100", 'divide = 100, colour = "red"', "bad: quantities.power.colour: unknown key"),
        ("address = 0x0100", "", "bad: serial.address: missing"),
        ("[quantities]", "[quantities", "bad: not valid TOML"),
        ("max_registers = 20", "max_registers = 1", "bad: quantities.energy_import: wider than max_registers"),
    ],
)
def test_each_mistake_is_told_with_its_key(old: str, new: str, told: str) -> None:
    assert GOOD.count(old) >= 1
    with pytest.raises(RegisterMapError) as caught:
        parse_map("bad", GOOD.replace(old, new, 1))
    assert str(caught.value).startswith(told)


def test_overlapping_registers_are_a_mistake() -> None:
    text = GOOD.replace(
        "[serial]", 'frequency = { address = 0x0011, unit = "Hz", min = 0, max = 1, function = 4 }\n[serial]'
    )
    with pytest.raises(RegisterMapError, match=r"quantities\.frequency: overlaps quantities\.energy_import"):
        parse_map("bad", text)


def test_an_unknown_map_names_those_there_are() -> None:
    with pytest.raises(RegisterMapError, match=r"no register map 'acme'; known maps: .*eastron_sdm630"):
        load_map("acme")


def test_every_shipped_map_loads_and_can_be_planned() -> None:
    names = [each.name for each in resources.files("hal.meters").iterdir() if each.name.endswith(".toml")]
    assert len(names) >= 2
    for name in names:
        meter = load_map(name.removesuffix(".toml"))
        assert plan_blocks(meter)
        assert meter.source


def test_only_a_line_loads_the_modbus_library() -> None:
    code = (
        "import sys, hal.meters.modbus_meter as m, hal.sim.meter\n"
        "assert 'pymodbus' not in sys.modules\n"
        "m.meters_on_lines([m.ModbusMeterConfig('p', 'eastron_sdm630', 22_000)], lambda: 0)\n"
        "assert 'pymodbus.client' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
