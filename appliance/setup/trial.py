"""Tries a version and its settings out beside the daemon that runs, and touches nothing of it.

What an upgrade would do is done to copies first: the database is copied and changed to the
newest schema, an engine starts, answers the check after a wake as it used to, sleeps and
wakes. What it compiles stays in the caches, where the daemon finds it later.

No door is open, no prompt is run: the copy's queue is emptied before.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from msgspec.structs import replace

from appliance.app import running
from appliance.building import build_engine
from appliance.clock import SystemClock
from appliance.config import Config
from appliance.errors import BakeFailed, StorageFailed
from appliance.notices import Baking, Notice
from appliance.storage import backup
from appliance.storage.damage import QUEUE
from appliance.storage.reading import connect
from appliance.storage.sql import Database
from appliance.storage.store import open_database

log = logging.getLogger(__name__)


async def try_out(config: Config, *, engine_python: str = "") -> Baking:
    """Bake in a folder of its own; the last word of that.

    `engine_python`: of another engine than the configuration's.

    Raises BakeFailed, ConfigError, InUse or StorageFailed: it would not serve.
    """
    folder = Path(config.state_dir) / "trial"
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="wattnap-") as runtime:
        trial = replace(
            config,
            state_dir=str(folder),
            # systemd makes one for each unit, and names it so.
            runtime_dir=os.environ.get("RUNTIME_DIRECTORY", runtime),
            engine=replace(
                config.engine,
                python=engine_python or config.engine.python,
                cache_dir=str(config.cache_dir),
            ),
        )
        try:
            _copy_database(config.database, trial.database)
            return await _bake(trial)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _copy_database(path: Path, to: Path) -> None:
    """With the newest schema and without a queue; none if there is none."""
    to.parent.mkdir(mode=0o700, parents=True)
    if not path.exists():
        return
    try:
        with closing(connect(path)) as connection:
            backup.copy(connection, to)
        with closing(open_database(to)) as db:
            _empty_queue(db)
    except (sqlite3.Error, OSError) as error:
        raise StorageFailed(f"{path}: no copy of it can be made and changed: {error}") from error


def _empty_queue(db: Database) -> None:
    for table in reversed(QUEUE):  # who is referred to goes last
        db.execute(f"DELETE FROM {table}")  # noqa: S608 - names of our own schema


async def _bake(config: Config) -> Baking:
    def wanted(notice: Notice) -> bool:
        return isinstance(notice, Baking)

    async with running(config, build_engine(config), None, SystemClock()) as appliance:
        with appliance.intake.notices.subscribed(wanted) as news:
            appliance.bake.ask(again=True)
            async for notice in news:
                assert isinstance(notice, Baking)
                log.info("%s %s", notice.step, notice.detail)
                if notice.step == "baked":
                    return notice
                if notice.step in {"failed", "stopped"}:
                    raise BakeFailed(notice.detail)
    raise BakeFailed("it ended without a word")
