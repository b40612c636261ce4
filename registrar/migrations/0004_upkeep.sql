-- What is old is removed in small steps, so that nobody waits for it.
CREATE INDEX events_by_age ON events (received_at);
CREATE INDEX events_of_store ON events (store, received_at);
