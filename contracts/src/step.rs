//! The journey's steps: the same names on the console, the store page, at the region and in tests.

use serde::{Deserialize, Serialize};

/// One step of the journey of a spare server, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Firmware asks the LAN for a boot server.
    PowerOn,
    /// netboot answers and hands out the signed boot image.
    Netboot,
    /// The agent finds netboot on the LAN and sets the clock.
    Network,
    /// The agent reports facts and gets its action and image.
    Assign,
    /// The agent picks the disk and refuses foreign data.
    Plan,
    /// The agent writes the partition table with the install-in-progress mark.
    Partition,
    /// The agent streams image chunks to the slot.
    Install,
    /// The agent checks the root hash over the disk, then makes it bootable.
    Verify,
    /// The agent sets the firmware boot entry and restarts through the firmware.
    Restart,
    /// The agent proves who it is and gets name, configuration and join material.
    Enroll,
    /// The agent runs the template's join driver.
    Join,
    /// The cluster itself reports this boot of this machine ready.
    Ready,
}

impl Step {
    /// All steps, in the journey's order.
    pub const ALL: [Self; 12] = [
        Self::PowerOn,
        Self::Netboot,
        Self::Network,
        Self::Assign,
        Self::Plan,
        Self::Partition,
        Self::Install,
        Self::Verify,
        Self::Restart,
        Self::Enroll,
        Self::Join,
        Self::Ready,
    ];

    /// The step's name as people and documents write it, for example `power-on`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PowerOn => "power-on",
            Self::Netboot => "netboot",
            Self::Network => "network",
            Self::Assign => "assign",
            Self::Plan => "plan",
            Self::Partition => "partition",
            Self::Install => "install",
            Self::Verify => "verify",
            Self::Restart => "restart",
            Self::Enroll => "enroll",
            Self::Join => "join",
            Self::Ready => "ready",
        }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_names_are_the_spoken_names_in_order() {
        for step in Step::ALL {
            assert_eq!(serde_json::to_string(&step).unwrap(), format!("\"{step}\""));
        }
        assert!(Step::ALL.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
