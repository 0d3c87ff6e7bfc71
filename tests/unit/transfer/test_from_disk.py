"""Files on this device as a source: which are taken, and that a change is noticed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.firmware.errors import SourceLost
from agent.transfer.remote import SKIP_MAX_BYTES
from tests.unit.transfer.rig import DATA, SIZE, Client


@pytest.fixture
def client() -> Client:
    return Client(schemes=frozenset({"file"}))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a bundle"
    path.write_bytes(DATA)
    return path


def test_reading_everywhere(client: Client, path: Path) -> None:
    for location in (str(path), path.as_uri()):
        with client.open(location) as file:
            assert file.size == SIZE
            for at in (0, 100, 2_000_000, SIZE - 1, 5):
                assert file.read(at, min(SIZE - at, 200_000)) == DATA[at : at + 200_000]
            assert file.read(0, SIZE) == DATA


def test_only_regular_files(client: Client, path: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(path)
    for name, why in (
        ("pipe", "it is not a regular file"),
        ("", "it is not a regular file"),
        ("link", "it is a symbolic link"),
        ("none", "No such file or directory"),
        ("a bundle/x", "Not a directory"),
    ):
        lost = client.refusal(f"{tmp_path}/{name}")
        assert why in str(lost) and str(tmp_path) in str(lost) and not lost.retryable
    assert client.slept == []


def test_a_file_that_is_too_large(client: Client, path: Path) -> None:
    client.max_size_bytes = SIZE - 1
    lost = client.refusal(str(path))
    assert "the file has 3000000 bytes, at most 2999999 are allowed" in str(lost) and not lost.retryable


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def _touch(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def _shrink(path: Path) -> None:
    os.truncate(path, 10)


def _exchange(path: Path) -> None:
    aside = path.with_name("aside")
    aside.write_bytes(DATA)
    os.utime(aside, ns=(0, path.stat().st_mtime_ns))
    aside.rename(path)


@pytest.mark.parametrize("change", [_grow, _touch, _shrink, _exchange])
def test_a_file_that_changes_is_noticed(client: Client, path: Path, change: Callable[[Path], None]) -> None:
    with client.open(str(path)) as file:
        assert file.read(0, 100) == DATA[:100]
        change(path)
        with pytest.raises(SourceLost, match="the file changed while it was downloaded") as lost:
            file.read(2 * SKIP_MAX_BYTES, 100)
        assert not lost.value.retryable
        with pytest.raises(SourceLost, match="the file changed"):
            file.read(0, 100)


def test_a_change_in_the_middle_of_reading_is_noticed(client: Client, path: Path) -> None:
    with client.open(str(path)) as file:
        file.read(0, 100)
        _touch(path)
        with pytest.raises(SourceLost, match="the file changed"):
            file.read(100, 100)


def test_a_stick_that_is_pulled_out_and_put_back(client: Client, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failures = os.read, [OSError(5, "Input/output error")] * 2

    def read(file: int, length: int) -> bytes:
        if failures:
            raise failures.pop()
        return real(file, length)

    with client.open(str(path)) as file:
        monkeypatch.setattr(os, "read", read)
        assert file.read(0, SIZE) == DATA
    assert client.slept == [1, 2]
