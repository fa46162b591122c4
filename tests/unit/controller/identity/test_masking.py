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
    "name",
    [
        "DB_PASSWORD",
        "api-token",
        "AWS_SECRET_ACCESS_KEY",
        "passwd",
        "SshKey",
        "credentials",
        "DB_PASS",
        "MYSQL_PWD",
        "AUTHORIZATION",
        "HTTP_BEARER",
    ],
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
        ("--secret: value 'x' is not valid", "--secret: value 'x' is not valid"),
        ("image registry/keycloak:22 of auth-web:1", "image registry/keycloak:22 of auth-web:1"),
        ("X-Api-Key: hunter2", "X-Api-Key: ***"),
        ("-H 'Authorization: Bearer hunter2' x", "-H 'Authorization: Bearer ***' x"),
        ('{"password":"hun\\"ter2", "size": 1}', '{"password":***, "size": 1}'),
        ("{'db_pass': 'hunter2 x', 'n': 1}", "{'db_pass': ***, 'n': 1}"),
        ('"{\\"password\\": \\"hunter2 x\\"} y"', '"{\\"password\\": ***} y"'),
        ("PGPASSWORD='hunter2 x' psql", "PGPASSWORD=*** psql"),
        ("password: hunter2\nport: 80", "password: ***\nport: 80"),
        ("mysql --password hunter2 -v", "mysql --password *** -v"),
        ("mysql --password=hunter2; ls", "mysql --password=*** ls"),
        ("curl -u me:hunter2 http://x:1", "curl -u me:*** http://x:1"),
        ("curl --user=me:hunter2 x", "curl --user=me:*** x"),
        ("useradd -u 1000 key", "useradd -u 1000 key"),
        ("the key PASS=a and TOKEN=b", "the key PASS=*** and TOKEN=***"),
    ],
)
def test_texts_lose_their_secrets(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_the_word_after_a_flag_of_a_secret_is_one() -> None:
    words = ["run", "--password", "hunter2", "--port", "80", "--token=x", "--key", "-v"]
    shown = ["run", "--password", "***", "--port", "80", "--token=***", "--key", "***"]
    assert entries_without_secrets(words) == shown


def test_the_password_after_a_user_is_a_secret() -> None:
    words = ["curl", "-u", "me:hunter2", "--user", "1000", "a:b"]
    assert entries_without_secrets(words) == ["curl", "-u", "me:***", "--user", "1000", "a:b"]


@pytest.mark.parametrize("word", ["KEY", "a", "-", '"', "KEY ", 'KEY="\\', "-u a:", "\\"])
def test_a_long_text_takes_no_longer_per_character(word: str) -> None:
    """A pattern that tries every pair of positions would take hours."""
    without_secrets(word * 200_000)


def test_values_of_secret_keys_are_masked_at_any_depth() -> None:
    value = {"Options": {"password": "x", "size": "1g"}, "List": ["A_TOKEN=1", 2, {"key": ""}]}
    assert value_without_secrets(value) == {
        "Options": {"password": "***", "size": "1g"},
        "List": ["A_TOKEN=***", 2, {"key": ""}],
    }
    test = {"Test": ["CMD", "probe", "--password", "my secret phrase"]}
    assert value_without_secrets(test) == {"Test": ["CMD", "probe", "--password", "***"]}
