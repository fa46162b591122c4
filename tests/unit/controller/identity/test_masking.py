"""No secret is in a text of the audit log, and nothing else is hidden."""

import pytest

from controller.identity.masking import (
    entries_without_secrets,
    entry_without_secrets,
    is_secret,
    value_without_secrets,
    without_secrets,
)


@pytest.mark.parametrize(
    "name", ["DB_PASSWORD", "api-token", "AWS_SECRET_ACCESS_KEY", "passwd", "SshKey", "credentials"]
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)
    assert entry_without_secrets(f"{name}=a b=c") == f"{name}=***"


@pytest.mark.parametrize("entry", ["MODE=prod", "A=", "PATH=/usr/bin:/bin", "--port=80", "serve"])
def test_other_entries_are_shown(entry: str) -> None:
    assert entry_without_secrets(entry) == entry


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgres://app:hunter2@db/app", "postgres://***@db/app"),
        ("https://token@host/x and more", "https://***@host/x and more"),
        ("join PYSWM-1-abc-def now", "join PYSWM-1-*** now"),
        ("PYSWU-1-abc-id-secret", "PYSWU-1-***"),
        ("scrape with PYSWS-1-secret", "scrape with PYSWS-1-***"),
        ("unlock SWMKEY-1-AbC+/x now", "unlock SWMKEY-1-*** now"),
        ('--env: value "DB_PASSWORD=x y" is not', '--env: value "DB_PASSWORD=*** y" is not'),
        ("key file db.key not found: web:1", "key file db.key not found: web:1"),
    ],
)
def test_texts_lose_their_secrets(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_the_word_after_a_flag_of_a_secret_is_one() -> None:
    words = ["run", "--password", "hunter2", "--port", "80", "--token=x", "--key", "-v"]
    shown = ["run", "--password", "***", "--port", "80", "--token=***", "--key", "***"]
    assert entries_without_secrets(words) == shown


def test_values_of_secret_keys_are_masked_at_any_depth() -> None:
    value = {"Options": {"password": "x", "size": "1g"}, "List": ["A_TOKEN=1", 2, {"key": ""}]}
    assert value_without_secrets(value) == {
        "Options": {"password": "***", "size": "1g"},
        "List": ["A_TOKEN=***", 2, {"key": ""}],
    }
