"""Who holds the key may say what workers run, and nobody else."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path

import pytest

from automl.errors import ExecutorError
from automl.signing import is_signed, new_key_file, shared_key, signed

KEY = b"a key of some length"


def test_a_signature_by_hand() -> None:
    by_hand = hmac.new(KEY, b'{"a":[1.5,null],"b":"x"}', hashlib.sha256).hexdigest()
    assert signed({"b": "x", "a": (1.5, None)}, KEY)["signature"] == by_hand


def test_what_was_signed_is_accepted_and_what_was_changed_is_not() -> None:
    message = signed({"spec": {"source": "task.py"}, "n": 1}, KEY)
    assert is_signed(message, KEY)
    assert not is_signed({**message, "n": 2}, KEY)
    assert not is_signed({**message, "more": ""}, KEY)
    assert not is_signed(message, b"another key, as long")
    assert not is_signed({**message, "signature": 7}, KEY)
    assert not is_signed({"n": 1}, KEY)
    assert not is_signed({**message, "signature": "é"}, KEY)


def test_without_a_key_nothing_is_signed_and_all_is_accepted() -> None:
    assert signed({"n": 1}, None) == {"n": 1}
    assert is_signed({"n": 1}, None)


def test_the_key_comes_from_the_environment_or_a_file_of_the_owners_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AUTOML_KEY", raising=False)
    monkeypatch.delenv("AUTOML_KEY_FILE", raising=False)
    assert shared_key() is None
    file = new_key_file(tmp_path / "secrets" / "key")
    assert file.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("AUTOML_KEY_FILE", str(file))
    key = shared_key()
    assert key is not None and len(key) == 64
    assert list(file.parent.iterdir()) == [file]
    assert new_key_file(file).read_text().strip().encode() == key
    monkeypatch.setenv("AUTOML_KEY", "another-key-of-mine")
    assert shared_key() == b"another-key-of-mine"


def test_whoever_is_killed_while_it_makes_a_key_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(length: int) -> str:
        raise SystemExit

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(secrets, "token_hex", killed)
        new_key_file(tmp_path / "key")
    assert len(new_key_file(tmp_path / "key").read_text()) == 65


@pytest.mark.parametrize("text", ["short", None])
def test_a_key_that_is_none_is_told_without_showing_it(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AUTOML_KEY", raising=False)
    file = tmp_path / "key"
    monkeypatch.setenv("AUTOML_KEY_FILE", str(file))
    if text:
        file.write_text(text)
    with pytest.raises(ExecutorError, match="AUTOML_KEY_FILE") as error:
        shared_key()
    assert "short" not in str(error.value).replace("too short", "")
