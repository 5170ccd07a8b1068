-- `energy_by_day` asks for the local date once an hour, not once a row, and can be asked for
-- some days without reading a year.

DROP VIEW energy_by_day;

CREATE VIEW energy_by_day AS
WITH metered AS (
    SELECT hour, date(hour, 'localtime') AS day FROM (SELECT DISTINCT hour FROM ledger_energy)
), asked AS (
    SELECT hour, date(hour, 'localtime') AS day FROM (SELECT DISTINCT hour FROM ledger_request_hour)
), facts AS (
    SELECT day, engine, device, iif(line IN ('request', 'tail'), 0.0, seconds) AS seconds, energy_j,
           iif(line = 'idle', iif(depth = 'awake', 'awake', 'rest'), line) AS what,
           iif(energy_j IS NULL, seconds, 0.0) AS unmeasured_s, nullif(source, 'none') AS source,
           0 AS requests, 0 AS wakes, NULL AS prompt_tokens, NULL AS completion_tokens
    FROM metered JOIN ledger_energy USING (hour)
    UNION ALL
    SELECT day, engine, device, 0.0, NULL, '', 0.0, NULL, requests, 0, prompt_tokens,
           completion_tokens
    FROM asked JOIN ledger_request_hour USING (hour)
    WHERE state != 'refused'
    UNION ALL
    SELECT date(ended_at, 'localtime'), engine, device, 0.0, NULL, '', 0.0, NULL, 1, 0,
           prompt_tokens, completion_tokens
    FROM ledger_request
    WHERE final = 0 AND state != 'refused'
    UNION ALL
    SELECT date(at, 'localtime'), engine, device, 0.0, NULL, '', 0.0, NULL, 0, 1, NULL, NULL
    FROM ledger_transition
    WHERE to_depth = 'awake' AND outcome = 'ok'
)
SELECT day, engine, device, sum(seconds) AS seconds, sum(energy_j) AS energy_j,
       sum(requests) AS requests, sum(wakes) AS wakes, sum(prompt_tokens) AS prompt_tokens,
       sum(completion_tokens) AS completion_tokens,
       1000.0 * sum(energy_j) / nullif(sum(completion_tokens), 0) AS j_per_1000_tokens,
       sum(energy_j) FILTER (WHERE what = 'request') AS request_j,
       sum(energy_j) FILTER (WHERE what = 'tail') AS tail_j,
       sum(energy_j) FILTER (WHERE what = 'awake') AS awake_j,
       sum(energy_j) FILTER (WHERE what = 'rest') AS rest_j,
       sum(energy_j) FILTER (WHERE what = 'waking') AS waking_j,
       sum(energy_j) FILTER (WHERE what = 'entering') AS entering_j,
       sum(energy_j) FILTER (WHERE what = 'unattributed') AS unattributed_j,
       sum(energy_j) FILTER (WHERE source = 'table') AS table_j,
       sum(unmeasured_s) AS unmeasured_s, group_concat(DISTINCT source) AS source
FROM facts
GROUP BY day, engine, device;
