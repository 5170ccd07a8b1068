-- Joules by the hour and by what they went into; requests are completed once theirs are known,
-- and then counted by the hour, too, so that old ones can go (docs/energy.md).
-- An "hour" is where a full hour of local time began, in UTC; once rolled up, where a local day did.

DROP VIEW energy_by_day;
DROP VIEW energy_by_depth;
DROP VIEW wakes;
DROP VIEW requests;

ALTER TABLE ledger_request ADD COLUMN tail_j REAL;     -- its share of the tails after loads
ALTER TABLE ledger_request ADD COLUMN full_j REAL;     -- marginal_j + wake_j + tail_j
ALTER TABLE ledger_request ADD COLUMN period INTEGER;  -- the awake period it ran in; NULL: never ran
ALTER TABLE ledger_request ADD COLUMN final INTEGER NOT NULL DEFAULT 0 CHECK (final IN (0, 1));

CREATE INDEX ledger_request_open ON ledger_request (period) WHERE final = 0;

ALTER TABLE ledger_transition ADD COLUMN period INTEGER;    -- of a climb: which awake period it began
ALTER TABLE ledger_transition ADD COLUMN requests INTEGER;  -- that ran in it; NULL: not yet known
ALTER TABLE ledger_transition ADD COLUMN tail_j REAL;       -- of the tails in it

CREATE INDEX ledger_transition_period ON ledger_transition (period) WHERE period IS NOT NULL;

-- What the meter that bills has counted. idle, entering, waking and unattributed fill all
-- time; request and tail lie within the time of an awake engine's idle line, above its floor.
CREATE TABLE ledger_hour (
    hour     TEXT NOT NULL,
    span     TEXT NOT NULL CHECK (span IN ('hour', 'day')),
    engine   TEXT NOT NULL,
    device   TEXT NOT NULL,
    line     TEXT NOT NULL CHECK (
        line IN ('request', 'tail', 'idle', 'entering', 'waking', 'unattributed')),
    depth    TEXT NOT NULL,                  -- where it is; entering: where to; waking: where from
    source   TEXT NOT NULL CHECK (source IN ('counter', 'integral', 'estimate', 'table', 'none')),
    seconds  REAL NOT NULL CHECK (seconds >= 0),
    energy_j REAL,
    PRIMARY KEY (hour, span, engine, device, line, depth, source),
    CHECK ((source = 'none') = (energy_j IS NULL))  -- "none": not measured
) STRICT, WITHOUT ROWID;

INSERT INTO ledger_hour
SELECT strftime('%Y-%m-%dT%H:%M:%S.000Z',
                strftime('%s', started_at) - strftime('%s', started_at, 'localtime') % 3600,
                'unixepoch') AS hour,
       'hour', engine, device, iif(line = 'serving', 'unattributed', line), depth,
       iif(energy_j IS NULL, 'none', coalesce(source, 'estimate')), sum(seconds), sum(energy_j)
FROM ledger_energy
GROUP BY 1, 3, 4, 5, 6, 7;

DROP TABLE ledger_energy;
ALTER TABLE ledger_hour RENAME TO ledger_energy;

-- What each meter has counted, the one that bills among them, in all and by rail.
CREATE TABLE ledger_meter (
    hour     TEXT NOT NULL,
    span     TEXT NOT NULL CHECK (span IN ('hour', 'day')),
    meter    TEXT NOT NULL,
    device   TEXT NOT NULL,
    rail     TEXT NOT NULL,                  -- as the board prints it; '': the meter's total
    source   TEXT NOT NULL CHECK (source IN ('counter', 'integral', 'estimate')),
    seconds  REAL NOT NULL CHECK (seconds >= 0),  -- that it measured
    energy_j REAL NOT NULL,
    PRIMARY KEY (hour, span, meter, device, rail)
) STRICT, WITHOUT ROWID;

-- Requests that are final, counted by the hour in which they ended.
CREATE TABLE ledger_request_hour (
    hour              TEXT NOT NULL,
    span              TEXT NOT NULL CHECK (span IN ('hour', 'day')),
    engine            TEXT NOT NULL,
    device            TEXT NOT NULL,
    model             TEXT NOT NULL,
    door              TEXT NOT NULL,
    client            TEXT NOT NULL,
    class             TEXT NOT NULL,         -- '': refused before it had one
    state             TEXT NOT NULL,
    source            TEXT NOT NULL,         -- "none": their joules were not measured
    requests          INTEGER NOT NULL,
    prompt_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    marginal_j        REAL,
    wake_j            REAL,
    tail_j            REAL,
    full_j            REAL,
    marginal_tokens   INTEGER NOT NULL,      -- completion tokens of those whose marginal_j is known
    full_tokens       INTEGER NOT NULL,      -- likewise
    PRIMARY KEY (hour, span, engine, device, model, door, client, class, state, source)
) STRICT, WITHOUT ROWID;

-- What was learned about this machine, so that the next daemon need not learn it anew.
CREATE TABLE learned (
    engine TEXT NOT NULL,
    device TEXT NOT NULL,
    name   TEXT NOT NULL,                    -- floor_w, boost_w, …
    of     TEXT NOT NULL,                    -- a depth, or ''
    value  REAL NOT NULL,
    at     TEXT NOT NULL,
    PRIMARY KEY (engine, device, name, of)
) STRICT, WITHOUT ROWID;

CREATE VIEW requests AS
SELECT id, door, client, engine, device, model, class, state, error, accepted_at, started_at,
       ended_at, queued_s, wake_s, ttft_s, total_s, prompt_tokens, completion_tokens, attempts,
       marginal_j, wake_j, tail_j, full_j, energy_source, quality, final, period
FROM ledger_request;

CREATE VIEW wakes AS
WITH climbs AS (
    SELECT *, lead(at) OVER (PARTITION BY engine ORDER BY seq) AS left_at
    FROM ledger_transition
)
SELECT at, engine, device, from_depth, cause, seconds AS wake_s, energy_j AS wake_j, tail_j,
       iif(outcome = 'ok', (julianday(left_at) - julianday(ended_at)) * 86400.0, NULL) AS awake_s,
       CASE WHEN requests IS NULL AND period IS NOT NULL
            THEN (SELECT count(*) FROM ledger_request r
                  WHERE r.final = 0 AND r.period = climbs.period)
            ELSE requests END AS requests,
       source, outcome, period
FROM climbs
WHERE to_depth = 'awake';

-- Final and not yet final together.
CREATE VIEW requests_by_hour AS
SELECT hour, span, engine, device, model, door, client, class, state,
       nullif(source, 'none') AS source, requests, prompt_tokens, completion_tokens,
       marginal_j, wake_j, tail_j, full_j, marginal_tokens, full_tokens
FROM ledger_request_hour
UNION ALL
SELECT strftime('%Y-%m-%dT%H:%M:%S.000Z',
                strftime('%s', ended_at) - strftime('%s', ended_at, 'localtime') % 3600, 'unixepoch'),
       'hour', engine, device, model, door, client, coalesce(class, ''), state, energy_source,
       count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0),
       sum(marginal_j), NULL, NULL, NULL,
       coalesce(sum(iif(marginal_j IS NULL, 0, completion_tokens)), 0), 0
FROM ledger_request
WHERE final = 0
GROUP BY 1, 3, 4, 5, 6, 7, 8, 9, 10;

CREATE VIEW energy_by_hour AS
SELECT hour, engine, device, line, depth, sum(seconds) AS seconds, sum(energy_j) AS energy_j,
       sum(iif(energy_j IS NULL, seconds, 0.0)) AS unmeasured_s,
       group_concat(DISTINCT nullif(source, 'none')) AS source
FROM ledger_energy
WHERE span = 'hour'
GROUP BY 1, 2, 3, 4, 5;

CREATE VIEW energy_by_depth AS
SELECT engine, device, depth, line, sum(seconds) AS seconds, sum(energy_j) AS energy_j,
       sum(iif(energy_j IS NULL, seconds, 0.0)) AS unmeasured_s,
       group_concat(DISTINCT nullif(source, 'none')) AS source
FROM ledger_energy
GROUP BY engine, device, depth, line;

CREATE VIEW energy_by_line AS
SELECT engine, device, line, sum(seconds) AS seconds, sum(energy_j) AS energy_j,
       sum(iif(energy_j IS NULL, seconds, 0.0)) AS unmeasured_s,
       sum(energy_j) / sum(sum(energy_j)) OVER (PARTITION BY engine, device) AS share,
       group_concat(DISTINCT nullif(source, 'none')) AS source
FROM ledger_energy
GROUP BY engine, device, line;

CREATE VIEW energy_by_day AS
WITH spent AS (
    SELECT date(hour, 'localtime') AS day, engine, device,
           sum(iif(line IN ('request', 'tail'), 0.0, seconds)) AS seconds,
           sum(energy_j) AS energy_j,
           sum(energy_j) FILTER (WHERE line = 'request') AS request_j,
           sum(energy_j) FILTER (WHERE line = 'tail') AS tail_j,
           sum(energy_j) FILTER (WHERE line = 'idle' AND depth = 'awake') AS awake_j,
           sum(energy_j) FILTER (WHERE line = 'idle' AND depth != 'awake') AS rest_j,
           sum(energy_j) FILTER (WHERE line = 'waking') AS waking_j,
           sum(energy_j) FILTER (WHERE line = 'entering') AS entering_j,
           sum(energy_j) FILTER (WHERE line = 'unattributed') AS unattributed_j,
           sum(energy_j) FILTER (WHERE source = 'table') AS table_j,
           sum(iif(energy_j IS NULL, seconds, 0.0)) AS unmeasured_s,
           group_concat(DISTINCT nullif(source, 'none')) AS source
    FROM ledger_energy
    GROUP BY 1, 2, 3
), served AS (
    SELECT date(hour, 'localtime') AS day, engine, device, sum(requests) AS requests,
           sum(prompt_tokens) AS prompt_tokens, sum(completion_tokens) AS completion_tokens
    FROM requests_by_hour
    WHERE state != 'refused'
    GROUP BY 1, 2, 3
), woken AS (
    SELECT date(at, 'localtime') AS day, engine, device, count(*) AS wakes
    FROM ledger_transition
    WHERE to_depth = 'awake' AND outcome = 'ok'
    GROUP BY 1, 2, 3
)
SELECT day, engine, device, seconds, energy_j, coalesce(requests, 0) AS requests,
       coalesce(wakes, 0) AS wakes, prompt_tokens, completion_tokens,
       1000.0 * energy_j / nullif(completion_tokens, 0) AS j_per_1000_tokens,
       request_j, tail_j, awake_j, rest_j, waking_j, entering_j, unattributed_j, table_j,
       unmeasured_s, source
FROM spent
LEFT JOIN served USING (day, engine, device)
LEFT JOIN woken USING (day, engine, device);

-- Joules per 1 000 tokens are of those requests only whose joules are known.
CREATE VIEW energy_by_model AS
SELECT engine, device, model, sum(requests) AS requests, sum(prompt_tokens) AS prompt_tokens,
       sum(completion_tokens) AS completion_tokens, sum(marginal_j) AS marginal_j,
       sum(full_j) AS full_j,
       1000.0 * sum(marginal_j) / nullif(sum(marginal_tokens), 0) AS marginal_j_per_1000_tokens,
       1000.0 * sum(full_j) / nullif(sum(full_tokens), 0) AS full_j_per_1000_tokens,
       group_concat(DISTINCT source) AS source
FROM requests_by_hour
WHERE state != 'refused'
GROUP BY engine, device, model;

CREATE VIEW energy_by_client AS
SELECT engine, device, door, client, sum(requests) AS requests, sum(prompt_tokens) AS prompt_tokens,
       sum(completion_tokens) AS completion_tokens, sum(marginal_j) AS marginal_j,
       sum(full_j) AS full_j,
       1000.0 * sum(marginal_j) / nullif(sum(marginal_tokens), 0) AS marginal_j_per_1000_tokens,
       1000.0 * sum(full_j) / nullif(sum(full_tokens), 0) AS full_j_per_1000_tokens,
       group_concat(DISTINCT source) AS source
FROM requests_by_hour
WHERE state != 'refused'
GROUP BY engine, device, door, client;

CREATE VIEW energy_by_meter AS
SELECT meter, device, rail, sum(seconds) AS seconds, sum(energy_j) AS energy_j,
       sum(energy_j) / nullif(sum(seconds), 0) AS power_w, max(source) AS source
FROM ledger_meter
GROUP BY meter, device, rail;

-- The same day three times: as it was; had the engine always been awake; and that without
-- CUDA_DISABLE_PERF_BOOST, as vLLM ships. Of measured time only. NULL: a power is not known.
CREATE VIEW savings AS
WITH spent AS (
    SELECT date(hour, 'localtime') AS day, engine, device,
           sum(seconds) FILTER (WHERE line IN ('idle', 'entering', 'waking')) AS floor_s,
           sum(seconds) FILTER (WHERE line NOT IN ('request', 'tail')) AS seconds,
           total(energy_j) FILTER (WHERE line IN ('request', 'tail', 'unattributed')) AS served_j,
           sum(energy_j) AS energy_j
    FROM ledger_energy
    WHERE source != 'none'
    GROUP BY 1, 2, 3
), floor AS (
    SELECT engine, device, value AS power_w FROM learned WHERE name = 'floor_w' AND of = 'awake'
), boost AS (
    SELECT engine, device, value AS power_w FROM learned WHERE name = 'boost_w'
)
SELECT day, engine, device, seconds,
       served_j + floor.power_w * floor_s + boost.power_w * seconds AS as_shipped_j,
       served_j + floor.power_w * floor_s AS always_awake_j,
       energy_j AS ladder_j
FROM spent
LEFT JOIN floor USING (engine, device)
LEFT JOIN boost USING (engine, device);
