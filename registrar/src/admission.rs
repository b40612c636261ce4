//! May this machine join, and as what? Pure: every input is an argument, nothing is changed.

use crate::broker::Brokers;
use crate::inventory::{Inventory, Machine, Tier};
use crate::voucher::{self, MAX_VOUCHERS, StoreKeys};
use contracts::enrollment::{Csr, EnrollmentRequest};
use contracts::store::MachineSelector;
use contracts::voucher::VoucherStatement;
use std::collections::{HashMap, HashSet};
use time::OffsetDateTime;

/// More than these would only cost time.
const MAX_CSRS: usize = 4;

/// Which key belongs to which inventory entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pins {
    by_entry: HashMap<String, String>,
    by_key: HashMap<String, String>,
    revoked: HashSet<String>,
}

impl Pins {
    /// Adds one pin.
    pub fn insert(&mut self, entry: &str, fingerprint: &str) {
        self.by_entry.insert(entry.into(), fingerprint.into());
        self.by_key.insert(fingerprint.into(), entry.into());
    }

    /// Notes that an entry's machine is to stay out.
    pub fn revoke(&mut self, entry: &str) {
        self.revoked.insert(entry.into());
    }

    fn of(&self, entry: &Machine) -> Option<&str> {
        self.by_entry.get(&entry.name).map(String::as_str)
    }
}

/// What is to be done with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Let it in.
    Admit(Admitted),
    /// Keep it out.
    Refuse(Refusal),
}

/// Who is let in, as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The inventory entry's name.
    pub name: String,
    /// The store that vouches for it.
    pub store: String,
    /// The MAC address that the store saw.
    pub mac: String,
    /// The DHCP relay that the store's word rests on, where the machine is no neighbour of the store's router.
    pub relay: Option<String>,
    /// True when this is the entry's first key and is to be pinned now.
    pub first_key: bool,
    /// The store's word is not enough for this template: unless a person has admitted this key, it has to wait.
    pub needs_person: bool,
    /// A former entry, gone from the inventory, whose pin this key leaves behind.
    pub releases: Option<String>,
    /// What it asks its broker for, checked; `None` when it does not ask yet.
    pub asked: Option<Vec<Csr>>,
}

/// Who is kept out, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A stable code.
    pub code: &'static str,
    /// For people: why, and what to do.
    pub reason: String,
    /// What a store said about the machine, when a voucher was good.
    pub vouched: Option<VoucherStatement>,
}

/// Decides about one request of the machine whose key has this fingerprint.
///
/// `store_keys` holds the keys of the stores that the vouchers claim, `pins` at least the pins of those stores'
/// entries and of this key.
#[must_use]
pub fn admit(
    request: &EnrollmentRequest,
    fingerprint: &str,
    inventory: &Inventory,
    pins: &Pins,
    store_keys: &StoreKeys,
    brokers: &Brokers,
    now: OffsetDateTime,
) -> Decision {
    let vouched = match vouched(request, fingerprint, store_keys, now) {
        Ok(statement) => statement,
        Err((code, reason)) => return Decision::Refuse(Refusal { code, reason, vouched: None }),
    };
    match admit_vouched(request, fingerprint, inventory, pins, brokers, &vouched) {
        Ok(admitted) => Decision::Admit(admitted),
        Err((code, reason)) => Decision::Refuse(Refusal { code, reason, vouched: Some(vouched) }),
    }
}

type Why = (&'static str, String);

fn vouched(
    request: &EnrollmentRequest,
    fingerprint: &str,
    store_keys: &StoreKeys,
    now: OffsetDateTime,
) -> Result<VoucherStatement, Why> {
    let mut why =
        ("voucher-missing", "no store vouches for this machine; it has to ask netboot for a voucher".to_owned());
    for voucher in request.vouchers.iter().take(MAX_VOUCHERS) {
        match voucher::check(voucher, fingerprint, store_keys, now) {
            Ok(statement) => return Ok(statement),
            Err(error) => why = (error.code(), error.to_string()),
        }
    }
    Err(why)
}

fn admit_vouched(
    request: &EnrollmentRequest,
    fingerprint: &str,
    inventory: &Inventory,
    pins: &Pins,
    brokers: &Brokers,
    vouched: &VoucherStatement,
) -> Result<Admitted, Why> {
    // First: a revoked key gets in nowhere, not even where its entry is gone from the inventory.
    if let Some(name) = pins.by_key.get(fingerprint).filter(|name| pins.revoked.contains(*name)) {
        return Err(("revoked", revoked_text(name)));
    }
    let entry = entry_for(request, fingerprint, inventory, pins, vouched)?;
    if entry.image.template != request.template {
        let text = format!(
            "{} is to run {}, this machine runs {}; reinstall it",
            entry.name, entry.image.template, request.template
        );
        return Err(("template-mismatch", text));
    }
    if pins.revoked.contains(&entry.name) {
        return Err(("revoked", revoked_text(&entry.name)));
    }
    if pins.of(entry).is_some_and(|pinned| pinned != fingerprint) {
        return Err(("key-pinned", pinned_text(&entry.name)));
    }
    let elsewhere = pins.by_key.get(fingerprint).filter(|other| **other != entry.name);
    if let Some(other) = elsewhere.filter(|other| inventory.lists(other)) {
        let text = format!(
            "this machine's key belongs to {other}, not to {}; to move it: registrar machine reopen {other}",
            entry.name
        );
        return Err(("key-elsewhere", text));
    }
    Ok(Admitted {
        name: entry.name.clone(),
        store: vouched.store.clone(),
        mac: vouched.mac.clone(),
        relay: vouched.relay.as_ref().map(|relay| relay.address.clone()),
        first_key: pins.of(entry).is_none(),
        // The pinned key has been admitted once, and that holds until IT re-opens the entry.
        needs_person: pins.of(entry).is_none() && inventory.tier(&entry.image.template) == Tier::Person,
        releases: elsewhere.cloned(),
        asked: asked(request, &entry.name, brokers)?,
    })
}

/// The store's entry with this MAC address; otherwise the place in a window that the store has given it; otherwise the spare's entry that this key has already, otherwise the
/// first free one, of the machine's template if there is one.
fn entry_for<'a>(
    request: &EnrollmentRequest,
    fingerprint: &str,
    inventory: &'a Inventory,
    pins: &Pins,
    vouched: &VoucherStatement,
) -> Result<&'a Machine, Why> {
    let machines = inventory.machines_of(&vouched.store);
    let named = |m: &&Machine| matches!(&m.selector, MachineSelector::Mac(mac) if *mac == vouched.mac);
    if let Some(entry) = machines.iter().find(named) {
        return Ok(entry);
    }
    // A place in a window is the machine's to which the store has given it: the store knows when the window was open.
    let place = |m: &&Machine| {
        matches!(m.selector, MachineSelector::Window(_)) && vouched.entry.as_deref() == Some(m.name.as_str())
    };
    if let Some(entry) = machines.iter().find(place) {
        return Ok(entry);
    }
    let spares: Vec<&Machine> = machines.iter().filter(|m| m.selector == MachineSelector::Any).collect();
    let Some(first) = spares.first() else {
        let text = format!(
            "store {} has no entry for {} and none for any machine; add one to the inventory",
            vouched.store, vouched.mac
        );
        return Err(("not-in-inventory", text));
    };
    let free = || spares.iter().filter(|m| pins.of(m).is_none() && !pins.revoked.contains(&m.name));
    let found = spares
        .iter()
        .find(|m| pins.of(m) == Some(fingerprint))
        .or_else(|| free().find(|m| m.image.template == request.template))
        .or_else(|| free().next());
    found.copied().ok_or_else(|| ("key-pinned", pinned_text(&first.name)))
}

/// Without a broker it is not asked for anything: the caller tells the machine that it has to wait.
fn asked(request: &EnrollmentRequest, name: &str, brokers: &Brokers) -> Result<Option<Vec<Csr>>, Why> {
    if request.csrs.len() > MAX_CSRS {
        let text = format!("{} certificate signing requests; at most {MAX_CSRS} are read", request.csrs.len());
        return Err(("csr-invalid", text));
    }
    let broker = brokers.of(&request.template).filter(|_| request.join || !request.csrs.is_empty());
    let checked = broker.map(|broker| broker.check(name, &request.csrs)).transpose();
    checked.map_err(|objection| (objection.code, objection.reason))
}

fn revoked_text(name: &str) -> String {
    format!("{name} was revoked; to let a machine take its place: registrar machine reopen {name}")
}

fn pinned_text(name: &str) -> String {
    format!("{name} belongs to another machine's key; if this machine replaces it: registrar machine reopen {name}")
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
