"""Single rows of the log, for people and programs: requests and wakes. Reads only."""

from __future__ import annotations

import sqlite3

from msgspec import Struct

from appliance.reports.tally import Row
from appliance.reports.wall import Span

# Both are read backwards along an index, so that the newest rows of millions are there at once.
REQUESTS = """
SELECT * FROM requests
WHERE ended_at >= :since AND ended_at < :until AND (:state IS NULL OR state = :state)
  AND (:model IS NULL OR model = :model) AND (:client IS NULL OR client = :client)
ORDER BY ended_at DESC LIMIT :limit
"""
WAKES = """
SELECT * FROM wakes WHERE at >= :since AND at < :until ORDER BY at DESC LIMIT :limit
"""


class Found(Struct, frozen=True, kw_only=True):
    """Rows of one view, newest first. `more`: there are, beyond the limit."""

    names: list[str]
    rows: list[Row]
    more: bool


def find_requests(
    connection: sqlite3.Connection, span: Span, limit: int, **only: str | None
) -> Found:
    """Those that ended then. `only`: state, model, client; None: any."""
    return _find(connection, REQUESTS, span, limit, only)


def find_wakes(connection: sqlite3.Connection, span: Span, limit: int) -> Found:
    """Those that began then."""
    return _find(connection, WAKES, span, limit, {})


def _find(
    connection: sqlite3.Connection, query: str, span: Span, limit: int, only: dict[str, str | None]
) -> Found:
    values = {"since": span.start(), "until": span.end(), "limit": limit + 1, **only}
    cursor = connection.execute(query, values)
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    return Found(names=names, rows=rows[:limit], more=len(rows) > limit)
