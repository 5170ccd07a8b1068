-- Answers that nobody could be sent, because where they should go is no address: the disk
-- has changed it. Only grows. The answer itself is kept in the inbox like any other.
CREATE TABLE ledger_undelivered (
    seq      INTEGER PRIMARY KEY,
    request  INTEGER NOT NULL,  -- inbox.seq
    id       TEXT    NOT NULL,
    door     TEXT    NOT NULL,
    client   TEXT    NOT NULL,
    at       TEXT    NOT NULL,
    reply_to BLOB    NOT NULL,  -- as it was found
    reason   TEXT    NOT NULL
) STRICT;
