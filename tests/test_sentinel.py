"""What a redis+sentinel:// URL says, and whom the sentinels elected."""

from urllib.parse import urlsplit

import pytest

from seatsvc.sentinel import Sentinels, Vote, elected

ONE, OTHER = Vote("10.0.0.1", 6379, 4), Vote("10.0.0.2", 6379, 5)


def test_urls() -> None:
    """The servers' password is not the sentinels', which may have one of their own."""
    url = "redis+sentinel://:pass%2Fword@one,two:5000,[::1]:5001/mymaster/3"
    sentinels = Sentinels(urlsplit(url))
    assert sentinels.name == "mymaster"
    assert sentinels.urls == ["redis://one:26379", "redis://two:5000", "redis://[::1]:5001"]
    assert sentinels.primary_url(ONE) == "redis://:pass%2Fword@10.0.0.1:6379/3"
    assert sentinels.primary_url(Vote("::1", 1, 0)) == "redis://:pass%2Fword@[::1]:1/3"


def test_urls_with_options() -> None:
    """Each server gets its own options; those of TLS are everybody's."""
    url = "rediss+sentinel://ann:word@one/main?sentinel_password=a%40b&ssl_ca_certs=%2Fca&db=2"
    sentinels = Sentinels(urlsplit(url))
    assert sentinels.urls == ["rediss://:a%40b@one:26379?ssl_ca_certs=%2Fca"]
    assert sentinels.primary_url(ONE) == (
        "rediss://ann:word@10.0.0.1:6379/0?ssl_ca_certs=%2Fca&db=2"
    )


@pytest.mark.parametrize(
    ("answers", "vote"),
    [
        ([(ONE, 2), (ONE, 2), (ONE, 2)], ONE),
        ([(ONE, 2), None, (ONE, 2)], ONE),
        ([(ONE, 0)], ONE),
        ([(ONE, 2), None, None], None),
        ([(ONE, 2), (OTHER, 2), None], None),
        ([(ONE, 2), (OTHER, 2), (OTHER, 2)], OTHER),
        ([(ONE, 1), (OTHER, 1)], None),
        ([(ONE, 4), (ONE, 4)], None),  # the URL names two of five: the others may say otherwise
        ([(ONE, 2), (Vote(ONE.host, ONE.port, 5), 2), None], None),
        ([None, None, None], None),
    ],
)
def test_elected(answers: list[tuple[Vote, int] | None], vote: Vote | None) -> None:
    """More than half of all sentinels must say the same: the server, and since which election."""
    assert elected(answers) == vote


def test_eras() -> None:
    """A server that becomes the primary again has another one."""
    assert len({ONE.era, OTHER.era, Vote(ONE.host, ONE.port, 6).era}) == 3
