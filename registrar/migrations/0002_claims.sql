-- Machines that a person has to admit. The code commits to the key and to the id (contracts, `claim`).
CREATE TABLE claims (
    id          TEXT PRIMARY KEY NOT NULL, -- the enrollment under which the machine waits
    code        TEXT UNIQUE NOT NULL,
    fingerprint TEXT UNIQUE NOT NULL,      -- a key waits once
    machine     TEXT NOT NULL,             -- the inventory entry that it would get
    store       TEXT NOT NULL,
    template    TEXT NOT NULL,
    mac         TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    approved_at INTEGER
) STRICT;
CREATE INDEX claims_by_store ON claims (store, expires_at);
