//! A switch port that carries frames of one VLAN, with their tags, and no others: in user space, because a kernel need not have
//! VLANs on its bridges.
//!
//! The machine's QEMU has both ends in hand: its card goes to one pair of sockets, the store's tap through a hub to another. Two
//! threads carry frames between them. QEMU opens the tap, so nothing here needs the rights or the ioctls for that; and without
//! offloads, so frames are whole, as on a cable.

pub mod frame;

use self::frame::Counts;
use anyhow::{Context as _, Result};
use std::{
    io::ErrorKind,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// More than any frame.
const LARGEST: usize = 1 << 17;
/// How soon a thread sees that it is to end, and how long it waits for QEMU to take a frame.
const LOOK_UP: Duration = Duration::from_millis(200);

/// Where the two ends of a cable are: sockets (unix(7), datagrams), a frame in each message.
#[derive(Debug, Clone)]
struct Ends {
    port: PathBuf,
    qemu: PathBuf,
}

impl Ends {
    fn netdev(&self, id: &str) -> String {
        format!(
            "dgram,id={id},local.type=unix,local.path={},remote.type=unix,remote.path={}",
            self.qemu.display(),
            self.port.display()
        )
    }
}

/// The cables of a port, for a machine to be plugged in.
#[derive(Debug, Clone)]
pub struct Cables {
    machine: Ends,
    store: Ends,
}

impl Cables {
    /// Values of QEMU's option `-netdev` (qemu(1)); `card` is what the machine's card is to be plugged into, `tap` the store's
    /// side.
    #[must_use]
    pub fn netdevs(&self, card: &str, tap: &str) -> Vec<String> {
        vec![
            self.machine.netdev(card),
            format!("tap,id=store-tap,ifname={tap},script=no,downscript=no"),
            self.store.netdev("store-cable"),
            "hubport,id=store-hub-tap,hubid=1,netdev=store-tap".into(),
            "hubport,id=store-hub-cable,hubid=1,netdev=store-cable".into(),
        ]
    }
}

/// A port that is switched on. It ends when dropped.
#[derive(Debug)]
pub struct TaggedPort {
    cables: Cables,
    counts: Arc<Mutex<Counts>>,
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl TaggedPort {
    /// Switches a port of this VLAN on; its sockets are in `folder`, which has no others of this name.
    ///
    /// # Errors
    /// When a socket or a thread cannot be made.
    pub fn open(folder: &Path, name: &str, vlan: u16) -> Result<Self> {
        let ends = |to: &str| Ends {
            port: folder.join(format!("{name}-{to}.port")),
            qemu: folder.join(format!("{name}-{to}.qemu")),
        };
        let cables = Cables { machine: ends("machine"), store: ends("store") };
        let (to_machine, to_store) = (bind(&cables.machine.port)?, bind(&cables.store.port)?);
        let (from_machine, from_store) = (again(&to_machine)?, again(&to_store)?);
        let mut port = Self { cables: cables.clone(), counts: Arc::default(), end: Arc::default(), threads: vec![] };
        port.carry(from_store, (to_machine, cables.machine.qemu), move |counts, frame| {
            counts.for_machine(frame, vlan)
        })?;
        port.carry(from_machine, (to_store, cables.store.qemu), move |counts, frame| counts.of_machine(frame, vlan))?;
        Ok(port)
    }

    /// For the machine at this port.
    #[must_use]
    pub fn cables(&self) -> Cables {
        self.cables.clone()
    }

    /// What has come so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        lock(&self.counts).clone()
    }

    fn carry(
        &mut self,
        from: UnixDatagram,
        (to, place): (UnixDatagram, PathBuf),
        judge: impl Fn(&mut Counts, &[u8]) -> Option<Vec<u8>> + Send + 'static,
    ) -> Result<()> {
        let (counts, end) = (Arc::clone(&self.counts), Arc::clone(&self.end));
        let thread = std::thread::Builder::new().name("tagged port".into()).spawn(move || {
            let mut room = vec![0; LARGEST];
            while !end.load(Ordering::Relaxed) {
                let length = match from.recv(&mut room) {
                    Ok(length) => length,
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
                    Err(_) => break,
                };
                let judged = judge(&mut lock(&counts), &room[..length]);
                // A machine that is switched off has no socket, and one that stands still does not empty it.
                if judged.is_some_and(|frame| to.send_to(&frame, &place).is_err()) {
                    lock(&counts).lost += 1;
                }
            }
        });
        self.threads.push(thread.context("starting a thread of the tagged port")?);
        Ok(())
    }
}

impl Drop for TaggedPort {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn bind(path: &Path) -> Result<UnixDatagram> {
    let socket = UnixDatagram::bind(path).with_context(|| format!("making the socket {}", path.display()))?;
    socket.set_read_timeout(Some(LOOK_UP)).context("limiting how long a socket waits")?;
    socket.set_write_timeout(Some(LOOK_UP)).context("limiting how long a socket waits")?;
    Ok(socket)
}

fn again(socket: &UnixDatagram) -> Result<UnixDatagram> {
    socket.try_clone().context("sharing a socket")
}

/// A thread that panicked has left whole numbers.
fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sockets that QEMU would have.
    fn plug(ends: &Ends) -> UnixDatagram {
        let socket = bind(&ends.qemu).unwrap();
        socket.connect(&ends.port).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }

    #[test]
    fn tagged_frames_pass_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let port = TaggedPort::open(folder.path(), "p", 20).unwrap();
        let (machine, store) = (plug(&port.cables.machine), plug(&port.cables.store));
        let plain = [7; 60];
        let tagged = frame::tag(&plain, 20).unwrap();
        let mut room = [0; 100];

        store.send(&plain).unwrap();
        let length = machine.recv(&mut room).unwrap();
        assert_eq!(room[..length], tagged);

        // In order: what comes out first is what passed.
        machine.send(&plain).unwrap();
        machine.send(&frame::tag(&[8; 60], 21).unwrap()).unwrap();
        machine.send(&tagged).unwrap();
        let length = store.recv(&mut room).unwrap();
        assert_eq!(room[..length], plain);
        let wanted = Counts { to_machine: 1, passed: 1, untagged: 1, other: 1, ..Counts::default() };
        assert_eq!(port.counts(), wanted);
    }

    #[test]
    fn a_machine_that_is_off_loses_frames_and_the_port_stays() {
        let folder = tempfile::tempdir().unwrap();
        let port = TaggedPort::open(folder.path(), "p", 20).unwrap();
        let store = plug(&port.cables.store);
        store.send(&[7; 60]).unwrap();
        while port.counts().lost == 0 {
            std::thread::yield_now();
        }
        let machine = plug(&port.cables.machine);
        store.send(&[9; 60]).unwrap();
        let mut room = [0; 100];
        assert_eq!(machine.recv(&mut room).unwrap(), 64);
        assert_eq!(room[18..64], [9; 46]);
    }
}
