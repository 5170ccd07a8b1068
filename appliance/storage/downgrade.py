"""Makes a database that an older version can read of one that a newer one has written.

For `install.sh rollback`: the newer version does it, with the older one's migrations; the
daemon is stopped. Everything that both know is taken along, and the queue must come whole:
what was accepted stays so. Of the ledger, rows that the older schema has no place for are
left behind. The newer database is kept among the backups.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from sqlite_utils import Database

from appliance.config import find
from appliance.errors import ApplianceError, StorageFailed
from appliance.storage import backup, damage, state_dir
from appliance.storage.store import migrations

PARTS = ("", "-wal", "-shm")


def downgrade(path: Path, folder: Path) -> dict[str, int] | None:
    """Have at `path` what the migrations in `folder` make. None: it is that already.

    Nobody has it open. Returns how many rows of which tables were left behind.
    Raises StorageFailed, sqlite3.Error or OSError: then everything is as it was.
    """
    if not path.exists():
        return None
    newer = _migrations_in(path)
    if not newer - {file.stem for file in folder.glob("*.sql")}:
        return None
    fresh = Path(f"{path}.older")
    _remove(fresh)
    try:
        left = _rewrite(path, fresh, folder)
        with closing(sqlite3.connect(path)) as old:
            aside = backup.before(path, old, max(newer))
    except BaseException:
        _remove(fresh)
        raise
    # Of the old one: it would be taken for the new one's.
    for part in PARTS[1:]:
        Path(f"{path}{part}").unlink(missing_ok=True)
    fresh.rename(path)
    backup.sync(path.parent)
    sys.stderr.write(f"the newer database is kept as {aside}\n")
    return left


def _migrations_in(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        # Emptied into the file: what stands in the -wal is part of it.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        known = Database(connection, execute_plugins=False)
        return {migration.name for migration in migrations().applied(known)}


def _rewrite(path: Path, fresh: Path, folder: Path) -> dict[str, int]:
    with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
        migrations(sorted(folder.glob("*.sql"))).apply(Database(connection, execute_plugins=False))
        connection.execute("ATTACH ? AS newer", (str(path),))
        connection.execute("BEGIN")
        tables = _tables(connection, "main")
        left = {
            table: _take(connection, table)
            for table in tables
            if table in _tables(connection, "newer")
        }
        # Numbers that were given once are not given again.
        connection.execute("DELETE FROM main.sqlite_sequence")
        connection.execute(
            "INSERT INTO main.sqlite_sequence SELECT * FROM newer.sqlite_sequence"
            " WHERE name IN (SELECT name FROM main.sqlite_schema)"
        )
        if broken := connection.execute("PRAGMA main.foreign_key_check").fetchall():
            raise StorageFailed(f"{path}: {len(broken)} rows refer to what is not there")
        connection.execute("COMMIT")
    with fresh.open("rb+") as written:
        os.fsync(written.fileno())
    return {table: count for table, count in left.items() if count}


def _tables(connection: sqlite3.Connection, schema: str) -> list[str]:
    found = connection.execute(
        f"SELECT name FROM {schema}.sqlite_schema WHERE type = 'table'"  # noqa: S608
        " AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '_sqlite_%'"
    )
    return [name for (name,) in found]


def _take(connection: sqlite3.Connection, table: str) -> int:
    """Copy its rows. Returns how many did not fit; of the queue all must."""
    ours, theirs = (_columns(connection, schema, table) for schema in ("main", "newer"))
    names = ", ".join(name for name in ours if name in theirs)
    how = "INSERT" if table in damage.QUEUE else "INSERT OR IGNORE"
    connection.execute(f"DELETE FROM main.{table}")  # noqa: S608 - names of our own schema
    connection.execute(f"{how} INTO main.{table} ({names}) SELECT {names} FROM newer.{table}")  # noqa: S608
    counts = [
        connection.execute(f"SELECT count(*) FROM {schema}.{table}").fetchone()[0]  # noqa: S608
        for schema in ("newer", "main")
    ]
    return int(counts[0] - counts[1])


def _columns(connection: sqlite3.Connection, schema: str, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA {schema}.table_info({table})")]


def _remove(path: Path) -> None:
    for part in PARTS:
        Path(f"{path}{part}").unlink(missing_ok=True)


def main(arguments: Sequence[str]) -> int:
    """Rewrite the database for an older version; for install.sh, with the daemon stopped."""
    parser = ArgumentParser(prog="python -m appliance.storage.downgrade", description=main.__doc__)
    parser.add_argument("folder", type=Path, help="the older version's migrations")
    chosen = parser.parse_args(arguments)
    try:
        config = find(None)
        with state_dir.held(Path(config.state_dir)):
            left = downgrade(config.database, chosen.folder)
    except (ApplianceError, sqlite3.Error, OSError) as error:
        sys.stderr.write(f"the database cannot be taken back: {error}\n")
        return os.EX_SOFTWARE
    for table, count in (left or {}).items():
        sys.stderr.write(f"{table}: {count} rows have no place in the older version\n")
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
