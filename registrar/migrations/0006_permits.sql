-- Permits to wipe a disk: who gave what, kept for ever. The store gets those that still count.
CREATE TABLE permits (
    id         TEXT PRIMARY KEY NOT NULL,
    store      TEXT NOT NULL,
    mac        TEXT NOT NULL,
    disk       TEXT NOT NULL,           -- WWN or serial number
    number     TEXT NOT NULL,           -- what the machine showed
    given_by   TEXT NOT NULL,
    issued_at  INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    withdrawn_at INTEGER,
    envelope   TEXT NOT NULL            -- JSON, signed
) STRICT;
CREATE INDEX permits_by_store ON permits (store, expires_at);
