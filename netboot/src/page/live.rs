//! Places for pages that are kept up to date: bounded in total and per client, given back when the page is closed.

use crate::shared::lock;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

/// Pages that are kept up to date at once. A store has a handful of phones; the others ask every ten seconds.
pub const MOST: usize = 24;
/// Of one client.
pub const MOST_PER_CLIENT: usize = 6;

/// The places.
#[derive(Debug, Clone, Default)]
pub struct Places(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    places: Places,
    client: IpAddr,
}

impl Places {
    /// Takes a place, if one is free.
    #[must_use]
    pub fn take(&self, client: IpAddr) -> Option<Place> {
        let mut taken = lock(&self.0);
        let own = taken.get(&client).copied().unwrap_or(0);
        if own >= MOST_PER_CLIENT || taken.values().sum::<usize>() >= MOST {
            return None;
        }
        taken.insert(client, own + 1);
        Some(Place { places: self.clone(), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.places.0);
        let left = taken.get(&self.client).copied().unwrap_or(1) - 1;
        if left == 0 {
            taken.remove(&self.client);
        } else {
            taken.insert(self.client, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let places = Places::default();
        let client = |n: u8| IpAddr::from([10, 0, 0, n]);
        let mut held: Vec<Place> = (0..MOST_PER_CLIENT).map(|_| places.take(client(1)).unwrap()).collect();
        assert!(places.take(client(1)).is_none(), "one client's share");
        for n in 2..=4 {
            held.extend((0..MOST_PER_CLIENT).map(|_| places.take(client(n)).unwrap()));
        }
        assert!(places.take(client(9)).is_none(), "all are taken");
        held.pop();
        assert!(places.take(client(9)).is_some());
        held.clear();
        assert!(lock(&places.0).is_empty(), "nothing is remembered of who has gone");
    }
}
