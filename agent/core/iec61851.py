"""IEC 61851-1 Annex A: pilot duty cycle and current.

Charter: the two conversions and the special values, in integers. Duty in 0.01 %, current in mA.

* 10 % to 85 %: current = duty x 0.6 A (6 A to 51 A)
* 85 % to 96 %: current = (duty - 64) x 2.5 A (up to 80 A)
* between 51 A and 52.5 A there is no code: 51 A is signalled
* 5 %: current is agreed digitally (ISO 15118, DIN 70121)
* a limit below 6 A cannot be signalled: no PWM, the vehicle must wait
"""

from __future__ import annotations

from hal.ports import DUTY_X1

MIN_CURRENT_MA = 6_000
MAX_CURRENT_MA = 80_000
_KNEE_MA = 51_000
_UPPER_START_MA = 52_500


def duty_for(current_ma: int) -> int:
    """Duty in 0.01 % that offers at most ``current_ma``; DUTY_X1 where nothing can be offered."""
    if current_ma < MIN_CURRENT_MA:
        return DUTY_X1
    if current_ma < _UPPER_START_MA:
        return min(current_ma, _KNEE_MA) // 6
    return min(current_ma, MAX_CURRENT_MA) // 25 + 6_400


def current_for(duty_centipercent: int) -> int:
    """Current in mA that a vehicle may draw at this duty; 0 outside the analogue range."""
    if 800 <= duty_centipercent < 1_000:
        return MIN_CURRENT_MA
    if 1_000 <= duty_centipercent <= 8_500:
        return duty_centipercent * 6
    if 8_500 < duty_centipercent <= 9_600:
        return (duty_centipercent - 6_400) * 25
    if 9_600 < duty_centipercent <= 9_700:
        return MAX_CURRENT_MA
    return 0


# Cable ratings coded by the proximity resistor (IEC 61851-1 Annex B), in mA.
CABLE_RATINGS_MA = (13_000, 20_000, 32_000, 63_000)
