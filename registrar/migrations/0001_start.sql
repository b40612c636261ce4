-- Times are Unix milliseconds, UTC.

CREATE TABLE settings (
    key   TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) STRICT;

-- A store's key: it signs vouchers and proves the store in TLS.
CREATE TABLE stores (
    name       TEXT PRIMARY KEY NOT NULL,
    public_key BLOB NOT NULL,           -- SubjectPublicKeyInfo, DER
    added_at   INTEGER NOT NULL
) STRICT;

-- One row per inventory entry, and per former entry that still has a pinned key.
CREATE TABLE machines (
    name        TEXT PRIMARY KEY NOT NULL,
    store       TEXT NOT NULL,
    template    TEXT NOT NULL,
    listed      INTEGER NOT NULL,        -- 1 while the inventory names it
    epoch       INTEGER NOT NULL DEFAULT 1,
    fingerprint TEXT UNIQUE,             -- the pinned key: one machine per entry, one entry per machine
    pinned_at   INTEGER,
    mac         TEXT
) STRICT;
CREATE INDEX machines_by_store ON machines (store);

CREATE TABLE enrollments (
    id            TEXT PRIMARY KEY NOT NULL,
    machine       TEXT NOT NULL REFERENCES machines (name),
    fingerprint   TEXT NOT NULL,
    nonce         TEXT NOT NULL,
    attempt       TEXT NOT NULL,
    boot_id       TEXT NOT NULL,
    mac           TEXT NOT NULL,
    csr           TEXT,
    join_material TEXT,                  -- JSON, once the broker delivered
    join_error    TEXT,                  -- the broker's last trouble, for people
    created_at    INTEGER NOT NULL,
    ready_at      INTEGER,
    UNIQUE (fingerprint, nonce)
) STRICT;
CREATE INDEX enrollments_by_attempt ON enrollments (fingerprint, attempt, boot_id);
CREATE INDEX enrollments_by_machine ON enrollments (machine, created_at);

CREATE TABLE events (
    id          TEXT PRIMARY KEY NOT NULL,
    store       TEXT NOT NULL,           -- whose credential delivered it
    source      TEXT NOT NULL,
    subject     TEXT NOT NULL,
    time        INTEGER NOT NULL,        -- by the sender's clock
    step        TEXT,
    status      TEXT,
    code        TEXT,
    message     TEXT,
    body        TEXT NOT NULL,           -- the CloudEvent as it came
    received_at INTEGER NOT NULL
) STRICT;
CREATE INDEX events_by_subject ON events (store, subject, time);

-- The long poll's cursor: grows when the digest of a store's assignments changes.
CREATE TABLE generations (
    store      TEXT PRIMARY KEY NOT NULL,
    generation INTEGER NOT NULL,
    digest     TEXT NOT NULL
) STRICT;
