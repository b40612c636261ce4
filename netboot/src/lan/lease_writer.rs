//! Writes leases, and sends the answers that wait for them: in a thread of its own, so that a slow disk keeps nobody waiting who
//! needs it not. All leases that were granted while the disk was busy are one commit.

use super::{ears::Mouth, lease_store::LeaseStore};
use crate::proto::dhcp::{
    decide::Destination,
    lease::table::{Client, Record},
};
use std::{
    net::Ipv4Addr,
    sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel},
    time::Instant,
};
use time::OffsetDateTime;

/// Leases that wait for the disk. Beyond that the disk cannot follow, and clients ask again.
const MOST_WAITING: usize = 1024;
/// Leases in one commit.
const TOGETHER: usize = 256;

/// A lease, and the answer that leaves once it is on the disk; none for a lease that ended.
#[derive(Debug)]
pub struct Kept {
    /// What is kept.
    pub record: Record,
    /// When the lease ends.
    pub until: Instant,
    /// What is sent then.
    pub answer: Option<(Vec<u8>, Destination)>,
}

/// A lease that the disk has: address, client, end.
pub type OnDisk = (Ipv4Addr, Client, Instant);

/// Where leases are handed over, and where is heard what became of them.
#[derive(Debug)]
pub struct Handover {
    leases: SyncSender<Kept>,
    written: Receiver<OnDisk>,
}

impl Handover {
    /// Never waits. A lease for which there is no room is given back: its answer must not be sent.
    ///
    /// # Errors
    /// The lease.
    pub fn give(&self, kept: Kept) -> Result<(), Box<Kept>> {
        self.leases.try_send(kept).map_err(|error| match error {
            TrySendError::Full(kept) | TrySendError::Disconnected(kept) => Box::new(kept),
        })
    }

    /// What has come onto the disk since the last call. Never waits.
    pub fn written(&self) -> impl Iterator<Item = OnDisk> {
        self.written.try_iter()
    }
}

/// The thread's work.
#[derive(Debug)]
pub struct LeaseWriter {
    store: LeaseStore,
    mouth: Mouth,
    from: Ipv4Addr,
    waiting: Receiver<Kept>,
    /// Not more than were handed over, and each is heard before the next is handed over.
    written: Sender<OnDisk>,
}

impl LeaseWriter {
    /// A writer that answers from this address, and where it gets its work.
    #[must_use]
    pub fn new(store: LeaseStore, mouth: Mouth, from: Ipv4Addr) -> (Handover, Self) {
        let (leases, waiting) = sync_channel(MOST_WAITING);
        let (tell, written) = channel();
        (Handover { leases, written }, Self { store, mouth, from, waiting, written: tell })
    }

    /// Works until nobody can hand over any more, and everything is written.
    pub fn run(mut self) {
        while let Ok(first) = self.waiting.recv() {
            let mut batch = vec![first];
            batch.extend(self.waiting.try_iter().take(TOGETHER - 1));
            let (records, rest): (Vec<Record>, Vec<_>) =
                batch.into_iter().map(|kept| (kept.record, (kept.answer, kept.until))).unzip();
            if let Err(error) = self.store.keep(OffsetDateTime::now_utc().unix_timestamp(), &records) {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "{} answers are not sent: their leases cannot be kept", records.len());
                continue;
            }
            for (record, (answer, until)) in records.into_iter().zip(rest) {
                if let Some((bytes, destination)) = answer
                    && let Err(error) = self.mouth.say(&bytes, self.from, destination)
                {
                    tracing::warn!("an answer to {destination} could not be sent: {error}");
                }
                // Nobody hears it when the service ends.
                let _ = self.written.send((record.address, record.client, until));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::dhcp::{packet::Packet, samples::Sample};
    use std::{
        io,
        net::{SocketAddr, UdpSocket},
        path::Path,
        time::Duration,
    };

    const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

    fn lease(last: u8, to: SocketAddr) -> Kept {
        let client = Client::of(&Packet::read(&Sample::edk2_pxe().bytes()).unwrap()).unwrap();
        let record = Record { address: [10, 0, 0, last].into(), client, remaining: Duration::from_secs(600) };
        let SocketAddr::V4(to) = to else { unreachable!() };
        Kept { record, until: Instant::now(), answer: Some((vec![last], Destination::Ip(to))) }
    }

    fn store(folder: &Path) -> LeaseStore {
        LeaseStore::open(folder, OffsetDateTime::UNIX_EPOCH).unwrap()
    }

    fn client() -> UdpSocket {
        let client = UdpSocket::bind((HERE, 0)).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        client
    }

    #[test]
    fn every_answer_leaves_in_order_and_its_lease_is_on_the_disk() {
        let (folder, client) = (tempfile::tempdir().unwrap(), client());
        let (leases, writer) = LeaseWriter::new(store(folder.path()), Mouth::for_test(), HERE);
        let to = client.local_addr().unwrap();
        for last in 1..=200 {
            leases.give(lease(last, to)).unwrap();
        }
        let Handover { leases, written } = leases;
        drop(leases);
        writer.run();
        assert_eq!(written.try_iter().count(), 200);
        let mut buffer = [0; 8];
        for last in 1..=200 {
            assert_eq!((client.recv(&mut buffer).unwrap(), buffer[0]), (1, last));
        }
        assert_eq!(store(folder.path()).load(0).unwrap().len(), 200);
    }

    #[test]
    fn nothing_is_answered_that_the_disk_does_not_take() {
        let (folder, client) = (tempfile::tempdir().unwrap(), client());
        let mut store = store(folder.path());
        store.fill_disk();
        let (leases, writer) = LeaseWriter::new(store, Mouth::for_test(), HERE);
        leases.give(lease(1, client.local_addr().unwrap())).unwrap();
        let Handover { leases, written } = leases;
        drop(leases);
        writer.run();
        assert_eq!(written.try_iter().count(), 0, "nobody may build on it");
        assert_eq!(client.recv(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_queue_is_bounded_and_gives_back_what_it_does_not_take() {
        let (folder, client) = (tempfile::tempdir().unwrap(), client());
        let (leases, _writer) = LeaseWriter::new(store(folder.path()), Mouth::for_test(), HERE);
        let to = client.local_addr().unwrap();
        let taken = (0..2 * MOST_WAITING).filter(|_| leases.give(lease(1, to)).is_ok()).count();
        assert_eq!(taken, MOST_WAITING);
        assert_eq!(leases.give(lease(7, to)).unwrap_err().record.address, Ipv4Addr::new(10, 0, 0, 7));
    }
}
