"""What proves that the machine's clock ran on while the power was away."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.security.clock_proof import clock_is_proven

NOW_MS = 1_800_000_000_000


def rtc(folder: Path, number: int, text: str | None) -> None:
    """A clock as sysfs shows it; None: it cannot be read."""
    file = folder / f"rtc{number}" / "since_epoch"
    file.parent.mkdir(parents=True)
    if text is None:
        file.mkdir()
    else:
        file.write_text(text)


@pytest.mark.parametrize(
    ("clocks", "proven"),
    [
        ((), False),
        (("1800000000\n",), True),
        (("1799999997\n",), True),
        (("1799989200\n",), False),  # the machine's clock is three hours ahead of it, or the other way round
        (("1800010800\n",), False),
        (("37\n",), False),  # no battery: it began in 1970
        ((None,), False),
        (("",), False),
        (("37\n", None, "1800000001\n"), True),
    ],
)
def test_a_hardware_clock_that_agrees_is_proof(tmp_path: Path, clocks: tuple[str | None, ...], proven: bool) -> None:
    for number, text in enumerate(clocks):
        rtc(tmp_path / "rtc", number, text)
    assert clock_is_proven(NOW_MS, tmp_path / "rtc", tmp_path / "synchronized") is proven


def test_a_time_server_that_was_heard_since_the_boot_is_proof(tmp_path: Path) -> None:
    rtc(tmp_path / "rtc", 0, "37\n")
    (tmp_path / "synchronized").touch()
    assert clock_is_proven(NOW_MS, tmp_path / "rtc", tmp_path / "synchronized")
