"""Our U-Boot environment, read and written by the tools of others, and theirs by us.

Two of them: mkenvimage (U-Boot's own) and fw_printenv/fw_setenv (libubootenv). Each is skipped where it is absent. The
boot script itself is tried on a real U-Boot by test_uboot_script.py.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.firmware.errors import SlotFailed
from agent.firmware.selectors.uboot import UbootSelector
from agent.firmware.selectors.uboot_env import Environment, EnvironmentCopy, EnvironmentPair, decode, encode
from agent.firmware.storage import FileStorage

SIZE: Final = 8192
VARIABLES: Final = (
    "bootcmd=run distro_bootcmd",
    "ethaddr=02:00:00:00:00:01",
    "args=a=b c",
    "BOOT_ORDER=B A",
    "BOOT_B_LEFT=2",
)

needs_mkenvimage = pytest.mark.skipif(not shutil.which("mkenvimage"), reason="no mkenvimage (package u-boot-tools)")
needs_fw_tools = pytest.mark.skipif(
    not shutil.which("fw_printenv") or not shutil.which("fw_setenv"),
    reason="no fw_printenv, fw_setenv (package libubootenv-tool)",
)


def environment(*variables: str) -> Environment:
    return Environment(tuple(each.encode() for each in variables))


def mkenvimage(folder: Path, variables: tuple[str, ...], *options: str) -> bytes:
    source, image = folder / "variables.txt", folder / "image"
    source.write_text("\n".join(variables) + "\n")
    subprocess.run(["mkenvimage", "-s", str(SIZE), *options, "-o", image, source], check=True, capture_output=True)
    return image.read_bytes()


# ------------------------------------------------------------------------------------------- mkenvimage


@needs_mkenvimage
@pytest.mark.parametrize("padding", [(), ("-p", "0x00")])
def test_we_read_what_mkenvimage_makes(tmp_path: Path, padding: tuple[str, ...]) -> None:
    assert decode(mkenvimage(tmp_path, VARIABLES, "-r", *padding)) == (environment(*VARIABLES), 1)


@needs_mkenvimage
def test_we_write_what_mkenvimage_makes(tmp_path: Path) -> None:
    assert encode(environment(*VARIABLES), 1, SIZE) == mkenvimage(tmp_path, VARIABLES, "-r", "-p", "0x00")


@needs_mkenvimage
def test_a_single_environment_of_mkenvimage_is_refused_as_such(tmp_path: Path) -> None:
    file = tmp_path / "single"
    file.write_bytes(mkenvimage(tmp_path, VARIABLES) * 2)
    pair = EnvironmentPair(FileStorage(), (EnvironmentCopy(file), EnvironmentCopy(file, SIZE)), SIZE)
    with pytest.raises(SlotFailed, match="not a redundant environment"):
        pair.demand()


# --------------------------------------------------------------------------------- fw_printenv, fw_setenv


class Board:
    """Both copies in one file or in two, and the configuration of libubootenv for them."""

    def __init__(self, folder: Path, *, one_file: bool, flags: tuple[int, int] = (1, 0)) -> None:
        names = ("env", "env") if one_file else ("uboot.env", "uboot-redund.env")
        offsets = (4096, 4096 + 2 * SIZE) if one_file else (0, 0)
        self.copies = tuple(EnvironmentCopy(folder / name, at) for name, at in zip(names, offsets, strict=True))
        self.config = folder / "fw_env.config"
        self.config.write_text("".join(f"{each.path} {each.offset:#x} {SIZE:#x}\n" for each in self.copies))
        files = {each.path: bytearray(b"\xff" * (offsets[1] + SIZE)) for each in self.copies}
        for copy, flag in zip(self.copies, flags, strict=True):
            files[copy.path][copy.offset : copy.offset + SIZE] = encode(environment(*VARIABLES), flag, SIZE)
        for path, content in files.items():
            path.write_bytes(content)

    def pair(self) -> EnvironmentPair:
        return EnvironmentPair(FileStorage(), self.copies, SIZE)

    def selector(self, booted: str) -> UbootSelector:
        return UbootSelector(FileStorage(), self.copies, SIZE, ("a", "b"), booted)

    def printed(self) -> dict[str, str]:
        told = subprocess.run(["fw_printenv", "-c", self.config], check=True, capture_output=True, text=True).stdout
        return dict(line.split("=", 1) for line in told.splitlines())

    def set(self, name: str, value: str) -> None:
        subprocess.run(["fw_setenv", "-c", self.config, name, value], check=True, capture_output=True)


@pytest.fixture(params=[True, False], ids=["one device", "two files"])
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Board:
    return Board(tmp_path, one_file=request.param)


@needs_fw_tools
def test_fw_printenv_reads_what_we_wrote(board: Board) -> None:
    assert board.printed() == dict(each.split("=", 1) for each in VARIABLES)


@needs_fw_tools
def test_we_read_what_fw_setenv_wrote_and_it_reads_what_we_write_next(board: Board) -> None:
    for number in range(6):
        board.set("BOOT_A_GOOD", "1")
        board.set("theirs", f"{number} x=y")
        assert board.pair().demand().environment.get("theirs") == f"{number} x=y"
        board.selector("a").confirm("a")
        board.selector("a").activate("b", number + 1)
        told = board.printed()
        assert (told["BOOT_ORDER"], told["BOOT_B_LEFT"], told["BOOT_A_GOOD"]) == ("B A", str(number + 1), "1")
        assert (told["theirs"], told["args"]) == (f"{number} x=y", "a=b c")


@needs_fw_tools
@pytest.mark.parametrize("flags", [(255, 0), (0, 255), (254, 255), (255, 254), (7, 7)])
def test_both_take_the_same_copy_where_the_flag_wraps(tmp_path: Path, flags: tuple[int, int]) -> None:
    board = Board(tmp_path, one_file=False, flags=flags)
    for copy, flag in zip(board.copies, flags, strict=True):
        copy.path.write_bytes(encode(environment(f"from={copy.path.name}"), flag, SIZE))
    assert board.printed()["from"] == board.pair().demand().environment.get("from")
    for number in range(4):
        loaded = board.pair().demand()
        board.pair().save(loaded, loaded.environment.having({"n": str(number)}))
        assert board.printed()["n"] == str(number)


@needs_fw_tools
@pytest.mark.parametrize("damaged", [0, 1])
def test_both_pass_over_a_damaged_copy(board: Board, damaged: int) -> None:
    copy = board.copies[damaged]
    content = bytearray(copy.path.read_bytes())
    content[copy.offset + 100] ^= 1
    copy.path.write_bytes(content)
    assert board.printed()["BOOT_ORDER"] == "B A"
    board.selector("b").confirm("b")
    assert board.printed()["BOOT_B_GOOD"] == "1"


@needs_fw_tools
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True), st.from_regex(r"[!-~][ -~]{0,30}", fullmatch=True)
    )
)
def test_fw_printenv_reads_any_variables(tmp_path: Path, variables: dict[str, str]) -> None:
    board = Board(tmp_path, one_file=True)
    pair = board.pair()
    pair.save(pair.demand(), environment("x=1").having(variables))
    assert board.printed() == {"x": "1"} | variables
