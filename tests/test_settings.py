"""Settings: read from the environment, checked at start, told in one line."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from seatsvc import cli
from seatsvc.settings import Settings, SettingsError, load

STRONG = "Zm9ydHktdHdvIGJ5dGVzIG9mIHJhbmRvbSBub2lzZQ"
OTHER = "b3RoZXIgbm9pc2UsIGJ1dCBqdXN0IGFzIGxvbmcgLi4u"
NEEDED = {
    "DATABASE_URL": "postgresql://seatsvc:hidden-word@127.0.0.1:5432/seatsvc",
    "REDIS_URL": "redis://:hidden-word@127.0.0.1:6379/0",
    "JWT_SECRET": STRONG,
}

Env = Callable[..., None]


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Env:
    """Sets variables, in an environment that else has only what is needed, and no `.env` file."""
    for name in os.environ:
        if name.startswith("SEATSVC_") or name == "JWT_PREVIOUS_SECRETS":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def change(**variables: str | None) -> None:
        for name, value in (NEEDED | variables).items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)

    change()
    return change


def complaint() -> str:
    """What the start says; always one line, and never a secret."""
    with pytest.raises(SettingsError) as caught:
        load()
    message = str(caught.value)
    assert "\n" not in message
    assert "hidden-word" not in message
    assert STRONG not in message
    return message


@pytest.mark.usefixtures("env")
def test_defaults() -> None:
    """What the contract names."""
    settings = load()
    assert settings.env == "production"
    assert settings.default_event == 1
    assert settings.demo is False
    assert (settings.access_token_s, settings.refresh_token_days) == (900, 30)
    assert settings.bcrypt_cost == 12
    assert (settings.cache_ttl_ms, settings.lock_ttl_ms) == (1000, 5000)
    assert settings.admin_username is None
    assert settings.admin_password is None
    assert settings.signing_secrets == (STRONG,)


def test_environment(env: Env) -> None:
    """Names as the contract spells them; an empty value is no value."""
    env(
        SEATSVC_POOL_SIZE="7", SEATSVC_STATEMENT_CACHE="0", SEATSVC_CACHE_TTL_MS="5000",
        SEATSVC_LOCK_TTL_MS="60000", SEATSVC_DEFAULT_EVENT="9", SEATSVC_DEMO="1",
        SEATSVC_ENV="dev", SEATSVC_BCRYPT_COST="4", SEATSVC_REFRESH_TOKEN_DAYS="",
    )  # fmt: skip
    settings = load()
    assert (settings.pool_size, settings.statement_cache) == (7, 0)
    assert (settings.cache_ttl_ms, settings.lock_ttl_ms) == (5000, 60_000)
    assert (settings.default_event, settings.demo) == (9, True)
    assert (settings.env, settings.bcrypt_cost, settings.refresh_token_days) == ("dev", 4, 30)


def test_dot_env_file(env: Env, tmp_path: Path) -> None:
    """A `.env` file is read; the environment goes before it; what it says to others is ignored."""
    env(JWT_SECRET=None, SEATSVC_POOL_SIZE="7")
    (tmp_path / ".env").write_text(
        f"JWT_SECRET={STRONG}\nJWT_PREVIOUS_SECRETS={OTHER}\nSEATSVC_POOL_SIZE=8\n"
        "SEATSVC_CACHE_TTL_MS=50\nPOSTGRES_PASSWORD=x\n"
    )
    settings = load()
    assert settings.signing_secrets == (STRONG, OTHER)
    assert (settings.pool_size, settings.cache_ttl_ms) == (7, 50)


@pytest.mark.parametrize("between", [",", " ", ", ", "\n"])
def test_previous_secrets(env: Env, between: str) -> None:
    """One or several, after the one that signs."""
    env(JWT_PREVIOUS_SECRETS=f"{OTHER}{between}{OTHER[::-1]}{between}")
    assert load().signing_secrets == (STRONG, OTHER, OTHER[::-1])


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("value", [None, ""])
def test_missing(env: Env, name: str, value: str | None) -> None:
    """What is needed is named."""
    env(**{name: value})
    assert complaint() == f"{name} is not set"


@pytest.mark.parametrize(
    "secret",
    ["short", "x" * 31, "é" * 15, "x" * 40, "changeme" * 5, "your-secret-key-for-development-only",
     "SECRETsecretSECRETsecretSECRETsecret", "a-password-of-more-than-thirty-two-bytes"],
)  # fmt: skip
def test_weak_secret(env: Env, secret: str) -> None:
    """Under 32 bytes or guessable: no start, but a way to a better one."""
    for name, variables in (
        ("JWT_SECRET", {"JWT_SECRET": secret}),
        ("JWT_PREVIOUS_SECRETS", {"JWT_PREVIOUS_SECRETS": f"{OTHER},{secret}"}),
    ):
        env(**variables)
        message = complaint()
        assert name in message
        assert "openssl rand -base64 48" in message
        assert secret not in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://127.0.0.1/x"), ("DATABASE_URL", "127.0.0.1:5432"),
        ("DATABASE_URL", "postgresql://[x/hidden-word"),
        ("DATABASE_URL", "postgresql://u:hidden-word@127.0.0.1:port/x"),
        ("DATABASE_URL", "postgresql://u:hidden-word@one:1,two:port/x"),
        ("DATABASE_URL", "postgresql://u:hidden-word@one,,two/x"),
        ("DATABASE_URL", "postgresql://one,two/x?target_session_attrs=any"),
        ("REDIS_URL", "redis://:hidden-word@one:1,two:2/0"),
        ("REDIS_URL", "redis+sentinel://:hidden-word@one,two"),
        ("REDIS_URL", "redis+sentinel://:hidden-word@one,two/mymaster/zero"),
        ("REDIS_URL", "redis+sentinel://:hidden-word@/mymaster"),
        ("REDIS_URL", "redis+sentinel://:hidden-word@one:port/mymaster"),
        ("REDIS_URL", "http://127.0.0.1"), ("REDIS_URL", "127.0.0.1:6379"),
        ("REDIS_URL", "redis://:hidden-word@127.0.0.1:port/0"),
        ("SEATSVC_ENV", "test"), ("SEATSVC_BCRYPT_COST", "17"), ("SEATSVC_BCRYPT_COST", "3"),
        ("SEATSVC_BCRYPT_COST", "x"), ("SEATSVC_BCRYPT_COST", "9"), ("SEATSVC_POOL_SIZE", "1"),
        ("SEATSVC_POOL_SIZE", "1.5"), ("SEATSVC_CACHE_TTL_MS", "5001"),
        ("SEATSVC_CACHE_TTL_MS", "0"), ("SEATSVC_LOCK_TTL_MS", "999"),
        ("SEATSVC_LOCK_TTL_MS", "60001"), ("SEATSVC_STATEMENT_CACHE", "-1"),
        ("SEATSVC_DEFAULT_EVENT", "0"), ("SEATSVC_DEMO", "maybe"),
        ("SEATSVC_ACCESS_TOKEN_S", "59"), ("SEATSVC_REFRESH_TOKEN_DAYS", "0"),
        ("SEATSVC_ADMIN_USERNAME", "root"),
    ],
)  # fmt: skip
def test_wrong_value(env: Env, name: str, value: str) -> None:
    """Each wrong value is named."""
    env(**{name: value})
    assert name in complaint()


def test_several_wrong_values(env: Env) -> None:
    """All are told at once."""
    env(DATABASE_URL=None, SEATSVC_POOL_SIZE="0")
    message = complaint()
    assert "DATABASE_URL is not set" in message
    assert "SEATSVC_POOL_SIZE" in message


@pytest.mark.parametrize(
    "url",
    ["postgres://h/x", "postgresql:///x?host=/run/postgresql", "postgresql://u:p@one:1,two/x",
     "postgresql://one,two/x?target_session_attrs=primary"],
)  # fmt: skip
def test_other_database_urls(env: Env, url: str) -> None:
    """Both schemes, sockets, and several hosts."""
    env(DATABASE_URL=url)
    assert load().database_url.get_secret_value() == url


@pytest.mark.parametrize(
    "url",
    ["unix:///run/redis.sock", "redis+sentinel://:p@one,two:2/mymaster",
     "rediss+sentinel://u:p@one/my-master.1/3?sentinel_password=q"],
)  # fmt: skip
def test_other_redis_urls(env: Env, url: str) -> None:
    """Sockets, and sentinels."""
    env(REDIS_URL=url)
    assert load().redis_url.get_secret_value() == url


@pytest.mark.usefixtures("env")
def test_settings_are_frozen_and_keep_their_secrets() -> None:
    """Nothing changes after the start, and nothing secret is printed."""
    settings = load()
    name = "pool_size"
    with pytest.raises(ValidationError):
        setattr(settings, name, 3)
    for text in (repr(settings), str(settings), str(settings.model_dump())):
        assert "hidden-word" not in text
        assert STRONG not in text


@pytest.mark.parametrize("command", ["serve", "migrate", "create-admin"])
def test_wrong_setting_stops_the_start(
    env: Env, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Exit 2 and one line, without a traceback."""
    env(JWT_SECRET="short")
    with pytest.raises(SystemExit) as stopped:
        cli.main([command])
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("seatsvc: JWT_SECRET must have at least 32 bytes")


@pytest.mark.parametrize(
    ("username", "password"),
    [("ro@ot", "hidden-word"), ("ro ot", "hidden-word"), ("r", "hidden-word"), ("root", "short"),
     ("root", "x" * 73)],
)  # fmt: skip
def test_admin_that_could_not_sign_up(
    env: Env, capsys: pytest.CaptureFixture[str], test_settings: Settings,
    username: str, password: str,
) -> None:  # fmt: skip
    """The first admin's name and password keep to what every sign-up keeps to."""
    env(
        DATABASE_URL=test_settings.database_url.get_secret_value(),
        REDIS_URL=test_settings.redis_url.get_secret_value(),
        SEATSVC_ADMIN_USERNAME=username,
        SEATSVC_ADMIN_PASSWORD=password,
    )
    with pytest.raises(SystemExit) as stopped:
        cli.main(["migrate"])
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("seatsvc: ")
    assert password not in line


def test_every_setting_is_in_the_example() -> None:
    """`.env.example` names each variable, commented out with its default."""
    example = (Path(__file__).parents[1] / ".env.example").read_text()
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        variable = alias if isinstance(alias, str) else f"SEATSVC_{name.upper()}"
        assert f"\n{variable}=" in example or f"\n#{variable}=" in example, variable
