//! The inventory: which stores there are, and which machines each of them is to have.

use crate::yaml::{self, Complaint, YamlError};
use contracts::assignment::ImageRef;
use contracts::enrollment::NodeFile;
use contracts::network::NetworkConfig;
use contracts::store::MachineSelector;
use contracts::window::{AdmissionWindow, Opening};
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A validated inventory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Store name -> its machines, in the file's order.
    pub stores: BTreeMap<String, Vec<Machine>>,
    /// Store name -> its admission windows. Their places are among its machines.
    windows: BTreeMap<String, Vec<AdmissionWindow>>,
    /// What each template takes to be admitted, where the file says so.
    pub tiers: BTreeMap<String, Tier>,
    parameters: BTreeMap<String, String>,
    store_parameters: BTreeMap<String, BTreeMap<String, String>>,
    /// Machine name -> its network, where that is said of it or of its store.
    networks: BTreeMap<String, NetworkConfig>,
}

/// What it takes to be admitted for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// The store vouches for the machine.
    Store,
    /// A person reads the claim code from the machine's screen as well, and tells it to the region.
    Person,
}

/// Shipped templates for which a store's router is not to be trusted alone, unless the inventory says otherwise: they hold
/// other machines' data, or command them, or share a message bus with those that do.
const NEED_A_PERSON: [&str; 4] = ["hypervisor", "k8s-control-plane", "storage-backend", "storage-node"];

/// Processors that images are built for.
const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];
/// A place's name is a host name: 63 letters, and four for its number.
const MAX_WINDOW_NAME: usize = 59;
const MAX_PLACES: u32 = 100;
/// A day.
const MAX_MINUTES: u32 = 24 * 60;

/// Bounds of what one store may be told: an answer to a machine stays small.
const MAX_PARAMETERS: usize = 64;
const MAX_NAME: usize = 128;
const MAX_VALUE: usize = 1024;

/// One inventory entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The entry's name: host name and node name.
    pub name: String,
    /// Which machine on the store's LAN it is.
    pub selector: MachineSelector,
    /// What it gets.
    pub image: ImageRef,
}

impl Inventory {
    /// The machines of one store; none for a store that the inventory does not name.
    #[must_use]
    pub fn machines_of(&self, store: &str) -> &[Machine] {
        self.stores.get(store).map_or(&[], Vec::as_slice)
    }

    /// The admission windows of one store.
    #[must_use]
    pub fn windows_of(&self, store: &str) -> &[AdmissionWindow] {
        self.windows.get(store).map_or(&[], Vec::as_slice)
    }

    /// Values of parameters for the machines of a store: the region's, and over them the store's own.
    #[must_use]
    pub fn parameters_of(&self, store: &str) -> BTreeMap<String, String> {
        let own = self.store_parameters.get(store).into_iter().flatten();
        self.parameters.iter().chain(own).map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Files for a machine of this name, whatever its template is.
    #[must_use]
    pub fn files_of(&self, machine: &str) -> Vec<NodeFile> {
        self.networks.get(machine).map_or_else(Vec::new, NetworkConfig::files)
    }

    /// What a machine of this template needs to be admitted.
    #[must_use]
    pub fn tier(&self, template: &str) -> Tier {
        let usual = || if NEED_A_PERSON.contains(&template) { Tier::Person } else { Tier::Store };
        self.tiers.get(template).copied().unwrap_or_else(usual)
    }

    /// Every entry with its store's name.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Machine)> {
        self.stores.iter().flat_map(|(store, machines)| machines.iter().map(move |m| (store.as_str(), m)))
    }

    /// True when some store has an entry of this name.
    #[must_use]
    pub fn lists(&self, name: &str) -> bool {
        self.entries().any(|(_, machine)| machine.name == name)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    api_version: Spanned<String>,
    kind: Spanned<String>,
    #[serde(default)]
    templates: Vec<TemplateShape>,
    #[serde(default)]
    parameters: BTreeMap<String, Spanned<String>>,
    stores: Vec<StoreShape>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateShape {
    name: Spanned<String>,
    admission: Tier,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreShape {
    name: Spanned<String>,
    #[serde(default)]
    parameters: BTreeMap<String, Spanned<String>>,
    network: Option<Spanned<NetworkConfig>>,
    #[serde(default)]
    windows: Vec<WindowShape>,
    machines: Vec<MachineShape>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WindowShape {
    name: Spanned<String>,
    template: String,
    channel: String,
    version: Option<String>,
    machines: Spanned<u32>,
    until: Option<Spanned<String>>,
    store_may_open_minutes: Option<Spanned<u32>>,
    #[serde(default)]
    architectures: Vec<Spanned<String>>,
    #[serde(default)]
    mac_prefixes: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MachineShape {
    name: Spanned<String>,
    template: String,
    channel: String,
    version: Option<String>,
    mac: Option<Spanned<String>>,
    any: Option<bool>,
    network: Option<Spanned<NetworkConfig>>,
}

/// Reads and validates an inventory file.
///
/// # Errors
/// [`YamlError`], placed.
pub fn read(path: &Path) -> Result<Inventory, YamlError> {
    validate(yaml::read(path)?).map_err(|complaint| yaml::placed(path, complaint))
}

/// Reads and validates an inventory from text; the path is for messages only.
///
/// # Errors
/// [`YamlError::Content`].
pub fn parse(path: &Path, text: &str) -> Result<Inventory, YamlError> {
    validate(yaml::parse(path, text)?).map_err(|complaint| yaml::placed(path, complaint))
}

fn validate(document: Document) -> Result<Inventory, Complaint> {
    yaml::check_kind(&document.api_version, &document.kind, "Inventory")?;
    let mut inventory = Inventory::default();
    for template in document.templates {
        if inventory.tiers.insert(template.name.value.clone(), template.admission).is_some() {
            let text = format!("template {} is named twice", template.name.value);
            return Err(Complaint::about(&template.name, text));
        }
    }
    inventory.parameters = parameters(document.parameters)?;
    let mut names = HashMap::new();
    for store in document.stores {
        check_label(&store.name)?;
        inventory.store_parameters.insert(store.name.value.clone(), parameters(store.parameters)?);
        let usual = store.network.as_ref().map(usual_network).transpose()?;
        let mut macs = HashMap::new();
        let mut machines = Vec::new();
        for mut shape in store.machines {
            check_label(&shape.name)?;
            // The name becomes the node's name in a cluster that many stores share.
            if let Some(line) = names.insert(shape.name.value.clone(), shape.name.referenced.line()) {
                let text = format!(
                    "machine {} is already named in line {line}; names are unique over all stores",
                    shape.name.value
                );
                return Err(Complaint::about(&shape.name, text));
            }
            let own = shape.network.take().as_ref().map(network).transpose()?;
            if let Some(network) = own.or_else(|| usual.clone()) {
                inventory.networks.insert(shape.name.value.clone(), network);
            }
            let machine = validate_machine(shape, &mut macs)?;
            machines.push(machine);
        }
        let mut windows = Vec::new();
        for shape in store.windows {
            let (window, image, places) = validate_window(shape)?;
            for number in 1..=places.value {
                let name = window.place(number);
                if let Some(line) = names.insert(name.clone(), places.referenced.line()) {
                    let text = format!("the window's place {name} is a machine that is already named in line {line}");
                    return Err(Complaint::about(&places, text));
                }
                if let Some(network) = &usual {
                    inventory.networks.insert(name.clone(), network.clone());
                }
                let selector = MachineSelector::Window(window.name.clone());
                machines.push(Machine { name, selector, image: image.clone() });
            }
            windows.push(window);
        }
        inventory.windows.insert(store.name.value.clone(), windows);
        if inventory.stores.insert(store.name.value.clone(), machines).is_some() {
            return Err(Complaint::about(&store.name, format!("store {} is named twice", store.name.value)));
        }
    }
    Ok(inventory)
}

/// Values for parameters of templates. What they are for knows the template: a value that it has no place for is left alone.
fn parameters(shapes: BTreeMap<String, Spanned<String>>) -> Result<BTreeMap<String, String>, Complaint> {
    let count = shapes.len();
    let mut values = BTreeMap::new();
    for (name, value) in shapes {
        if name.is_empty()
            || name.len() > MAX_NAME
            || !name.bytes().all(|b| b.is_ascii_graphic() && !b"${}".contains(&b))
        {
            return Err(Complaint::about(&value, format!("`{name}` is not the name of a parameter")));
        }
        if value.value.len() > MAX_VALUE || value.value.contains('\0') || count > MAX_PARAMETERS {
            let text = format!(
                "at most {MAX_PARAMETERS} parameters with at most {MAX_VALUE} bytes of text each reach a machine"
            );
            return Err(Complaint::about(&value, text));
        }
        values.insert(name, value.value);
    }
    Ok(values)
}

fn network(shape: &Spanned<NetworkConfig>) -> Result<NetworkConfig, Complaint> {
    let checked = shape.value.check().map(|()| shape.value.clone());
    checked.map_err(|error| Complaint::about(shape, format!("the network makes no sense: {error}")))
}

/// What every machine of a store has that says nothing of its own.
fn usual_network(shape: &Spanned<NetworkConfig>) -> Result<NetworkConfig, Complaint> {
    let network = network(shape)?;
    if network.ports.is_empty() && network.addresses.is_empty() {
        return Ok(network);
    }
    Err(Complaint::about(shape, "`ports` and `addresses` belong to one machine; write its network beside its name"))
}

fn validate_machine(shape: MachineShape, macs: &mut HashMap<String, u64>) -> Result<Machine, Complaint> {
    let selector = match (&shape.mac, shape.any) {
        (Some(mac), None | Some(false)) => {
            let normal = normal_mac(&mac.value)
                .ok_or_else(|| Complaint::about(mac, "not a MAC address; write it like 52:54:00:12:34:56"))?;
            if let Some(line) = macs.insert(normal.clone(), mac.referenced.line()) {
                return Err(Complaint::about(mac, format!("this store has this MAC address already, in line {line}")));
            }
            MachineSelector::Mac(normal)
        }
        (None, Some(true)) => MachineSelector::Any,
        _ => {
            let text = format!("machine {} needs either `mac: ADDRESS` or `any: true`", shape.name.value);
            return Err(Complaint::about(&shape.name, text));
        }
    };
    Ok(Machine {
        name: shape.name.value,
        selector,
        image: ImageRef { template: shape.template, channel: shape.channel, version: shape.version },
    })
}

/// A window, what its machines get, and how many places it has.
fn validate_window(shape: WindowShape) -> Result<(AdmissionWindow, ImageRef, Spanned<u32>), Complaint> {
    check_label(&shape.name)?;
    if shape.name.value.len() > MAX_WINDOW_NAME {
        let text = format!(
            "a window's name has at most {MAX_WINDOW_NAME} letters: its places are named NAME-1, NAME-2 and so on"
        );
        return Err(Complaint::about(&shape.name, text));
    }
    if !(1..=MAX_PLACES).contains(&shape.machines.value) {
        return Err(Complaint::about(&shape.machines, format!("a window is for 1 to {MAX_PLACES} machines")));
    }
    let opening = match (&shape.until, &shape.store_may_open_minutes) {
        (Some(until), None) => Opening::Until(
            OffsetDateTime::parse(&until.value, &Rfc3339)
                .map_err(|_| Complaint::about(until, "until needs a time like 2026-12-01T18:00:00Z"))?,
        ),
        (None, Some(minutes)) if (1..=MAX_MINUTES).contains(&minutes.value) => {
            Opening::ByStore { longest_minutes: minutes.value }
        }
        (None, Some(minutes)) => {
            let text = format!("a store may open a window for 1 to {MAX_MINUTES} minutes");
            return Err(Complaint::about(minutes, text));
        }
        _ => {
            let text = format!("window {} needs either `until: TIME` or `storeMayOpenMinutes: N`", shape.name.value);
            return Err(Complaint::about(&shape.name, text));
        }
    };
    if let Some(wrong) = shape.architectures.iter().find(|a| !ARCHITECTURES.contains(&a.value.as_str())) {
        return Err(Complaint::about(wrong, format!("architectures are {}", ARCHITECTURES.join(" and "))));
    }
    let mac_prefixes = shape.mac_prefixes.iter().map(normal_prefix).collect::<Result<_, _>>()?;
    let architectures = shape.architectures.into_iter().map(|a| a.value).collect();
    let window = AdmissionWindow { name: shape.name.value, opening, architectures, mac_prefixes };
    let image = ImageRef { template: shape.template, channel: shape.channel, version: shape.version };
    Ok((window, image, shape.machines))
}

/// Whole bytes of a MAC address, in lower case with colons.
fn normal_prefix(text: &Spanned<String>) -> Result<String, Complaint> {
    let lower = text.value.to_ascii_lowercase().replace('-', ":");
    let pair = |octet: &str| octet.len() == 2 && octet.bytes().all(|b| b.is_ascii_hexdigit());
    let octets: Vec<&str> = lower.split(':').collect();
    if octets.len() > 6 || !octets.iter().all(|octet| pair(octet)) {
        return Err(Complaint::about(text, "not the beginning of a MAC address; write it like 52:54:00"));
    }
    Ok(lower)
}

/// A MAC address in lower case with colons; `None` when it is not a unicast MAC address.
#[must_use]
pub fn normal_mac(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase().replace('-', ":");
    let octets: Vec<&str> = lower.split(':').collect();
    let well_formed = octets.len() == 6
        && octets.iter().all(|octet| octet.len() == 2 && octet.bytes().all(|b| b.is_ascii_hexdigit()));
    // IEEE 802: the lowest bit of the first octet marks a group address, which no NIC has.
    let unicast = u8::from_str_radix(octets.first()?, 16).ok()? & 1 == 0;
    (well_formed && unicast).then_some(lower)
}

/// True for an RFC 1123 label in lower case: what a host name, a node name and a certificate's name all accept.
#[must_use]
pub fn is_label(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && edge(text.as_bytes().first())
        && edge(text.as_bytes().last())
}

fn check_label(name: &Spanned<String>) -> Result<(), Complaint> {
    if is_label(&name.value) {
        return Ok(());
    }
    let text = format!(
        "`{}` is not a name: 1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit",
        name.value
    );
    Err(Complaint::about(name, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: shelfboot.dev/v1
kind: Inventory
stores:
  - name: store-1
    machines:
      - {name: w1, template: k8s-worker, channel: stable, mac: '52-54-00-AA-BB-01'}
      - name: w2
        template: k8s-worker
        channel: stable
        version: 2026.11.1
        any: true
";

    fn complaint(text: &str) -> String {
        parse(Path::new("inventory.yaml"), text).unwrap_err().to_string()
    }

    #[test]
    fn a_good_inventory_is_read() {
        let inventory = parse(Path::new("inventory.yaml"), GOOD).unwrap();
        let machines = inventory.machines_of("store-1");
        assert_eq!(machines[0].selector, MachineSelector::Mac("52:54:00:aa:bb:01".into()));
        assert_eq!(machines[1].selector, MachineSelector::Any);
        assert_eq!(machines[1].image.version.as_deref(), Some("2026.11.1"));
        assert!(inventory.machines_of("store-2").is_empty());
    }

    #[test]
    fn some_templates_need_a_person_and_the_file_may_say_otherwise() {
        let inventory = parse(Path::new("inventory.yaml"), GOOD).unwrap();
        assert_eq!(inventory.tier("k8s-worker"), Tier::Store);
        assert_eq!(inventory.tier("storage-node"), Tier::Person);
        let policy = "templates:
  - {name: k8s-worker, admission: person}
  - {name: storage-node, admission: store}
stores:";
        let inventory = parse(Path::new("inventory.yaml"), &GOOD.replace("stores:", policy)).unwrap();
        assert_eq!(inventory.tier("k8s-worker"), Tier::Person);
        assert_eq!(inventory.tier("storage-node"), Tier::Store);
        let twice = complaint(&GOOD.replace("stores:", &policy.replace("storage-node", "k8s-worker")));
        assert!(twice.starts_with("inventory.yaml:5:") && twice.contains("twice"), "{twice}");
        let unknown = complaint(&GOOD.replace("stores:", &policy.replace("admission: store", "admission: nobody")));
        assert!(unknown.starts_with("inventory.yaml:5:"), "{unknown}");
    }

    #[test]
    fn a_window_is_so_many_places_with_names_of_their_own() {
        let windows = "  - name: store-2
    windows:
      - {name: refit, template: k8s-worker, channel: stable, machines: 2, until: '2026-12-01T18:00:00Z', macPrefixes: ['52-54-00']}
      - {name: spare, template: k8s-worker, channel: stable, machines: 1, storeMayOpenMinutes: 60, architectures: [x86_64]}
    machines: []
";
        let text = format!("{GOOD}{windows}");
        let inventory = parse(Path::new("inventory.yaml"), &text).unwrap();
        let machines = inventory.machines_of("store-2");
        assert_eq!(machines.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["refit-1", "refit-2", "spare-1"]);
        assert_eq!(machines[1].selector, MachineSelector::Window("refit".into()));
        let windows = inventory.windows_of("store-2");
        assert_eq!(windows[0].mac_prefixes, ["52:54:00"]);
        assert_eq!(windows[1].opening, Opening::ByStore { longest_minutes: 60 });
        for (from, to, place, word) in [
            ("until: '2026-12-01T18:00:00Z'", "until: soon", 14, "2026-12-01T18:00:00Z"),
            ("machines: 2", "machines: 101", 14, "100"),
            ("'52-54-00'", "'52-5'", 14, "52:54:00"),
            ("x86_64", "riscv64", 15, "aarch64"),
            (", storeMayOpenMinutes: 60", "", 15, "storeMayOpenMinutes"),
            ("name: spare", "name: refit", 15, "refit-1"),
            ("name: refit", "name: w1-", 14, "name"),
        ] {
            let wrong = complaint(&text.replace(from, to));
            assert!(wrong.starts_with(&format!("inventory.yaml:{place}:")) && wrong.contains(word), "{wrong}");
        }
    }

    #[test]
    fn a_store_says_more_than_its_region() {
        let text = "parameters: {till.port: \"9100\", till.word: north}
stores:
  - name: store-2
    parameters: {till.word: \"${quay}\"}
    machines: []";
        let inventory = parse(Path::new("inventory.yaml"), &GOOD.replace("stores:", text)).unwrap();
        let said = |store: &str| inventory.parameters_of(store).into_values().collect::<Vec<_>>();
        assert_eq!(said("store-1"), ["9100", "north"]);
        assert_eq!(said("store-2"), ["9100", "${quay}"]);
        let name = complaint(&GOOD.replace("stores:", "parameters: {\"a b\": c}\nstores:"));
        assert!(name.starts_with("inventory.yaml:3:") && name.contains("`a b`"), "{name}");
        let long = complaint(&GOOD.replace("stores:", &format!("parameters: {{a: {}}}\nstores:", "x".repeat(1025))));
        assert!(long.contains("1024 bytes"), "{long}");
    }

    #[test]
    fn a_machines_network_becomes_files_and_its_own_counts_more_than_the_stores() {
        let text = GOOD.replace("machines:", "network: {mtu: 1400}\n    machines:");
        let text =
            text.replace("any: true", "any: true\n        network: {addresses: [10.0.4.7/24], gateways: [10.0.4.1]}");
        let inventory = parse(Path::new("inventory.yaml"), &text).unwrap();
        let content = |name: &str| inventory.files_of(name).into_iter().map(|file| file.content).collect::<String>();
        assert!(content("w1").contains("MTUBytes=1400") && content("w1").contains("DHCP=yes"));
        assert!(content("w2").contains("Address=10.0.4.7/24") && !content("w2").contains("MTUBytes"));
        assert!(content("w3").is_empty());
        let wrong = complaint(&text.replace("10.0.4.1]", "10.0.5.1]"));
        assert!(wrong.starts_with("inventory.yaml:13:") && wrong.contains("10.0.5.1"), "{wrong}");
        let shared = complaint(&text.replace("{mtu: 1400}", "{addresses: [10.0.4.7/24]}"));
        assert!(shared.contains("belong to one machine"), "{shared}");
    }

    #[test]
    fn complaints_name_the_place_and_the_fix() {
        let unknown = complaint(&GOOD.replace("any: true", "anny: true"));
        assert!(unknown.starts_with("inventory.yaml:11:"), "{unknown}");
        let mac = complaint(&GOOD.replace("52-54-00-AA-BB-01", "52-54"));
        assert!(mac.starts_with("inventory.yaml:6:"), "{mac}");
        let twice = complaint(&GOOD.replace("name: w2", "name: w1"));
        assert!(twice.starts_with("inventory.yaml:7:") && twice.contains("line 6"), "{twice}");
        let both = complaint(&GOOD.replace("any: true", "any: false"));
        assert!(both.contains("any: true"), "{both}");
        let version = complaint(&GOOD.replace("dev/v1", "dev/v9"));
        assert!(version.starts_with("inventory.yaml:1:") && version.contains("shelfboot.dev/v1"), "{version}");
    }

    #[test]
    fn group_addresses_are_no_machines() {
        assert_eq!(normal_mac("01:00:5e:00:00:01"), None);
        assert_eq!(normal_mac("52:54:00:12:34:5g"), None);
    }
}
