"""Every setting with its unit and its default, checked once at start."""

import re
from functools import cached_property
from ipaddress import ip_network
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    EmailStr,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

SENTINEL = ("redis+sentinel", "rediss+sentinel")
SEVERAL_HOSTS = ("postgresql", "postgres", *SENTINEL)
SERVICE = re.compile(r"/([\w.-]+)(?:/(\d*))?")  # the name under which sentinels know it, database
WRITABLE = ("read-write", "primary")
SECRET_MIN_BYTES = 32
KNOWN_SECRETS = ("changeme", "change-me", "secret", "your-secret", "example", "password")


class SettingsError(Exception):
    """A setting is wrong; the message says which and what to do."""


def _scheme(*schemes: str) -> AfterValidator:
    def check(url: SecretStr) -> SecretStr:
        parts = urlsplit(url.get_secret_value())
        if parts.scheme not in schemes:
            raise ValueError(f"must start with {' or '.join(s + '://' for s in schemes)}")
        _check_hosts(hosts_of(parts) if parts.scheme in SEVERAL_HOSTS else [parts.netloc])
        return url

    return AfterValidator(check)


def hosts_of(parts: SplitResult) -> list[str]:
    """The hosts that a URL names, each with its port if it has one."""
    return parts.netloc.rpartition("@")[2].split(",")


def _check_hosts(hosts: list[str]) -> None:
    if len(hosts) > 1 and not all(hosts):
        raise ValueError("names a host that is empty")
    try:
        _ = [urlsplit(f"//{host}").port for host in hosts]
    except ValueError:
        raise ValueError("has a port that is no number from 1 to 65535") from None


def _primary_only(url: SecretStr) -> SecretStr:
    parts = urlsplit(url.get_secret_value())
    wanted = dict(parse_qsl(parts.query)).get("target_session_attrs", WRITABLE[0])
    if len(hosts_of(parts)) > 1 and wanted not in WRITABLE:
        raise ValueError(f"with several hosts needs target_session_attrs={' or '.join(WRITABLE)}")
    return url


def _sentinels(url: SecretStr) -> SecretStr:
    parts = urlsplit(url.get_secret_value())
    if parts.scheme in SENTINEL and not (parts.hostname and SERVICE.fullmatch(parts.path)):
        raise ValueError(
            "must name the sentinels and their service, as in redis+sentinel://host1,host2/mymaster"
        )
    return url


def _origin(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or url != _base(url):
        raise ValueError("must be origins such as https://tickets.example.org")
    return url


def _base(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _network(text: str) -> str:
    try:
        ip_network(text)
    except ValueError:
        raise ValueError("must be IP addresses or networks such as 10.0.0.0/8") from None
    return text


def _strong(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if len(text.encode()) < SECRET_MIN_BYTES:
        raise ValueError(
            f"must have at least {SECRET_MIN_BYTES} bytes; make one with: openssl rand -base64 48"
        )
    if len(set(text)) < 8 or any(known in text.lower() for known in KNOWN_SECRETS):
        raise ValueError("is a known or guessable secret; make one with: openssl rand -base64 48")
    return secret


def _split(value: object) -> object:
    if isinstance(value, str):
        return [part for part in value.replace(",", " ").split() if part]
    return value


LISTED = (NoDecode, BeforeValidator(_split))
Secret = Annotated[SecretStr, AfterValidator(_strong)]
Origin = Annotated[str, AfterValidator(_origin)]
Network = Annotated[str, AfterValidator(_network)]


class Settings(BaseSettings):
    """What the environment (or a `.env` file) says. Frozen; a wrong value stops the start."""

    model_config = SettingsConfigDict(
        env_prefix="SEATSVC_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    database_url: Annotated[
        SecretStr, _scheme("postgresql", "postgres"), AfterValidator(_primary_only)
    ] = Field(validation_alias="DATABASE_URL")
    redis_url: Annotated[
        SecretStr, _scheme("redis", "rediss", "unix", *SENTINEL), AfterValidator(_sentinels)
    ] = Field(validation_alias="REDIS_URL")
    jwt_secret: Secret = Field(validation_alias="JWT_SECRET")
    jwt_previous_secrets: Annotated[tuple[Secret, ...], *LISTED] = Field(
        default=(), validation_alias="JWT_PREVIOUS_SECRETS"
    )

    env: Literal["production", "dev"] = "production"
    default_event: int = Field(default=1, gt=0)
    demo: bool = False
    admin_username: str | None = None
    admin_password: SecretStr | None = None

    access_token_s: int = Field(default=900, ge=60, le=3600)
    refresh_token_days: int = Field(default=30, ge=1, le=365)
    bcrypt_cost: int = Field(default=12, ge=4, le=16)

    rate_limits: Literal["on", "off"] = "on"
    cors_origins: Annotated[tuple[Origin, ...], *LISTED] = ()
    trusted_proxies: Annotated[tuple[Network, ...], *LISTED] = ()

    smtp_url: Annotated[SecretStr, _scheme("smtp", "smtps", "file")] | None = None
    mail_from: EmailStr | None = None
    public_url: Origin = "http://127.0.0.1:8000"

    pool_size: int = Field(default=10, ge=2, le=1000)
    statement_cache: int = Field(default=256, ge=0)
    lock_ttl_ms: int = Field(default=5000, ge=1000, le=60_000)
    cache_ttl_ms: int = Field(default=1000, ge=50, le=5000)
    drain_ms: int = Field(default=1000, ge=0, le=60_000)

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.bcrypt_cost < 10 and self.env != "dev":
            raise ValueError("SEATSVC_BCRYPT_COST under 10 needs SEATSVC_ENV=dev")
        if self.admin_username is not None and self.admin_password is None:
            raise ValueError("SEATSVC_ADMIN_USERNAME needs SEATSVC_ADMIN_PASSWORD")
        sends = self.smtp_url and not self.smtp_url.get_secret_value().startswith("file:")
        if sends and self.mail_from is None:
            raise ValueError("SEATSVC_SMTP_URL needs SEATSVC_MAIL_FROM")
        return self

    @cached_property
    def signing_secrets(self) -> tuple[str, ...]:
        """The secret that signs, then those that still verify."""
        secrets = (self.jwt_secret, *self.jwt_previous_secrets)
        return tuple(secret.get_secret_value() for secret in secrets)


def load(**overrides: Any) -> Settings:
    """Read and check all settings.

    Raises SettingsError, in one line.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError("; ".join(_complaints(error))) from None


def _complaints(error: ValidationError) -> list[str]:
    return [f"{_variable(each['loc'])}{_message(each)}" for each in error.errors()]


def _variable(loc: tuple[int | str, ...]) -> str:
    if not loc:
        return ""
    name = str(loc[0])
    return f"{name if name.isupper() else 'SEATSVC_' + name.upper()} "


def _message(each: ErrorDetails) -> str:
    if each["type"] == "missing":
        return "is not set"
    return each["msg"].removeprefix("Value error, ")
