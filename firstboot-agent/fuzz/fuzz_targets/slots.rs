//! Any bytes as GRUB's block, as a boot image's name and as `slots.json`: no panic; what is written is read again, and no start of
//! whatever was kept gives more tries than there are.
#![no_main]

use contracts::grubenv;
use firstboot_agent::slots::{
    entries::Name,
    model::{Counter, Evidence, GIVEN_BACK_MOST, Seen, Slots},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(environment) = grubenv::read(bytes)
        && let Some(block) = grubenv::write(&environment)
    {
        assert_eq!(grubenv::read(&block), Some(environment));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(name) = Name::read(text) {
        assert_eq!(Name::read(&name.file()), Some(name.clone()));
        let _ = Name::before(&[name], text, None);
    }
    if let Ok(slots) = serde_json::from_str::<Slots>(text) {
        let before = slots.trial.as_ref().map_or(0, |trial| trial.given_back);
        for root_hash in ["a", &slots.good.root_hash, slots.trial.as_ref().map_or("b", |trial| &trial.to.root_hash)] {
            let counter = Some(Counter { left: 1, done: 2 });
            let seen = Seen { root_hash, boot_id: "x", counter, evidence: Evidence { watchdog: true, panic: false } };
            let (next, _) = slots.begin(&seen);
            let after = next.trial.as_ref().map_or(0, |trial| trial.given_back);
            assert!(after <= before.max(GIVEN_BACK_MOST));
        }
    }
});
