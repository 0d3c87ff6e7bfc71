"""IEC 61851-1 Annex A: pilot duty cycle and current.

Charter: from current to duty, in integers. Duty in 0.01 %, current in mA. (The way back is the
vehicle's; its simulation has it.)

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
