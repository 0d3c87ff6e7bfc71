"""The technician's secret: what is kept, what is taken for it, and what a damaged file is."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.web import secret


def test_only_the_secret_itself_matches() -> None:
    line = secret.made("correct horse")
    assert secret.matches(line, "correct horse")
    assert not secret.matches(line, "correct horsf")
    assert not secret.matches(line, "")
    assert not secret.matches(line, "correct horse" * 100)


def test_nothing_of_the_secret_is_kept_and_no_two_lines_are_alike() -> None:
    one, other = secret.made("correct horse"), secret.made("correct horse")
    assert one != other
    assert "correct" not in one


@pytest.mark.parametrize("typed", ["", "too short", "x" * 201])
def test_secret_of_unfit_length_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match="10 to 200 characters"):
        secret.made(typed)


@pytest.mark.parametrize("text", ["", "secret", "scrypt:1:8:1:AAAAAAAAAAAAAAAAAAAAAA==:" + "A" * 43 + "=", "\xff"])
def test_file_that_holds_no_such_line_is_no_secret(tmp_path: Path, text: str) -> None:
    """Least of all may a file of others choose a cheap hash."""
    file = tmp_path / "web.secret"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(secret.SecretUnusable):
        secret.read(file)
    assert not secret.matches(text, "")


def test_missing_file_is_no_secret(tmp_path: Path) -> None:
    with pytest.raises(secret.SecretUnusable, match=r"web\.secret"):
        secret.read(tmp_path / "web.secret")
