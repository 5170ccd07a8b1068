-- Each bake that came to an end: the first start of an engine's settings, and its first rests,
-- done while nobody waited (decision 0018). Only grows.
CREATE TABLE baked (
    seq      INTEGER PRIMARY KEY,
    recipe   TEXT NOT NULL,      -- digest of model, version, flags, driver and caches; '': not known
    engine   TEXT NOT NULL,
    at       TEXT NOT NULL,      -- when it began
    ended_at TEXT NOT NULL,
    seconds  REAL NOT NULL,
    energy_j REAL,               -- of the moves that were made for it; NULL: not measured
    outcome  TEXT NOT NULL CHECK (outcome IN ('ok', 'failed')),
    error    TEXT,
    missing  TEXT,               -- what still keeps a wake from being as quick as it can be
    CHECK ((outcome = 'failed') = (error IS NOT NULL))
) STRICT;

CREATE INDEX baked_recipe ON baked (recipe);
