"""The TypeScript client is made from the real document, compiles, and works against the service."""

import asyncio
import os
import re
import shutil
from io import StringIO
from pathlib import Path

import pytest
import redis.asyncio

from seatsvc.settings import Settings
from tests.conftest import Service, serve

FOLDER = Path(__file__).parents[1] / "docs" / "typescript"
OURS = shutil.ignore_patterns("node_modules", "build", "schema.d.ts")
UNREACHABLE = re.compile(r"ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EAI_AGAIN|ENETUNREACH")
NODE_MIN = 20
BUSY_MS = 2500  # over two of the seconds that `Retry-After` names

WATCHING = """
import { connect, watch } from "./client.js";
const signal = new AbortController().signal;
for await (const { kind, data } of watch(connect(process.env.SEATSVC_URL!), 1, signal)) {
  console.log(kind, data.counts.free);
}
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("npm"), reason="there is no npm on the PATH"),
]


async def run(folder: Path, *command: str, url: str = "") -> tuple[int | None, str]:
    """The exit status, and what was printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=os.environ | {"SEATSVC_URL": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    return process.returncode, output


async def works(folder: Path, *command: str, url: str = "") -> str:
    status, output = await run(folder, *command, url=url)
    assert status == 0, output
    return output


@pytest.fixture(scope="module")
async def project(tmp_path_factory: pytest.TempPathFactory, shared: Service) -> Path:
    """A copy with its packages, and the types of the service's document."""
    parent = tmp_path_factory.mktemp("project")
    node = (await works(parent, "node", "--version")).strip()
    if int(node[1:].split(".")[0]) < NODE_MIN:
        pytest.skip(f"Node {NODE_MIN} or newer is needed, this is {node}")
    folder = Path(shutil.copytree(FOLDER, parent / "typescript", ignore=OURS))
    status, output = await run(folder, "npm", "ci")
    if status and UNREACHABLE.search(output):
        pytest.skip("npm does not reach its registry")
    assert status == 0, output
    await works(folder, "npm", "run", "types", url=shared.url)
    return folder


async def occupy(service: Service, *seat_ids: int) -> None:
    """As a rival does who is at these seats for a moment."""
    url = service.settings.redis_url.get_secret_value()
    async with redis.asyncio.Redis.from_url(url) as client:
        for seat_id in seat_ids:
            await client.set(f"{{1}}:lock:{seat_id}", "rival", px=BUSY_MS)


async def test_example_signs_up_watches_books_and_cancels(
    service: Service, project: Path, log: StringIO
) -> None:
    """It meets a rival at its first try, and comes again when `Retry-After` says."""
    await works(project, "npm", "run", "build")
    await occupy(service, 1, 2)
    output = await works(project, "node", "build/example.js", url=service.url)
    assert '"route": "/holds", "status": 409' in log.getvalue()
    assert "snapshot: 80 free, 0 held, 0 booked" in output
    assert "held: 1,2 for 600 s" in output
    assert "change: 78 free, 2 held, 0 booked" in output
    assert "booked: 90 EUR" in output
    assert "now: cancelled" in output
    rows = await service.sql("select status, quantity from bookings")
    assert [tuple(row) for row in rows] == [("cancelled", 2)]
    assert len(await service.sql("select from idempotency_keys")) == 2


async def test_watcher_outlives_a_restart(test_settings: Settings, project: Path) -> None:
    """It comes back by itself, and is told what has happened since."""
    (project / "watching.ts").write_text(WATCHING)
    await works(project, "npx", "tsc")
    async with serve(test_settings) as service:
        port, url = int(service.url.rpartition(":")[2]), service.url
        process = await asyncio.create_subprocess_exec(
            "node", "build/watching.js", cwd=project, env=os.environ | {"SEATSVC_URL": url},
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        assert await process.stdout.readline() == b"snapshot 80\n"
    async with serve(test_settings, port) as service:
        person = await service.newcomer()
        assert (await person.book(1)).status_code == 201
        assert await process.stdout.readline() in (b"change 79\n", b"snapshot 79\n")
    process.kill()
    await process.wait()


async def test_wrong_calls_do_not_compile(project: Path) -> None:
    """The types are no mere `any`: two ways at once, a missing name, a wrong status and path."""
    wrong = project / "wrong.ts"
    wrong.write_text(
        'import { connect } from "./client.js";\n'
        'const client = connect("");\n'
        'await client.POST("/bookings", { body: { seat_id: 1, seat_ids: [2] } });\n'
        'await client.POST("/events", { body: { capacity: 5 } });\n'
        'await client.GET("/bookings", { params: { query: { status: "gone" } } });\n'
        'await client.GET("/nowhere");\n'
    )
    status, output = await run(project, "npx", "tsc")
    assert status != 0
    assert {int(line) for line in re.findall(r"wrong\.ts\((\d+),", output)} == {3, 4, 5, 6}


def test_lock_file_names_no_registry() -> None:
    """Whoever installs takes their own registry."""
    lock = (FOLDER / "package-lock.json").read_text()
    assert '"integrity": "sha512-' in lock
    assert '"resolved"' not in lock
