//! What the two sides of a join agree on, driver by driver: the machine asks for certificates by purpose and fills in values
//! by name, the broker at the region checks the ones and delivers the others. A new driver begins with its line here; see
//! docs/join-drivers.md.

/// One way to become a member of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Driver {
    /// As templates and registrars name it.
    pub name: &'static str,
    /// Purposes of the certificates that a machine may ask for.
    pub certificates: &'static [&'static str],
    /// Values that the broker delivers; texts name them `${region.VALUE}`.
    pub values: &'static [&'static str],
}

/// A Kubernetes node: one client certificate for the kubelet, the cluster's CA certificates and the API server's URL.
pub const KUBERNETES: Driver =
    Driver { name: "kubernetes", certificates: &["kubelet-client"], values: &["ca", "endpoint"] };

/// A Ceph storage node: the cluster's id, its monitors' addresses as `mon_host` takes them, and a key with which this one
/// machine registers OSDs.
pub const CEPH: Driver = Driver { name: "ceph", certificates: &[], values: &["fsid", "monitors", "key"] };

/// A hypervisor of OpenStack Nova: users of its own at the message bus and at Keystone.
pub const NOVA: Driver = Driver {
    name: "nova",
    certificates: &[],
    values: &[
        "transport",
        "busTls",
        "keystone",
        "ca",
        "region",
        "user",
        "password",
        "userDomain",
        "project",
        "projectDomain",
        "computeId",
    ],
};

/// All drivers.
pub const DRIVERS: [Driver; 3] = [KUBERNETES, CEPH, NOVA];

/// Finds a driver.
#[must_use]
pub fn driver(name: &str) -> Option<Driver> {
    DRIVERS.into_iter().find(|driver| driver.name == name)
}

/// The machine's own name in texts.
pub const MACHINE_NAME: &str = "machine.name";

impl Driver {
    /// True for what is only known when a machine joins: `machine.name`, and `region.VALUE` for each value.
    #[must_use]
    pub fn fills(&self, reference: &str) -> bool {
        let value = reference.strip_prefix("region.");
        reference == MACHINE_NAME || value.is_some_and(|value| self.values.contains(&value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_fills_in_its_own_values_only() {
        let driver = driver("kubernetes").unwrap();
        assert!(driver.fills("machine.name") && driver.fills("region.ca"));
        assert!(!driver.fills("region.password") && !driver.fills("ca") && !driver.fills("kubelet.extraArgs"));
        assert_eq!(super::driver("nomad"), None);
    }
}
