//! Permission to install over somebody's data. The machine shows a number; the region's permit names it, and the disk. Once it
//! has been used there is another number, so that a permit counts once.

use super::repository::Repository;
use crate::{
    console,
    disk::plan::{Identity, Plan, Refusal, choose, describe, judge},
    failure::{Coded, Failure},
    fleet,
};
use contracts::{
    assignment::Assignment,
    disks::DiskPolicy,
    facts::{Disk, DiskContent, MachineFacts},
    fleet::{Asked, CA_TARGET, Order, WipePermit, number},
};
use time::OffsetDateTime;

/// More orders than a region ever has for one machine.
const MOST_ORDERS: usize = 64;

/// What is asked for.
#[derive(Debug)]
pub struct Permission {
    number: String,
}

impl Default for Permission {
    fn default() -> Self {
        Self { number: number(rand::random()) }
    }
}

impl Permission {
    /// The permits among the orders that count for this machine now.
    ///
    /// # Errors
    /// When there are orders, and the region's certificates cannot be had from the repository.
    pub async fn look(
        &self,
        assignment: &Assignment,
        facts: &MachineFacts,
        repository: &Repository,
    ) -> Result<Vec<WipePermit>, Failure> {
        if assignment.fleet.is_empty() {
            return Ok(Vec::new());
        }
        let ca = repository.target(CA_TARGET).await.code("repository")?;
        Ok(self.sort_out(assignment, facts, &ca, OffsetDateTime::now_utc()))
    }

    fn sort_out(
        &self,
        assignment: &Assignment,
        facts: &MachineFacts,
        ca: &[u8],
        now: OffsetDateTime,
    ) -> Vec<WipePermit> {
        let macs: Vec<String> = facts.nics.iter().map(|nic| nic.mac.clone()).collect();
        let asked = Asked { store: assignment.store.as_deref(), macs: &macs, number: &self.number, now };
        let mut permits = Vec::new();
        for envelope in assignment.fleet.iter().take(MOST_ORDERS) {
            match fleet::open(envelope, ca, now) {
                Ok(Order::Wipe(permit)) => match permit.check(&asked) {
                    Ok(()) => permits.push(permit),
                    Err(error) => console::line(&error.to_string()),
                },
                // Whoever is told to install is not retired.
                Ok(Order::Retire(_)) => {}
                Err(error) => console::line(&format!("an order is not followed: {error}")),
            }
        }
        permits
    }

    /// The disk: the one that a permit is for, otherwise what the policy says.
    ///
    /// # Errors
    /// [`Refusal`], with the number where a permit would help.
    pub fn choose(
        &self,
        facts: &MachineFacts,
        rules: &DiskPolicy,
        me: &Identity,
        permits: &[WipePermit],
    ) -> Result<(Plan, Option<WipePermit>), Failure> {
        let disks = &facts.disks;
        if let Some((index, permit)) = permitted(disks, permits) {
            // For everything else (size, sectors, write protection, the template's word) the same holds as for a blank one.
            let as_blank = Disk { content: DiskContent::Blank, ..disks[index].clone() };
            choose(std::slice::from_ref(&as_blank), rules, facts.firmware, me).map_err(failure)?;
            let words = format!("{} permitted to install over it (permit {})", permit.by, permit.id);
            let plan = Plan { disk: index, why: format!("{}: {words}", describe(&disks[index])) };
            return Ok((plan, Some(permit.clone())));
        }
        let judged = judge(disks, rules, facts.firmware, me);
        for verdict in &judged.verdicts {
            console::line(&format!("{} {}", describe(&disks[verdict.disk]), verdict.words));
        }
        judged.outcome.map(|plan| (plan, None)).map_err(|refusal| match refusal {
            Refusal::ForeignData(_) | Refusal::AlreadyInstalled(_) => {
                let words = format!("{refusal}. The number for a wipe permit is {}", self.number);
                Failure::new(refusal.code(), words)
            }
            other => failure(other),
        })
    }

    /// A permit was used: it counts no more.
    pub fn used(&mut self) {
        *self = Self::default();
    }
}

fn failure(refusal: Refusal) -> Failure {
    Failure::new(refusal.code(), refusal.to_string())
}

/// The one disk that a permit names. When two disks have the same identity nobody can tell which was meant.
fn permitted<'a>(disks: &[Disk], permits: &'a [WipePermit]) -> Option<(usize, &'a WipePermit)> {
    let meant = |permit: &WipePermit, disk: &Disk| {
        !disk.removable && permit.is_for(disk.wwn.as_deref(), disk.serial.as_deref())
    };
    permits.iter().find_map(|permit| {
        let mut found = disks.iter().enumerate().filter(|(_, disk)| meant(permit, disk));
        let (index, _) = found.next()?;
        found.next().is_none().then_some((index, permit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::facts::Firmware;
    use time::macros::datetime;
    use uuid::Uuid;

    fn disk(serial: &str, content: DiskContent) -> Disk {
        Disk {
            kernel_name: "vda".into(),
            bytes: 100_000_000_000,
            sector_bytes: 512,
            serial: Some(serial.into()),
            content,
            ..Disk::default()
        }
    }

    fn till_data() -> DiskContent {
        DiskContent::Foreign { what: "an NTFS file system".into() }
    }

    fn permit(disk: &str) -> WipePermit {
        let issued = datetime!(2026-11-21 10:00 UTC);
        WipePermit {
            version: contracts::VERSION,
            id: Uuid::from_u128(7),
            store: "s1".into(),
            mac: "02:00:00:00:00:01".into(),
            disk: disk.into(),
            number: "K7QM-2F9X".into(),
            by: "Kim".into(),
            issued,
            expires: issued,
        }
    }

    fn choose(disks: &[Disk], permits: &[WipePermit]) -> Result<(Plan, Option<WipePermit>), Failure> {
        let me = Identity { store: Some("s1".into()), macs: vec!["02:00:00:00:00:01".into()] };
        let facts = MachineFacts { disks: disks.to_vec(), firmware: Firmware::Uefi, ..MachineFacts::default() };
        Permission { number: "K7QM-2F9X".into() }.choose(&facts, &DiskPolicy::default(), &me, permits)
    }

    #[test]
    fn a_refusal_shows_the_number_where_a_permit_would_help() {
        let refused = choose(&[disk("A", till_data())], &[]).unwrap_err();
        assert_eq!(refused.code, "foreign-data");
        assert!(refused.to_string().ends_with("The number for a wipe permit is K7QM-2F9X"), "{refused}");
        assert!(!choose(&[], &[]).unwrap_err().to_string().contains("K7QM"));
    }

    #[test]
    fn a_permit_is_for_its_disk_alone_and_goes_before_a_blank_one() {
        let disks = [disk("A", till_data()), disk("B", till_data()), disk("C", DiskContent::Blank)];
        let (plan, used) = choose(&disks, &[permit("B")]).unwrap();
        assert_eq!((plan.disk, used), (1, Some(permit("B"))));
        assert!(plan.why.contains("Kim"), "{}", plan.why);
        assert_eq!(choose(&disks[..2], &[permit("Z")]).unwrap_err().code, "foreign-data");
        // Two disks that say the same of themselves.
        let twins = [disk("A", till_data()), disk("A", till_data())];
        assert_eq!(choose(&twins, &[permit("A")]).unwrap_err().code, "foreign-data");
    }

    #[test]
    fn what_does_not_fit_is_not_wiped() {
        let small = Disk { bytes: 1_000_000_000, ..disk("A", till_data()) };
        assert_eq!(choose(&[small], &[permit("A")]).unwrap_err().code, "no-disk-fits");
        let stick = Disk { removable: true, ..disk("A", till_data()) };
        assert_eq!(choose(&[stick], &[permit("A")]).unwrap_err().code, "no-disk");
    }

    #[test]
    fn a_used_number_does_not_come_back() {
        let mut permission = Permission::default();
        let before = permission.number.clone();
        permission.used();
        assert_ne!(permission.number, before);
    }
}
