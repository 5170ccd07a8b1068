-- How the engine differed from what was configured, because that did not fit; NULL: it did not.
ALTER TABLE ledger_transition ADD COLUMN smaller TEXT;
