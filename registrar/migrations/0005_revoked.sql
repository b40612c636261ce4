-- A revoked machine stays out until its entry is opened again.
ALTER TABLE machines ADD COLUMN revoked_at INTEGER;
