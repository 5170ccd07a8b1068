-- What each depth of rest costs on this machine (docs/energy.md): one row for each depth of one
-- engine on one device. Of the edge down and the way up, `moves` holds how many were seen, their
-- mean and their variance, each of the last 20 or so: {"wake_s": [n, mean, variance], …}.
CREATE TABLE calibration (
    recipe     TEXT NOT NULL,             -- digest of made_of
    device     TEXT NOT NULL,             -- the meter's
    engine     TEXT NOT NULL,
    depth      TEXT NOT NULL,
    at         TEXT NOT NULL,             -- when its watts were measured, or it was first seen
    made_of    TEXT NOT NULL,             -- JSON: model, version, flags, driver, GPU …
    source     TEXT CHECK (source IN ('counter', 'integral', 'estimate')),
    power_w    REAL,                      -- at rest there; NULL: not measured
    spread_w   REAL NOT NULL DEFAULT 0,   -- standard deviation of the means it was made of
    settle_s   REAL,                      -- until the tail of what was before was over
    moves      TEXT NOT NULL,
    vram_bytes INTEGER,                   -- held there; NULL: not known
    ram_bytes  INTEGER,
    PRIMARY KEY (recipe, device, depth),
    CHECK (power_w IS NULL OR source IS NOT NULL)
) STRICT, WITHOUT ROWID;
