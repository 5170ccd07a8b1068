-- What was done and what it cost. Only grows; read it with any SQLite tool.
-- NULL means "not measured", which is not 0.

CREATE TABLE ledger_request (
    seq               INTEGER PRIMARY KEY,
    request           INTEGER UNIQUE,          -- inbox.seq of a durable request
    id                TEXT,                    -- NULL: refused before it had one
    door              TEXT NOT NULL,
    client            TEXT NOT NULL,
    engine            TEXT NOT NULL,
    device            TEXT NOT NULL,
    model             TEXT NOT NULL,
    class             TEXT CHECK (class IN ('interactive', 'batch')),
    state             TEXT NOT NULL CHECK (state IN ('done', 'failed', 'refused')),
    error             TEXT,                    -- code
    accepted_at       TEXT NOT NULL,
    started_at        TEXT,
    ended_at          TEXT NOT NULL,
    queued_s          REAL,                    -- acceptance to its (last) start
    wake_s            REAL,                    -- of that, waiting for the engine to wake
    ttft_s            REAL,                    -- acceptance to the first token, wake included
    total_s           REAL,
    prompt_tokens     INTEGER,
    completion_tokens INTEGER,
    attempts          INTEGER NOT NULL,
    marginal_j        REAL,                    -- its share of what ran, above the idle floor
    wake_j            REAL,                    -- of the wake that it waited for
    energy_source     TEXT,
    quality           TEXT CHECK (quality IN ('good', 'low')),
    CHECK ((state = 'done') = (error IS NULL))
) STRICT;

CREATE INDEX ledger_request_ended ON ledger_request (ended_at);

-- One row per climb, and per edge on the way down.
CREATE TABLE ledger_transition (
    seq        INTEGER PRIMARY KEY,
    engine     TEXT NOT NULL,
    device     TEXT NOT NULL,
    at         TEXT NOT NULL,                  -- when it began
    ended_at   TEXT NOT NULL,
    from_depth TEXT NOT NULL,
    to_depth   TEXT NOT NULL,
    cause      TEXT NOT NULL,                  -- request, operator, policy, failure, stop
    seconds    REAL NOT NULL,
    energy_j   REAL,
    source     TEXT,
    outcome    TEXT NOT NULL CHECK (outcome IN ('ok', 'failed')),
    error      TEXT
) STRICT;

CREATE INDEX ledger_transition_at ON ledger_transition (at);

-- What the meter counted, by what the engine was doing. Rows do not overlap.
CREATE TABLE ledger_energy (
    seq        INTEGER PRIMARY KEY,
    engine     TEXT NOT NULL,
    device     TEXT NOT NULL,
    line       TEXT NOT NULL CHECK (line IN ('serving', 'idle', 'entering', 'waking')),
    depth      TEXT NOT NULL,                  -- where it is; entering: where to; waking: where from
    started_at TEXT NOT NULL,
    ended_at   TEXT NOT NULL,
    seconds    REAL NOT NULL CHECK (seconds >= 0),
    energy_j   REAL,
    source     TEXT
) STRICT;

CREATE INDEX ledger_energy_started ON ledger_energy (started_at);

CREATE VIEW requests AS
SELECT id, door, client, engine, model, class, state, error, accepted_at, started_at, ended_at,
       queued_s, wake_s, ttft_s, total_s, prompt_tokens, completion_tokens, attempts,
       marginal_j, wake_j, energy_source, quality
FROM ledger_request;

CREATE VIEW wakes AS
WITH climbs AS (
    SELECT *, lead(at) OVER (PARTITION BY engine ORDER BY seq) AS left_at
    FROM ledger_transition
)
SELECT at, engine, from_depth, cause, seconds AS wake_s, energy_j AS wake_j,
       iif(outcome = 'ok', (julianday(left_at) - julianday(ended_at)) * 86400.0, NULL) AS awake_s,
       (SELECT count(*) FROM ledger_request r
        WHERE r.engine = climbs.engine AND r.started_at >= climbs.ended_at
          AND (climbs.left_at IS NULL OR r.started_at < climbs.left_at)) AS requests,
       outcome
FROM climbs
WHERE to_depth = 'awake';

CREATE VIEW energy_by_depth AS
SELECT engine, device, depth, line, sum(seconds) AS seconds, sum(energy_j) AS energy_j,
       sum(iif(energy_j IS NULL, seconds, 0.0)) AS unmeasured_s,
       group_concat(DISTINCT source) AS source
FROM ledger_energy
GROUP BY engine, device, depth, line;

CREATE VIEW energy_by_day AS
WITH spent AS (
    SELECT date(started_at, 'localtime') AS day, engine, device, sum(energy_j) AS energy_j,
           group_concat(DISTINCT source) AS source
    FROM ledger_energy
    GROUP BY 1, 2, 3
), served AS (
    SELECT date(ended_at, 'localtime') AS day, engine, count(*) AS requests,
           sum(prompt_tokens) AS prompt_tokens, sum(completion_tokens) AS completion_tokens
    FROM ledger_request
    WHERE state != 'refused'
    GROUP BY 1, 2
), woken AS (
    SELECT date(at, 'localtime') AS day, engine, count(*) AS wakes
    FROM ledger_transition
    WHERE to_depth = 'awake' AND outcome = 'ok'
    GROUP BY 1, 2
)
SELECT day, engine, device, energy_j, coalesce(requests, 0) AS requests,
       coalesce(wakes, 0) AS wakes, prompt_tokens, completion_tokens, source
FROM spent
LEFT JOIN served USING (day, engine)
LEFT JOIN woken USING (day, engine);
