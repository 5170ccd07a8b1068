-- `wakes` looks for the end of an awake period of those rows only that are asked for, and
-- `savings` can be asked for some hours: both read a whole year of rows before.

DROP VIEW wakes;
DROP VIEW savings;

CREATE VIEW wakes AS
SELECT at, engine, device, from_depth, cause, seconds AS wake_s, energy_j AS wake_j, tail_j,
       iif(outcome = 'ok',
           (julianday((SELECT next.at FROM ledger_transition next
                       WHERE next.seq > climb.seq AND next.engine = climb.engine
                       ORDER BY next.seq LIMIT 1)) - julianday(ended_at)) * 86400.0,
           NULL) AS awake_s,
       CASE WHEN requests IS NULL AND period IS NOT NULL
            THEN (SELECT count(*) FROM ledger_request r
                  WHERE r.final = 0 AND r.period = climb.period)
            ELSE requests END AS requests,
       source, outcome, period
FROM ledger_transition climb
WHERE to_depth = 'awake';

-- The same hour three times: as it was; had the engine always been awake; and that without
-- CUDA_DISABLE_PERF_BOOST, as vLLM ships. Of measured time only. NULL: a power is not known.
CREATE VIEW savings_by_hour AS
WITH spent AS (
    SELECT hour, span, engine, device,
           coalesce(sum(seconds) FILTER (WHERE line IN ('idle', 'entering', 'waking')), 0.0)
               AS floor_s,
           sum(seconds) FILTER (WHERE line NOT IN ('request', 'tail')) AS seconds,
           total(energy_j) FILTER (WHERE line IN ('request', 'tail', 'unattributed')) AS served_j,
           sum(energy_j) AS energy_j,
           group_concat(DISTINCT source) AS source
    FROM ledger_energy
    WHERE source != 'none'
    GROUP BY 1, 2, 3, 4
), floor AS (
    SELECT engine, device, value AS power_w FROM learned WHERE name = 'floor_w' AND of = 'awake'
), boost AS (
    SELECT engine, device, value AS power_w FROM learned WHERE name = 'boost_w'
)
SELECT hour, span, engine, device, seconds,
       served_j + floor.power_w * floor_s + boost.power_w * seconds AS as_shipped_j,
       served_j + floor.power_w * floor_s AS always_awake_j,
       energy_j AS ladder_j, source
FROM spent
LEFT JOIN floor USING (engine, device)
LEFT JOIN boost USING (engine, device);

CREATE VIEW savings AS
SELECT date(hour, 'localtime') AS day, engine, device, sum(seconds) AS seconds,
       sum(as_shipped_j) AS as_shipped_j, sum(always_awake_j) AS always_awake_j,
       sum(ladder_j) AS ladder_j
FROM savings_by_hour
GROUP BY 1, 2, 3;
