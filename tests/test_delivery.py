"""Mails on their way: to a mail server, and to a folder."""

import asyncio
import os
import ssl
import stat
import subprocess
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from seatsvc import delivery
from seatsvc.delivery import DeliveryError, Transport, open_transport
from seatsvc.mail import write
from seatsvc.settings import Settings, SettingsError, load
from tests.conftest import SECRET
from tests.mailing import PUBLIC_URL, hanging_server, inbox, let_in, mail_server, text
from tests.test_mail import LETTER

USER = "us%2Fer:p%23ss%3Aw%40rd"
BODY = text(write(LETTER, "box@example.org", PUBLIC_URL))


def settings(url: str | None) -> Settings:
    """Settings of which only the mails matter.

    Raises SettingsError.
    """
    servers = {"database_url": "postgresql://nowhere/none", "redis_url": "redis://nowhere"}
    mails = {"smtp_url": url, "mail_from": "box@example.org"}
    return load(**servers, **mails, jwt_secret=SECRET, _env_file=None)


def transport(url: str) -> Transport:
    """What the URL names."""
    opened = open_transport(settings(url))
    assert opened is not None
    return opened


async def post(way: Transport, *addresses: str) -> None:
    """A mail to each, in one session."""
    async with way.session() as send:
        for address in addresses:
            letter = replace(LETTER, address=address)
            await send(write(letter, "box@example.org", PUBLIC_URL))


async def refusal(way: Transport, address: str = "ann@example.org") -> DeliveryError:
    """Why a mail was not taken."""
    with pytest.raises(DeliveryError) as caught:
        await post(way, address)
    return caught.value


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For localhost, with its key, signed by itself."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    files = ["-keyout", str(file), "-out", f"{file}.crt"]
    command = ["openssl", "req", "-x509", *kind, *names, *files]
    subprocess.run(command, check=True, capture_output=True)
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    return file


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    """The server's side."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_plain() -> None:
    """One connection for all mails of a session; what arrives is what was written."""
    async with mail_server() as server:
        way = transport(f"smtp://localhost:{server.port}")
        await post(way, "ann@example.org", "ben@example.org")
    assert server.recipients == ["ann@example.org", "ben@example.org"]
    assert [text(mail) for mail in server.mails] == [BODY, BODY]
    assert len(server.sessions) == 1


async def test_starttls_and_password(
    certificate: Path, server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a certificate that is trusted, the password is sent; it may hold any character."""
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    async with mail_server(server_tls, authenticator=let_in, auth_required=True) as server:
        await post(transport(f"smtp://{USER}@localhost:{server.port}"), "ann@example.org")
        wrong = await refusal(transport(f"smtp://us%2Fer:wrong@localhost:{server.port}"))
    assert server.recipients == ["ann@example.org"]
    assert str(wrong) == "SMTPAuthenticationError 535"
    assert wrong.server_failed


async def test_tls_from_the_start(
    certificate: Path, server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    async with mail_server(tls=server_tls) as server:
        await post(transport(f"smtps://localhost:{server.port}"), "ann@example.org")
    assert server.recipients == ["ann@example.org"]


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
async def test_certificate_that_nobody_trusts(server_tls: ssl.SSLContext, scheme: str) -> None:
    """The mail stays here, with STARTTLS that is merely offered, too."""
    starttls, tls = (server_tls, None) if scheme == "smtp" else (None, server_tls)
    async with mail_server(starttls, tls) as server:
        error = await refusal(transport(f"{scheme}://localhost:{server.port}"))
    assert not server.mails
    assert error.server_failed
    assert "SSLCertVerificationError" in str(error)


async def test_certificate_of_another_name(
    certificate: Path, server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    async with mail_server(server_tls) as server:
        error = await refusal(transport(f"smtp://127.0.0.1:{server.port}"))
    assert not server.mails
    assert "SSLCertVerificationError" in str(error)


async def test_password_is_not_sent_in_the_clear() -> None:
    """To a server, or to whoever stands in between, that does not offer STARTTLS."""
    seen: list[object] = []

    def spy(_server: SMTP, _session: Session, _envelope: Envelope, _how: str, data: object) -> None:
        seen.append(data)

    async with mail_server(authenticator=spy, auth_require_tls=False) as server:
        error = await refusal(transport(f"smtp://{USER}@localhost:{server.port}"))
    assert error.server_failed
    assert not seen
    assert not server.mails


@pytest.mark.parametrize(("code", "permanent"), [(550, True), (452, False)])
async def test_refused_recipient(code: int, permanent: bool) -> None:
    """Its own matter: the next mail goes out by the same connection. No address in the error."""
    async with mail_server() as server:
        server.refusals["gone@example.org"] = f"{code} gone@example.org is not here"
        way = transport(f"smtp://localhost:{server.port}")
        async with way.session() as send:
            with pytest.raises(DeliveryError) as caught:
                await send(write(replace(LETTER, address="gone@example.org"), "b@c.org", ""))
            await send(write(LETTER, "b@c.org", ""))
    assert str(caught.value) == f"SMTPRecipientRefused {code}"
    assert (caught.value.permanent, caught.value.server_failed) == (permanent, False)
    assert server.recipients == ["ann@example.org"]


async def test_refused_content() -> None:
    async with mail_server() as server:
        server.data_answer = "554 this is spam from box@example.org"
        error = await refusal(transport(f"smtp://localhost:{server.port}"))
    assert (str(error), error.permanent) == ("SMTPDataError 554", True)


async def test_server_that_closes() -> None:
    """`421`: no other mail need be tried."""
    async with mail_server() as server:
        server.refusals["ann@example.org"] = "421 closing"
        error = await refusal(transport(f"smtp://localhost:{server.port}"))
    assert (error.permanent, error.server_failed) == (False, True)


async def test_address_in_another_alphabet() -> None:
    """Where the server cannot take it, it never will."""
    async with mail_server() as server:
        error = await refusal(transport(f"smtp://localhost:{server.port}"), "jörg@example.org")
        assert error.permanent
    async with mail_server(enable_SMTPUTF8=True) as server:
        await post(transport(f"smtp://localhost:{server.port}"), "jörg@bücher.example.org")
        assert server.recipients == ["jörg@bücher.example.org"]


async def test_nobody_listens() -> None:
    async with mail_server() as server:
        port = server.port
    error = await refusal(transport(f"smtp://127.0.0.1:{port}"))
    assert error.server_failed
    assert "Connect" in str(error)


@pytest.mark.parametrize("limit", ["STEP_TIMEOUT_S", "MAIL_TIMEOUT_S"])
async def test_server_that_hangs(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step has its time, and so has the whole."""
    monkeypatch.setattr(delivery, limit, 0.1)
    async with hanging_server() as port, asyncio.timeout(5):
        error = await refusal(transport(f"smtp://127.0.0.1:{port}"))
    assert error.server_failed
    assert "Timeout" in str(error)


async def test_folder(tmp_path: Path) -> None:
    """For its owner only; as many as there were, whole, and shown in plain text."""
    shown: list[str] = []
    folder = tmp_path / "with space" / "mails"
    way = open_transport(settings(f"file://{str(folder).replace(' ', '%20')}"), shown.append)
    assert way is not None
    await post(way, "ann@example.org", "ann@example.org")
    assert [text(mail) for mail in inbox(folder)] == [BODY, BODY]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    assert {file.suffix for file in folder.iterdir()} == {".eml"}
    assert len(shown) == 2
    assert "Subject: Your booking: Late Show\n" in shown[0]
    assert BODY in shown[0]


async def test_folder_shows_whole_mails_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks while one is written finds none."""
    found: list[list[EmailMessage]] = []

    def look_first(file: Path, target: Path) -> None:
        found.append(inbox(tmp_path))
        os.rename(file, target)

    monkeypatch.setattr(Path, "rename", look_first)
    await post(transport(f"file://{tmp_path}"), "ann@example.org")
    assert found == [[]]
    assert len(inbox(tmp_path)) == 1


async def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "mails").write_text("in the way")
    error = await refusal(transport(f"file://{tmp_path}/mails"))
    assert error.server_failed


def test_no_way_out() -> None:
    assert open_transport(settings(None)) is None


@pytest.mark.parametrize(
    "url",
    [
        "smtp://",
        "smtp://:587",
        "smtp://user@host",
        "smtp://user:pa#ss@host",
        "smtp://user:pa?ss@host",
        "smtp://user:25#pass@host",
        "file://mails",
        "file://host/mails",
        "file:mails",
    ],
)
def test_bad_url(url: str) -> None:
    """Stops the start, and does not give the password away."""
    with pytest.raises(SettingsError, match=r"^SEATSVC_SMTP_URL ") as caught:
        open_transport(settings(url))
    assert "pa" not in str(caught.value).replace("path", "").replace("password", "")
