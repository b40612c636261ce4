//! How many transfers there may be: in all, of one client, and of one client that has not answered yet. The request
//! of a machine may carry another's address; who never answers gets little, and not often.

use crate::shared::lock;
use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

/// Bounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// In all.
    pub(crate) most: usize,
    /// Of one client address.
    pub(crate) per_client: usize,
    /// Of one client address, before it has answered.
    pub(crate) unproved: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    all: usize,
    unproved: usize,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    clients: HashMap<Ipv4Addr, Count>,
}

/// The places that are taken.
#[derive(Debug, Clone)]
pub(super) struct Places {
    limits: Limits,
    counts: Arc<Mutex<Counts>>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPlace {
    #[error("{0} transfers run already")]
    InAll(usize),
    #[error("it has {0} transfers already")]
    OfClient(usize),
    #[error("it has not answered to {0} transfers yet")]
    Unproved(usize),
}

/// A place, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    client: Ipv4Addr,
    proved: bool,
}

impl Places {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, counts: Arc::default() }
    }

    pub(super) fn take(&self, client: Ipv4Addr) -> Result<Place, NoPlace> {
        let mut counts = lock(&self.counts);
        if counts.all >= self.limits.most {
            return Err(NoPlace::InAll(counts.all));
        }
        let count = counts.clients.get(&client).copied().unwrap_or_default();
        if count.all >= self.limits.per_client {
            return Err(NoPlace::OfClient(count.all));
        }
        if count.unproved >= self.limits.unproved {
            return Err(NoPlace::Unproved(count.unproved));
        }
        counts.all += 1;
        counts.clients.insert(client, Count { all: count.all + 1, unproved: count.unproved + 1 });
        Ok(Place { places: self.clone(), client, proved: false })
    }
}

impl Place {
    /// The client has answered.
    pub(super) fn prove(&mut self) {
        if !std::mem::replace(&mut self.proved, true)
            && let Some(count) = lock(&self.places.counts).clients.get_mut(&self.client)
        {
            count.unproved -= 1;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.prove();
        let mut counts = lock(&self.places.counts);
        counts.all -= 1;
        if let Some(count) = counts.clients.get_mut(&self.client) {
            count.all -= 1;
            if count.all == 0 {
                counts.clients.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let places = Places::new(Limits { most: 4, per_client: 3, unproved: 2 });
        let [a, b] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
        let mut first = places.take(a).unwrap();
        let second = places.take(a).unwrap();
        assert_eq!(places.take(a).unwrap_err(), NoPlace::Unproved(2));
        first.prove();
        first.prove();
        let third = places.take(a).unwrap();
        assert_eq!(places.take(a).unwrap_err(), NoPlace::OfClient(3));
        let fourth = places.take(b).unwrap();
        assert_eq!(places.take(b).unwrap_err(), NoPlace::InAll(4));
        drop((first, second, third, fourth));
        assert!(lock(&places.counts).clients.is_empty() && lock(&places.counts).all == 0);
    }
}
