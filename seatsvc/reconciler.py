"""Compares what the database says twice, one event at a time, and how far the chores are behind."""

from seatsvc import db, metrics

SQL = db.queries("reconciler")


class Reconciler:
    """Sets the gauges that should be 0."""

    def __init__(self, database: db.Database) -> None:
        self._db = database
        self._event_id = 0

    async def check(self) -> None:
        """The next event, unless another worker is at it.

        Raises Unavailable.
        """
        async with self._db.long_transaction() as connection:
            if not await connection.fetchval(SQL["try_turn"]):
                return
            self._event_id = await connection.fetchval(SQL["get_next_event"], self._event_id)
            row = await connection.fetchrow(
                SQL["count_violations"], self._event_id, timeout=db.LONG_S
            )
        for invariant, count in (row or {}).items():
            metrics.VIOLATIONS.labels(invariant).set(count)

    async def measure(self) -> None:
        """How late mails and expiries are.

        Raises Unavailable.
        """
        row = await self._db.one(SQL["get_lags"])
        metrics.OUTBOX_LAG.set(max(0, row["outbox_s"]))
        metrics.OUTBOX_DEAD.set(row["dead"])
        metrics.EXPIRY_LAG.set(max(0, row["expiry_s"]))
