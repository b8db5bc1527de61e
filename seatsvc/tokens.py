"""Access tokens, after RFC 8725: one algorithm, all claims required, keys told by `kid`."""

import hashlib
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import jwt

from seatsvc.errors import InvalidToken
from seatsvc.settings import Settings

ISSUER: Final = "seatsvc"
ALGORITHM: Final = "HS256"
CLAIMS: Final = ["iss", "aud", "sub", "sid", "role", "iat", "exp", "jti"]
VERIFIED_MAX = 10_000
HEADERS_MAX = 100


@dataclass(frozen=True, slots=True)
class Token:
    """What a valid access token says. The role it carries is for clients: the database knows."""

    user_id: UUID
    session_id: UUID
    expires_at: float


class Tokens:
    """Issues access tokens and reads them."""

    def __init__(self, settings: Settings) -> None:
        self._keys = {_kid(secret): secret for secret in reversed(settings.signing_secrets)}
        self._signing_kid = _kid(settings.signing_secrets[0])
        self._lifetime_s = settings.access_token_s
        self._key_of: dict[str, str] = {}  # by the header, which all tokens of one key share
        self._verified: OrderedDict[str, Token] = OrderedDict()

    def issue(self, user_id: UUID, session_id: UUID, role: str) -> str:
        """A token for the session."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": ISSUER,
            "sub": str(user_id),
            "sid": str(session_id),
            "role": role,
            "iat": now,
            "exp": now + self._lifetime_s,
            "jti": secrets.token_hex(8),
        }
        kid = self._signing_kid
        return jwt.encode(claims, self._keys[kid], ALGORITHM, headers={"kid": kid})

    def read(self, text: str) -> Token:
        """What a valid token says; remembered until it expires, or others were used since.

        Raises InvalidToken.
        """
        token = self._verified.get(text)
        if token is None or token.expires_at <= time.time():
            token = self._verified[text] = self._verify(text)
            if len(self._verified) > VERIFIED_MAX:
                self._verified.popitem(last=False)
        else:
            self._verified.move_to_end(text)
        return token

    def _verify(self, text: str) -> Token:
        try:
            key = self._key(text)
            claims = jwt.decode(
                text, key, [ALGORITHM], audience=ISSUER, issuer=ISSUER, options={"require": CLAIMS}
            )
            return Token(UUID(claims["sub"]), UUID(claims["sid"]), float(claims["exp"]))
        except (jwt.InvalidTokenError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise InvalidToken() from error

    def _key(self, text: str) -> str:
        header = text.partition(".")[0]
        if header not in self._key_of:
            key = self._keys[jwt.get_unverified_header(text)["kid"]]
            if len(self._key_of) >= HEADERS_MAX:
                return key
            self._key_of[header] = key
        return self._key_of[header]


def _kid(secret: str) -> str:
    return hashlib.sha256(b"kid:" + secret.encode()).hexdigest()[:16]
