-- What each engine said to the check after its first start: 8 greedy tokens, by all
-- that may change them (weights, versions, driver, GPU, flags; one digest).
CREATE TABLE canary (
    identity TEXT PRIMARY KEY,
    said     TEXT NOT NULL,
    at       TEXT NOT NULL
) STRICT;
