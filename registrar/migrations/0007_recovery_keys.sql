-- Keys that open the encrypted state of machines. None is ever removed: the disk may turn up years later.
CREATE TABLE recovery_keys (
    machine     TEXT NOT NULL,
    volume      TEXT NOT NULL,     -- UUID of the LUKS2 volume
    key         TEXT NOT NULL,
    fingerprint TEXT NOT NULL,     -- of the machine's key that brought it
    received_at INTEGER NOT NULL,
    PRIMARY KEY (machine, volume, key)
) STRICT;

-- Who had them shown. Only added to.
CREATE TABLE recovery_looks (
    machine   TEXT NOT NULL,
    looked_by TEXT NOT NULL,
    looked_at INTEGER NOT NULL
) STRICT;
CREATE INDEX recovery_looks_by_machine ON recovery_looks (machine, looked_at);
