"""Power is cut at every step of making the metering key, or the reserve: the key that signed is the key that
is found, what was not finished is made anew, and no file ever needs a person or is open to others.
The same checks must find the fault where a sync is left out or a mode comes late.
"""

from __future__ import annotations

import os
import random
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from agent.ledger.space import Reserve
from agent.security.keys import KeyUnusable, load_or_create_key
from tests.crash.file_recorder import Careless, Image, Recorder

FULL: Final = os.environ.get("EVSED_CRASH") == "full"
SEED: Final = 20261126
SUBSETS: Final = 600 if FULL else 60
RESERVE_BYTES: Final = 5 * 4096
KEY: Final = "metering.key"


@pytest.fixture
def here() -> Iterator[Path]:
    """Where programs run."""
    yield from _directory()


@pytest.fixture
def after() -> Iterator[Path]:
    """Where images of it are looked at."""
    yield from _directory()


def _directory() -> Iterator[Path]:
    memory = "/dev/shm"  # nothing here need last
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as directory:
        yield Path(directory)


@pytest.fixture(autouse=True)
def no_real_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The only power cuts are the model's; thousands of syncs would take seconds on a real disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(params=[0o022, 0o000, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest, here: Path, after: Path) -> Iterator[None]:
    """The directories are made before it holds."""
    old = os.umask(request.param)
    yield
    os.umask(old)


# ------------------------------------------------------------------------------------------------ the key


def start(directory: Path) -> Callable[[], bytes]:
    """What a station does with its key before it signs anything: the program under test."""
    return lambda: load_or_create_key(directory / KEY).public_der


def fate_of(image: Image[bytes], directory: Path) -> str:
    """What a start finds in one word; ``same`` and ``fresh`` are sound."""
    image.write(directory)
    if any(file.mode & 0o077 for file in image.files):
        return "open to others"
    try:
        found = start(directory)()
    except KeyUnusable:
        return "unusable"
    path = directory / KEY
    if stat.S_IMODE(path.stat().st_mode) != 0o600:
        return "mode"
    if start(directory)() != found:
        return "unstable"
    if image.returned is not None:
        return "same" if found == image.returned else "another"
    return "same" if any(KEY in file.names for file in image.files) else "fresh"


def fates(recorder: Recorder[bytes], directory: Path, subsets: int = SUBSETS) -> Counter[str]:
    return Counter(fate_of(image, directory) for image in recorder.images(random.Random(SEED), subsets))


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("write_bytes", [4096, 50])
def test_a_power_cut_leaves_no_key_or_the_one_that_was_returned(here: Path, after: Path, write_bytes: int) -> None:
    recorder: Recorder[bytes] = Recorder(here, write_bytes=write_bytes)
    assert recorder.run(start(here)) is not None
    found = fates(recorder, after)
    assert set(found) == {"same", "fresh"}, found
    # Few, since little is ever unsynced: the file before its name, and the name before it was promised.
    assert found["same"] >= 3, found
    assert found["fresh"] >= (3 if write_bytes > 1000 else 20), found


@pytest.mark.usefixtures("umask")
def test_a_process_killed_before_changes_nothing_of_that(here: Path, after: Path) -> None:
    """Whoever made the key may have died before he synced its name."""
    for killed_after in range(20):
        for file in here.iterdir():
            file.unlink()
        recorder: Recorder[bytes] = Recorder(here)
        finished = recorder.run(start(here), killed_after) is not None
        assert recorder.run(start(here)) is not None
        found = fates(recorder, after, SUBSETS // 4)
        assert set(found) == {"same", "fresh"}, (killed_after, found)
        if finished:
            break
    else:
        pytest.fail("it takes more steps than were tried")
    assert killed_after >= 5


def test_nor_does_one_power_cut_after_another(here: Path, after: Path) -> None:
    first: Recorder[bytes] = Recorder(here, write_bytes=50)
    first.run(start(here))
    found: Counter[str] = Counter()
    for image in first.images(random.Random(SEED), SUBSETS // 4):
        image.write(here)
        again: Recorder[bytes] = Recorder(here, write_bytes=50, returned=image.returned)
        assert again.run(start(here)) is not None
        found += fates(again, after, SUBSETS // 4)
    assert set(found) == {"same", "fresh"}, found
    assert found.total() > 300, found


@pytest.mark.parametrize(
    ("careless", "finds"),
    [("file", {"unusable"}), ("directory", {"another"}), ("mode", {"open to others"})],
)
def test_control_the_check_finds_what_a_careless_key_suffers(
    here: Path, after: Path, careless: Careless, finds: set[str]
) -> None:
    old = os.umask(0)
    try:
        recorder: Recorder[bytes] = Recorder(here, careless)
        assert recorder.run(start(here)) is not None
    finally:
        os.umask(old)
    found = fates(recorder, after)
    assert finds <= set(found) <= {"same", "fresh"} | finds, found


# -------------------------------------------------------------------------------------------- the reserve


def keep(directory: Path) -> Reserve:
    return Reserve(directory / "ledger.db", RESERVE_BYTES, floor_bytes=0)


def is_whole(file: Path) -> bool:
    return file.exists() and file.stat().st_size == RESERVE_BYTES and file.stat().st_blocks * 512 >= RESERVE_BYTES


def reserve_fate(image: Image[bool], directory: Path) -> str:
    """``whole``, or made anew after it was ``absent`` or ``torn``; ``holes`` are torn and of full length."""
    image.write(directory)
    reserve = keep(directory)
    if is_whole(reserve.file):
        fate = "whole"
    elif not reserve.file.exists():
        fate = "absent"
    else:
        fate = "holes" if reserve.file.stat().st_size == RESERVE_BYTES else "torn"
    if not reserve.ensure() or not is_whole(reserve.file) or reserve.file.stat().st_mode & 0o077:
        return "useless"
    return f"{fate} in use" if image.returned else fate


def reserve_fates(recorder: Recorder[bool], directory: Path) -> Counter[str]:
    return Counter(reserve_fate(image, directory) for image in recorder.images(random.Random(SEED), SUBSETS))


@pytest.mark.parametrize("before", [None, 0, 4096, RESERVE_BYTES + 4096])
def test_a_reserve_is_there_once_it_was_promised_and_made_anew_when_torn(
    here: Path, after: Path, before: int | None
) -> None:
    if before is not None:
        keep(here).file.write_bytes(bytes(before))
        keep(here).file.chmod(0o600)
    recorder: Recorder[bool] = Recorder(here)
    assert recorder.run(keep(here).ensure)
    found = reserve_fates(recorder, after)
    assert set(found) - {"absent"} == {"torn", "holes", "whole", "whole in use"}, found
    assert ("absent" in found) is (before is None)


def test_a_reserve_whose_maker_was_killed_is_made_anew_when_torn(here: Path, after: Path) -> None:
    for killed_after in range(4):
        keep(here).release()
        recorder: Recorder[bool] = Recorder(here)
        assert recorder.run(keep(here).ensure, killed_after) is None
        assert recorder.run(keep(here).ensure)
        assert "useless" not in reserve_fates(recorder, after)


@pytest.mark.parametrize(("careless", "finds"), [("file", "holes in use"), ("directory", "absent in use")])
def test_control_the_check_finds_what_a_careless_reserve_suffers(
    here: Path, after: Path, careless: Careless, finds: str
) -> None:
    recorder: Recorder[bool] = Recorder(here, careless)
    assert recorder.run(keep(here).ensure)
    assert reserve_fates(recorder, after)[finds] > 0


# ------------------------------------------------------------------------------------------- the recorder


def test_what_else_may_be_done_to_files_is_recorded(here: Path, after: Path) -> None:
    (here / "old").write_bytes(b"old" * 300)

    def program() -> bool:
        (here / "twin").hardlink_to(here / "old")
        (here / "old").chmod(0o640)
        file = os.open(here / "new", os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(file, bytes(range(256)) * 3)
        os.ftruncate(file, 600)
        os.close(file)
        (here / "new").replace(here / "old")
        return True

    recorder: Recorder[bool] = Recorder(here)
    assert recorder.run(program)
    names, sizes = set(), set()
    for image in recorder.images(random.Random(SEED), SUBSETS):
        image.write(after)
        assert {name for file in image.files for name in file.names} == {one.name for one in after.iterdir()}
        names |= {frozenset(file.names) for file in image.files}
        sizes |= {len(file.content.rstrip(b"\0")) for file in image.files if "new" in file.names}
    assert names >= {frozenset({"old", "twin"}), frozenset({"old"}), frozenset({"twin"}), frozenset({"new", "old"})}
    assert sizes >= {0, 512, 600, 768}


def test_control_nothing_is_done_behind_the_recorders_back(here: Path) -> None:
    recorder: Recorder[int] = Recorder(here)
    with pytest.raises(AssertionError):
        recorder.run(lambda: (here / "unseen").write_bytes(b"x"))
