//! Where orders and image come from: the store's netboot, or an offline medium, which is an order by itself.

use super::{
    medium::{self, Found, Origin},
    network::{self, Given, Lan},
    source::Source,
};
use crate::{
    clock,
    disk::plan::Identity,
    failure::{Coded, Failure},
};
use contracts::{
    VERSION,
    assignment::{Action, Assignment},
    facts::{MachineFacts, Owner},
    manifest::TrustFloor,
    network::NetworkConfig,
};
use url::{Host, Url};

/// More mirrors than this are not asked.
const MOST_MIRRORS: usize = 8;

/// One of the two.
#[derive(Debug)]
pub enum Way {
    /// The store.
    Store(Lan),
    /// A medium that carries an image.
    Medium(Found),
}

/// An offline medium is taken when the machine was started from it, and otherwise only when there is no store: who starts from the
/// network wants what the store says.
///
/// # Errors
/// When neither is there.
pub async fn find(floor: &TrustFloor, origin: &Origin) -> Result<(Way, String), Failure> {
    let mut found = if origin.from_medium { medium::find(origin, true).await } else { None };
    if let Some(medium) = found.take_if(|found| found.medium.offline) {
        return offline(floor, medium);
    }
    let given = found.as_ref().map_or_else(Given::default, |found| Given {
        netboot: found.medium.netboot.clone(),
        network: found.medium.network.clone(),
    });
    match network::find(floor, given).await {
        Ok((lan, words)) => Ok((Way::Store(lan), words)),
        Err(failure) if origin.from_medium => Err(failure),
        Err(failure) => match medium::find(origin, false).await.filter(|found| found.medium.offline) {
            Some(medium) => offline(floor, medium),
            None => Err(failure),
        },
    }
}

fn offline(floor: &TrustFloor, medium: Found) -> Result<(Way, String), Failure> {
    clock::at_least(floor.built_at).code("clock")?;
    let image = &medium.medium.image;
    let words = format!(
        "no network is needed: the medium carries {} {}",
        image.template,
        image.version.as_deref().unwrap_or_default()
    );
    Ok((Way::Medium(medium), words))
}

impl Way {
    /// The repository.
    #[must_use]
    pub fn source(&self) -> Source {
        match self {
            Self::Store(lan) => Source::Store(lan.netboot.clone()),
            Self::Medium(medium) => medium.source(),
        }
    }

    /// Where the archive may come from, in the order of asking: the repository itself, then the mirrors that the order names.
    #[must_use]
    pub fn sources(&self, assignment: &Assignment) -> Vec<Source> {
        let mirrors = match self {
            Self::Store(lan) => mirrors(&assignment.mirrors, lan.netboot.http()),
            Self::Medium(_) => Vec::new(),
        };
        std::iter::once(self.source()).chain(mirrors).collect()
    }

    /// What a medium says of the machine's network.
    #[must_use]
    pub fn network(&self) -> Option<&NetworkConfig> {
        match self {
            Self::Store(lan) => lan.network.as_ref(),
            Self::Medium(found) => found.medium.network.as_ref(),
        }
    }

    /// Whose the install becomes. Without a store nobody's yet: the installed system writes it down when it meets its store.
    #[must_use]
    pub fn owner(&self, assignment: &Assignment) -> Option<Owner> {
        match self {
            Self::Store(lan) => assignment.store.clone().map(|store| Owner { store, machine: lan.mac.clone() }),
            Self::Medium(_) => None,
        }
    }
}

/// Only plain HTTP to an address: the installer has no certificates and asks no DNS.
fn mirrors(urls: &[String], http: &reqwest::Client) -> Vec<Source> {
    let usable = |url: &&Url| url.scheme() == "http" && !matches!(url.host(), None | Some(Host::Domain(_)));
    let urls: Vec<Url> = urls.iter().take(MOST_MIRRORS).filter_map(|url| Url::parse(url).ok()).collect();
    urls.iter().filter(usable).map(|url| Source::mirror(http.clone(), url)).collect()
}

/// The order that an offline medium is: install its one image, on a disk that holds nobody's data and no finished install. Where this
/// machine is installed already, it is to start from its disk.
#[must_use]
pub fn order_of(medium: &contracts::medium::Medium, facts: &MachineFacts) -> Assignment {
    let me = Identity::new(None, facts);
    let installed = facts.disks.iter().any(|disk| !disk.removable && me.installed_on(disk));
    let (action, reason) = if installed {
        (Action::Boot, "this machine is installed; the medium can be taken out")
    } else {
        (Action::Install, "the medium is an order to install what is on it")
    };
    Assignment {
        version: VERSION,
        action,
        reason: reason.into(),
        store: None,
        image: Some(medium.image.clone()),
        mirrors: Vec::new(),
        registrars: Vec::new(),
        fleet: Vec::new(),
        stage: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::{
        assignment::ImageRef,
        facts::{Disk, DiskContent, Firmware},
        medium::Medium,
    };

    fn facts(content: DiskContent) -> MachineFacts {
        let disk = Disk {
            kernel_name: "vda".into(),
            bytes: 64_000_000_000,
            sector_bytes: 512,
            path: "pci-0000:00:04.0".into(),
            wwn: None,
            serial: None,
            model: None,
            removable: false,
            read_only: false,
            content,
            ..Disk::default()
        };
        MachineFacts {
            version: VERSION,
            firmware: Firmware::Uefi,
            cpus: 1,
            memory_bytes: 1,
            disks: vec![disk],
            ..MachineFacts::default()
        }
    }

    #[test]
    fn mirrors_are_addresses_that_speak_plain_http() {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let named = [
            "http://198.51.100.7/repo",
            "http://[2001:db8::7]:8080/a/",
            "https://198.51.100.7/",
            "http://cdn.example/",
            "x",
        ];
        let client = crate::net::client::Netboot::new("http://192.0.2.1").unwrap();
        let found = mirrors(&named.map(String::from), client.http());
        let places: Vec<String> = found.iter().map(|source| source.place("archives/a")).collect();
        assert_eq!(places, ["http://198.51.100.7/repo/archives/a", "http://[2001:db8::7]:8080/a/archives/a"]);
    }

    #[test]
    fn a_medium_orders_an_install_unless_this_machine_has_one() {
        let image = ImageRef { template: "till".into(), channel: "stable".into(), version: Some("1".into()) };
        let medium = Medium {
            version: 1,
            image: image.clone(),
            root_hash: "ab".repeat(32),
            offline: true,
            netboot: None,
            network: None,
        };
        let order = |content| order_of(&medium, &facts(content)).action;
        assert_eq!(order(DiskContent::Blank), Action::Install);
        assert_eq!(order(DiskContent::HalfInstall { owner: None }), Action::Install);
        assert_eq!(order(DiskContent::Installed { root_hashes: vec![], owner: None }), Action::Boot);
        // Refused by the plan, which names the disk.
        let owner = Some(Owner { store: "s".into(), machine: "02:00:00:00:00:09".into() });
        assert_eq!(order(DiskContent::Installed { root_hashes: vec![], owner }), Action::Install);
        assert_eq!(order_of(&medium, &facts(DiskContent::Blank)).image, Some(image));
    }
}
