-- Durable requests, where their answers go, and what the broker may send again.
-- Instants ending in _at are UTC, ISO 8601, for people and for other boots;
-- *_s beside a boot id are seconds since that boot. Order is by seq.

CREATE TABLE inbox (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of acceptance, never used twice
    id          TEXT    NOT NULL,                   -- the sender's, or a UUIDv7 we made
    door        TEXT    NOT NULL CHECK (door IN ('mqtt', 'socket', 'http')),
    client      TEXT    NOT NULL,                   -- as the door knows the sender; may be ''
    engine      TEXT    NOT NULL,                   -- alias of the model that serves it
    digest      BLOB    NOT NULL CHECK (length(digest) = 32),
    form        TEXT    NOT NULL CHECK (form IN ('text', 'message')),
    path        TEXT    NOT NULL,
    body        BLOB    NOT NULL,
    stream      INTEGER NOT NULL CHECK (stream IN (0, 1)),
    class       TEXT    NOT NULL CHECK (class IN ('interactive', 'batch')),
    priority    INTEGER NOT NULL,
    hops        INTEGER NOT NULL CHECK (hops >= 0),
    state       TEXT    NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'failed')),
    attempts    INTEGER NOT NULL CHECK (attempts >= 0),
    suspect     INTEGER NOT NULL DEFAULT 0 CHECK (suspect IN (0, 1)),  -- ran when an engine died
    accepted_at TEXT    NOT NULL,
    boot_id     TEXT    NOT NULL,                   -- accepted_s counts from this boot
    accepted_s  REAL    NOT NULL,
    synced      INTEGER NOT NULL CHECK (synced IN (0, 1)),  -- accepted_at could be trusted
    deadline_s  REAL    CHECK (deadline_s > 0),     -- from acceptance
    ended_at    TEXT,
    code        TEXT,                               -- of the error
    answer      BLOB,                               -- JSON, the same bytes for every copy
    UNIQUE (door, client, id),
    CHECK ((state IN ('done', 'failed')) = (ended_at IS NOT NULL)),
    CHECK ((state IN ('done', 'failed')) = (answer IS NOT NULL)),
    CHECK ((state = 'failed') = (code IS NOT NULL)),
    CHECK (state != 'running' OR attempts > 0)
) STRICT;

CREATE INDEX inbox_unfinished ON inbox (seq) WHERE state IN ('waiting', 'running');
CREATE INDEX inbox_ended ON inbox (ended_at) WHERE ended_at IS NOT NULL;

-- Where an unfinished request's answer is to go; copied to the outbox when it ends.
CREATE TABLE reply_address (
    request  INTEGER NOT NULL REFERENCES inbox (seq) ON DELETE CASCADE,
    reply_to BLOB    NOT NULL,                      -- the door's own words
    PRIMARY KEY (request, reply_to)
) STRICT, WITHOUT ROWID;

-- Answers to deliver. A row goes when whoever is responsible has taken the answer.
CREATE TABLE outbox (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    request  INTEGER NOT NULL REFERENCES inbox (seq) ON DELETE CASCADE,
    door     TEXT    NOT NULL,
    reply_to BLOB    NOT NULL,
    UNIQUE (request, reply_to)
) STRICT;

-- Messages accepted whose acknowledgement the broker may not have seen: it will
-- send them again, under the same number, with the same content.
CREATE TABLE mqtt_unacked (
    mid      INTEGER PRIMARY KEY CHECK (mid BETWEEN 1 AND 65535),
    digest   BLOB    NOT NULL,
    request  INTEGER NOT NULL REFERENCES inbox (seq) ON DELETE CASCADE
) STRICT;

CREATE INDEX mqtt_unacked_request ON mqtt_unacked (request);

-- Ids whose answers are no longer kept, so that a repeat is not run again.
CREATE TABLE forgotten (
    key      BLOB PRIMARY KEY,                      -- digest of door, client and id
    digest   BLOB NOT NULL,                         -- of what was asked
    ended_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX forgotten_ended ON forgotten (ended_at);
