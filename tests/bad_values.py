"""Bad values by their kind: as JSON text for bodies, as text for paths, queries and headers."""

import base64
import json
from typing import Any


def as_json(values: list[Any]) -> list[str]:
    """For a body. Lone surrogates and NUL are escaped."""
    return [json.dumps(value) for value in values]


WRONG_TYPES = as_json(
    [
        None, True, False, 0, 1, -1, 1.0, 1.5, -0.5, 1e30, "", "x", "1", "1.0", "true", "null",
        [], [1], ["1"], [None], [[]], [{}], {}, {"a": 1}, {"$ne": None}, {"id": 1}, {"": []},
    ]
)  # fmt: skip
# For what is a number, a date, an id or one of several words.
WRONG_TEXTS = [
    "x", "-", "--", "null", "None", "undefined", "NaN", "true1", "1.5", "1,2", "1 2", "0b1", "[]",
    "{}", "()", "[1]", '"1"', "'1'", "[object Object]", "on_sale ", "ON_SALE", "2027-05-01T20:00",
]  # fmt: skip

OVERFLOWS = [
    2**63, 2**63 + 1, 2**64 - 1, 2**64, 2**64 + 1, 2**65, 2**127, 2**128, 10**19, 10**20, 10**30,
    10**100, 10**308, 10**1000, 10**4000, -1, -(2**31) - 1, -(2**63), -(2**63) - 1, -(2**64),
    -(10**30), -(10**1000),
]  # fmt: skip

NO_NUMBERS = [
    "NaN", "-NaN", "nan", "NAN", "Infinity", "-Infinity", "+Infinity", "infinity", "inf", "-inf",
    "Inf", "1e309", "-1e309", "1e999", "1E+400", "-1E400", "0x10", "1_000", "01", "00", "-01",
    ".5", "5.", "+1", "--1", "1e", "1e+", "1..2", "1n", "Number.MAX_VALUE",
]  # fmt: skip

NULS = [
    "\0", "\0\0", "\0" * 50, "a\0", "\0a", "a\0b", "a\0b\0c", " \0", "\0 ", "alice\0", "\0admin",
    "admin\0.example.org", "a@b.example\0", "%00\0", "\\0\0", "\0\n", "1\0", "\0" + "1", "ä\0",
    "\U0001f39f\0", "\0'; drop table users--",
]  # fmt: skip
SURROGATES = [
    "\ud800", "\udfff", "\udbff", "\udc00", "\ud800\ud800", "\udc00\ud800", "\udfff\udfff",
    "a\ud800", "\ud800a", "a\udfffb", "\ud83d", "\ud83da", "alice\udc80", "\udcff", "\udc80\udcff",
    "ä\ud800", " \udc00 ", "\ud800" * 20, "1\ud8ff", "\ud800@example.org", "long enough \udfff",
]  # fmt: skip
LENGTHS = [
    10_001, 10_002, 10_100, 11_000, 12_000, 13_000, 14_000, 15_000, 16_000, 16_383, 16_384, 16_385,
    20_000, 25_000, 30_000, 32_767, 32_768, 40_000, 50_000, 60_000,
]  # fmt: skip
URL_LENGTHS = [401, 402, 450, 500, 511, 512, 513, 600, 700, 800, 900, 1000, 1023, 1024, 1025, 2000,
               3000, 4000, 4095, 4096, 6000]  # fmt: skip


def _array(part: str, size: int) -> str:
    return f"[{','.join([part] * size)}]"


# "[]" is wrong only where an array must hold something.
ARRAYS = [
    *(_array("1", size) for size in (1001, 1002, 2000, 5000, 10_000, 20_000)),
    *(_array('""', size) for size in (51, 101, 1001, 5000, 10_000)),
    *(_array("[]", size) for size in (1, 2, 51, 1001, 15_000)),
    *(_array("{}", size) for size in (1, 2, 51, 1001, 15_000)),
    *(_array("null", size) for size in (1, 2, 51, 1001, 10_000)),
]

UNKNOWN_NAMES = [
    "role", "user_id", "status", "id", "is_admin", "admin", "active", "organizer_id", "total",
    "paid", "version", "created_at", "email_verified", "password_hash", "__proto__", "constructor",
    "__class__", "", " ", "\0", "$where", "..", "*", "seat-id", "Seat_Id", "seatId", "seat_id ",
    "\u0455eat_id", "seat_ids[]", "x" * 1000,
]  # fmt: skip

DEPTHS = [5, 20, 50, 100, 200, 500, 1000, 2000, 5000, 9000]
NESTED = [
    *("[" * depth + "]" * depth for depth in DEPTHS),
    *('{"a":' * depth + "1" + "}" * depth for depth in DEPTHS),
    *("[" * depth for depth in (1, 50, 1000, 20_000)),
    *('[{"a":' * depth for depth in (1, 100, 5000)),
]

BAD_UTF8 = [
    b"\xff", b"\xfe", b"\xff\xfe", b"\xfe\xff", b"\x80", b"\xbf", b"\xc3", b"\xc3(", b"\xc0\x80",
    b"\xc1\xbf", b"\xe0\x80\x80", b"\xe2\x82", b"\xe2(\xa1", b"\xed\xa0\x80", b"\xed\xbf\xbf",
    b"\xf0\x80\x80\x80", b"\xf0\x9f\x8e", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80",
    b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80", b"\xe4",
]  # fmt: skip
ENCODINGS = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]

CONTENT_TYPES = [
    "", " ", "x", "/", "json", "text", "text/json", "text/plain", "text/html", "text/csv",
    "text/plain; charset=utf-8", "application/xml", "application/octet-stream", "application/jsonx",
    "application/x-json", "application/xjson", "application/javascript", "application/*", "*/*",
    "image/png", "audio/json", "multipart/form-data", "multipart/form-data; boundary=x",
    "application/problem", "json/application", "application;json",
]  # fmt: skip

_UUID = "0b8f2c1e-3c69-4f9e-9d53-0d4c9c1f4d11"
BAD_IDS = [
    "0", "-1", "+1", "01", "1.0", "1.5", "1e0", "1e3", "0x1", "1_0", " 1", "1 ", "1\t", "1,2",
    "1;2", "1\n", "\u0661", "\uff11", "null", "NaN", "[1]", "*", "%", "%31", "../1", "1/..",
    "x", "9223372036854775808", _UUID[:-1], _UUID + "0", _UUID.replace("-", ""), "{" + _UUID + "}",
    "urn:uuid:" + _UUID, _UUID.replace("0b", "0g"), _UUID + " ", "-" * 36, "0" * 32,
]  # fmt: skip

BAD_KEYS = [
    b"", b" ", b"  ", b"a b", b"a\tb", b"\x80", b"\xbf", b"\xfe", b"\xff", b"a\xff", b"\xffa",
    "ä".encode(), "ä".encode("latin-1"), "🎟".encode(), "\uff11".encode(), b"k" * 65, b"k" * 66,
    b"k" * 128, b"k" * 1000, b"k" * 8000, b"a, b", b"key 1",
]  # fmt: skip

SQL = [
    "'", "''", '"', "' or '1'='1", "1 or 1=1", "1; drop table bookings", "1); delete from seats--",
    "'; truncate users cascade; --", "1 union select password_hash from users", "1/**/or/**/1=1",
    "$1", "$$; select 1; $$", "%", "_", "%_%", "\\", "\\'; --", "1::text", "pg_sleep(5)",
    "1; select pg_sleep(5)--", "' || pg_sleep(5) || '", "null", "default", "1 -- ", "E'\\x27'",
    "alice'--", "U&'\\0027'", "copy users to program 'x'",
]  # fmt: skip
REDIS = [
    "*", "*3", "$3", "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n", "\r\nFLUSHALL\r\n", "\r\n", "\n",
    "\r", "{a}", "{", "}", "{}", "}{", "{1}:seat", "seat:{1}:*", "[a-z]*", "?", "h[ae]llo", ":1",
    "+OK\r\n", "-ERR\r\n", "KEYS *", "redis.call('flushall')", "a:b:c", "1 EX 1", "$-1\r\n",
]  # fmt: skip


def _cursor(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


_NOW = "2026-11-21T05:00:00+00:00"
BAD_CURSORS = [
    "", " ", "x", "0", "AAAA", "!!!!", "W", "W10=", "W10 ", "..", "x" * 200, "x" * 401,
    *map(
        _cursor,
        [
            b"", b"null", b"true", b"1", b'"a"', b"[]", b"{}", b"[[]]", b"[{}]", b"[null]",
            b"[true]", b"[false]", b"[1.5]", b"[NaN]", b"[-1]", b"[0]", b"[9223372036854775808]",
            b"[1e400]", b"[1,2,3]", b'["a","b","c"]', b'["a\\u0000"]', b'["\\ud800"]', b"[" * 90,
            b"[1", b"\xff\xfe", b'[null, "x"]', b'["x", 1]', b'["2026-01-01", 1]',
            f'["{_NOW}", 0]'.encode(), f'["{_NOW}", true]'.encode(), f'["{_NOW}", "x"]'.encode(),
            f'["0001-01-01T00:00:00+14:00", "{_UUID}"]'.encode(),
            f'["{_NOW}",  "{_UUID}"]'.encode(),
        ],
    ),
]  # fmt: skip
