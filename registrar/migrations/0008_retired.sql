-- Machines for the shelf: who ordered it, for which key, and when the machine said that it is done. Kept for ever.
CREATE TABLE retirements (
    id         TEXT PRIMARY KEY NOT NULL,
    machine    TEXT NOT NULL,
    store      TEXT NOT NULL,
    mac        TEXT NOT NULL,
    key        TEXT NOT NULL,           -- fingerprint of the machine's key
    given_by   TEXT NOT NULL,
    issued_at  INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    withdrawn_at INTEGER,               -- the entry was opened again
    done_at    INTEGER,
    said       TEXT,
    envelope   TEXT NOT NULL            -- JSON, signed
) STRICT;
CREATE INDEX retirements_by_store ON retirements (store, withdrawn_at);

-- Until when a store's unknown machines are looked at. One per store.
CREATE TABLE staging_windows (
    store      TEXT PRIMARY KEY NOT NULL,
    template   TEXT NOT NULL,
    channel    TEXT NOT NULL,
    until_at   INTEGER NOT NULL,
    given_by   TEXT NOT NULL
) STRICT;

-- What was found, the newest of each machine.
CREATE TABLE staged (
    mac        TEXT NOT NULL,
    store      TEXT NOT NULL,
    at         INTEGER NOT NULL,
    passes     INTEGER NOT NULL,
    record     TEXT NOT NULL,           -- JSON, contracts::staging
    PRIMARY KEY (store, mac)
) STRICT;
