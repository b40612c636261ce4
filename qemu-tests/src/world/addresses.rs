//! Who has which address. The store is a private network behind a router that masquerades; the region is
//! somewhere else and has no route back into the store, as in the field.

/// The store's LAN.
pub const STORE_NETWORK: &str = "10.77.0.0/24";
/// The store's router: gateway and the DHCP server that was there first.
pub const ROUTER: &str = "10.77.0.1";
/// netboot in the store.
pub const NETBOOT: &str = "10.77.0.2";
/// Where the tests look from: a device on the store's LAN.
pub const OBSERVER: &str = "10.77.0.250";
/// The small guest that measures a plain download; outside the DHCP range.
pub const PLAIN_GUEST: &str = "10.77.0.60";
/// A machine whose network card's ROM fetches its program before any DHCP of ours; outside the DHCP range.
pub const ROM_GUEST: &str = "10.77.0.61";
/// First and last address that the store's DHCP server leases.
pub const LEASES: (&str, &str) = ("10.77.0.100", "10.77.0.200");
/// The router's side of the WAN.
pub const WAN: &str = "10.98.0.1";
/// The region: API server and registrar.
pub const REGION: &str = "10.98.0.2";
/// Port of the API server.
pub const API_PORT: u16 = 6443;
/// Port at the region where a container registry would be. Nothing listens there.
pub const REGISTRY_PORT: u16 = 5000;
/// Port of the registrar, at the region and at netboot's relay.
pub const REGISTRAR_PORT: u16 = 7443;
/// The name in the registrar's certificate.
pub const REGISTRAR_NAME: &str = "registrar.region.example";

/// The store's name.
pub const STORE: &str = "store-0042";
/// The inventory entry of the machine to be installed: any machine without an entry of its own.
pub const NODE: &str = "store-0042-node-1";
/// The machine that is installed.
pub const MACHINE_MAC: &str = "52:54:00:77:00:10";
/// Another machine that comes after it.
pub const OTHER_MAC: &str = "52:54:00:77:00:11";
/// The small guest of the plain measurement.
pub const PLAIN_MAC: &str = "52:54:00:77:00:60";
