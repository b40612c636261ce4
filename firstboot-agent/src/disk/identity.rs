//! Whose disk: what tells an install of this machine from that of another one.

use contracts::facts::{Disk, DiskContent, MachineFacts, Owner};

/// Who asks: what tells an install of this machine from that of another one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The store; `None` when netboot did not say.
    pub store: Option<String>,
    /// MAC addresses of this machine.
    pub macs: Vec<String>,
}

impl Identity {
    /// This machine in this store.
    #[must_use]
    pub fn new(store: Option<String>, facts: &MachineFacts) -> Self {
        Self { store, macs: facts.nics.iter().map(|nic| nic.mac.clone()).collect() }
    }

    /// True when this machine in this store is meant.
    #[must_use]
    pub fn is(&self, owner: &Owner) -> bool {
        self.store.as_ref().is_none_or(|store| *store == owner.store) && self.macs.contains(&owner.machine)
    }

    /// What somebody else has on this disk, in words. `None` for blank disks and for our own installs.
    #[must_use]
    pub fn foreign(&self, disk: &Disk) -> Option<String> {
        match &disk.content {
            DiskContent::Foreign { what } => Some(what.clone()),
            DiskContent::Installed { owner: Some(owner), .. } | DiskContent::HalfInstall { owner: Some(owner) }
                if !self.is(owner) =>
            {
                Some(format!("the system of another machine ({} of store {})", owner.machine, owner.store))
            }
            _ => None,
        }
    }

    /// The disk holds state of this very machine, which survives a reinstall.
    #[must_use]
    pub fn keeps_state(&self, disk: &Disk) -> bool {
        matches!(&disk.content, DiskContent::HalfInstall { owner: Some(owner) } if self.is(owner))
    }

    /// The disk holds a finished install that is not somebody else's.
    #[must_use]
    pub fn installed_on(&self, disk: &Disk) -> bool {
        matches!(disk.content, DiskContent::Installed { .. }) && self.foreign(disk).is_none()
    }
}
