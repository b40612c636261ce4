//! What keeps the database from growing for ever: old events and the enrollments of old boots are removed, and no store can
//! fill the disk for the others.

use super::{Db, DbError, millis};
use time::{Duration, OffsetDateTime};

/// A machine tells some forty events per start; a store that has more than this is broken, or lies.
pub const MOST_EVENTS_PER_STORE: i64 = 100_000;
/// Rows that are removed in one transaction: machines that enroll meanwhile wait for no more than that.
const AT_ONCE: i64 = 5_000;

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Events.
    pub events: u64,
    /// Enrollments.
    pub enrollments: u64,
}

impl Db {
    /// Removes events that came longer than `keep` ago, the oldest events of stores that have more than `most_per_store`,
    /// and enrollments as old, except the latest of each machine.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn remove_old(
        &self,
        now: OffsetDateTime,
        keep: Duration,
        most_per_store: i64,
    ) -> Result<Removed, DbError> {
        let before = millis(now - keep);
        let mut removed = Removed::default();
        loop {
            let sql = "DELETE FROM events WHERE rowid IN (SELECT rowid FROM events WHERE received_at < ? LIMIT ?)";
            let rows = sqlx::query(sql).bind(before).bind(AT_ONCE).execute(&self.pool).await?.rows_affected();
            removed.events += rows;
            if rows == 0 {
                break;
            }
        }
        let sql = "SELECT store, COUNT(*) FROM events GROUP BY store HAVING COUNT(*) > ?";
        let full: Vec<(String, i64)> = sqlx::query_as(sql).bind(most_per_store).fetch_all(&self.pool).await?;
        for (store, count) in full {
            removed.events += self.remove_oldest(&store, count - most_per_store).await?;
        }
        let sql = "DELETE FROM enrollments WHERE created_at < ?1 AND EXISTS (
                       SELECT 1 FROM enrollments later
                       WHERE later.machine = enrollments.machine AND later.created_at > enrollments.created_at)";
        removed.enrollments = sqlx::query(sql).bind(before).execute(&self.pool).await?.rows_affected();
        Ok(removed)
    }

    async fn remove_oldest(&self, store: &str, mut surplus: i64) -> Result<u64, DbError> {
        let mut removed = 0;
        while surplus > 0 {
            let sql = "DELETE FROM events WHERE rowid IN
                       (SELECT rowid FROM events WHERE store = ? ORDER BY received_at, rowid LIMIT ?)";
            let some = surplus.min(AT_ONCE);
            removed += sqlx::query(sql).bind(store).bind(some).execute(&self.pool).await?.rows_affected();
            surplus -= some;
        }
        Ok(removed)
    }
}
