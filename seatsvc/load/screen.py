"""What is seen meanwhile, on standard error: a bar where there is a terminal, else lines."""

import asyncio
import sys
from collections import Counter
from time import perf_counter

from seatsvc.load.buyers import Run

WIDTH = 30
TICK_S = 0.25


class Screen:
    """One line that changes, and lines that stay."""

    def __init__(self) -> None:
        self._moving = sys.stderr.isatty()
        self._drawn = False

    def line(self, text: str) -> None:
        """Say something that stays."""
        self.clear()
        print(text, file=sys.stderr, flush=True)

    def bar(self, part: float, text: str) -> None:
        """Show how far it is, where there is a terminal."""
        if self._moving:
            part = min(max(part, 0.0), 1.0)
            done = round(WIDTH * part)
            shown = f"\r\x1b[K[{'#' * done}{'.' * (WIDTH - done)}] {part:4.0%}  {text}"
            print(shown, end="", file=sys.stderr, flush=True)
            self._drawn = True

    def clear(self) -> None:
        """Take the bar away."""
        if self._drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._drawn = False

    async def watch(self, run: Run, seconds: float) -> None:
        """Show the live rates until cancelled."""
        seen, before, counts = 0, perf_counter(), Counter[tuple[str, int]]()
        while True:
            await asyncio.sleep(TICK_S)
            calls, now = run.history.calls[seen:], perf_counter()
            seen += len(calls)
            counts.update((call.kind, call.status) for call in calls)
            slowest_ms = max((1000 * (call.ended - call.started) for call in calls), default=0)
            self.bar(
                max(run.part_done, 1 - (run.ends_at - now) / seconds),
                f"{len(calls) / (now - before):6,.0f} calls/s  {counts['book', 201]:,} booked  "
                f"{counts['book', 409]:,} refused  slowest {slowest_ms:,.0f} ms",
            )
            before = now
