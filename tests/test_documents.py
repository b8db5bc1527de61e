"""What reads the documents, on documents of its own."""

from typing import Any

import pytest

from tests.documents import blocks, commands, differs, illustrations, parts

ID, OTHER_ID = "60e77ff3-491d-4c53-9f36-54df2eaf8bdf", "394e7718-f12c-4a88-b385-068244b83b4a"


def test_blocks_have_the_answers_of_their_section() -> None:
    text = '## A\n```sh\none\n```\ntext\n```json\n{}\n```\n## B\n```json\n{"a": 1}\n```\n'
    [block] = blocks(text)
    assert (block.text, block.answers) == ("one\n", [("json", "{}\n")])
    assert illustrations(text) == ['{"a": 1}\n']


@pytest.mark.parametrize("language", ["", "bash", "console"])
def test_blocks_in_other_words_do_not_slip_by(language: str) -> None:
    with pytest.raises(ValueError, match="a block in"):
        blocks(f"```{language}\nmake run\n```\n")


@pytest.mark.parametrize("fence", ["  ```sh", "> ```sh", "~~~sh"])
def test_blocks_in_other_fences_do_not_slip_by(fence: str) -> None:
    with pytest.raises(ValueError, match="not found"):
        blocks(f"- so:\n{fence}\nmake run\n{fence[:-2]}\n")


def test_commands_may_have_several_lines() -> None:
    assert commands("a 'b\nc'\n\nd \\\n  e\nf\n") == ["a 'b\nc'", "d \\\n  e", "f"]


def test_parts_are_heads_and_documents() -> None:
    text = 'HTTP/1.1 201 Created\r\nETag: "1"\r\n\r\n{"a": {}}[]\nHTTP/1.1 304 Not Modified\r\n'
    assert list(parts(text)) == [(201, {"etag": '"1"'}), {"a": {}}, [], (304, {})]


@pytest.mark.parametrize(
    ("shown", "real"),
    [
        ({"id": ID}, {"id": OTHER_ID}),
        ({"at": "2026-11-21T02:43:02.165069Z"}, {"at": "2027-01-01T00:00:00Z"}),
        ({"a": 1, "…": ""}, {"a": 1, "b": 2}),
        ([1, "…"], [1, 2, 3]),
        ("eyJ…", "eyJhbGciOiJ"),
        ((200, {"etag": '"5d41402abc4b2a76"'}), (200, {"etag": '"7d793037a0760186"', "age": "0"})),
    ],
)
def test_what_is_another_each_time_does_not_matter(shown: Any, real: Any) -> None:
    assert differs(shown, real) is None


@pytest.mark.parametrize(
    ("shown", "real"),
    [
        ({"id": ID}, {"id": "alice"}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1, "b": 2}, {"a": 1}),
        ({"a": {"b": [{"c": 1}]}}, {"a": {"b": [{"c": 2}]}}),
        ({"a": 1}, {"a": True}),
        ({"a": None}, {"a": 1}),
        ([1], [1, 2]),
        ([1, 2, "…"], [1]),
        ("active", "cancelled"),
        ((200, {}), (409, {})),
        ((200, {"etag": '"1"'}), (200, {})),
        ((200, {}), {"status": 200}),
    ],
)
def test_all_else_matters(shown: Any, real: Any) -> None:
    assert differs(shown, real) is not None
