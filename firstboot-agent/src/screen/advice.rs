//! What people in the store can do, for each code with which a step ends badly. The store page has the same codes.

/// What to do. Codes that nobody in the store can do anything about, and unknown ones, lead to support.
#[must_use]
pub fn advice(code: &str) -> &'static str {
    match code {
        "no-boot-service" | "no-assignment" | "network" => {
            "Check that the network cable is plugged in at both ends and that the store's router is on."
        }
        "no-network-card" => "Use another spare: this one's network card is not seen.",
        "no-disk" => "Push the disk in firmly. If that does not help, use another spare.",
        "no-disk-fits" => "Put in a disk of at least 64 GB, or use another spare.",
        "foreign-data" | "state-unreadable" | "layout-changed" => {
            "Do not throw this disk away: somebody may need what is on it. Put in an empty disk, or call support."
        }
        "state-locked" => {
            "If this disk comes from another machine, put it back there. Otherwise call support. Do not throw it away."
        }
        "no-tpm" => "Use another spare, or call support: this machine has no TPM, or it is switched off.",
        "state-in-the-clear" => "Put in an empty disk, or call support. Do not throw the disk away.",
        "already-installed" => "Put in an empty disk, or call support.",
        "sector-size" | "no-bios-image" => "Call support: this machine's firmware has to be switched to UEFI.",
        "too-long" | "disk-busy" | "partition" | "boot-entry" | "boot-files" | "state" | "verify" | "root-damaged" => {
            "If this comes back after two tries, put in another disk, or use another spare."
        }
        "claim" => "Call support and read out the code above.",
        "pending" | "wait" | "join-material" | "not-ready" | "region" | "no-voucher" => {
            "Nothing. The region has to answer first. If it takes longer than half an hour, call support."
        }
        "not-admitted" | "refused" | "revoked" => "Call support: IT has to list this machine for this store.",
        "metadata-expired" => {
            "Call support: this store has not reached its image repository for days. Its line may be down."
        }
        "retired" | "staged" => "Switch it off, and put it on the shelf.",
        "not-for-the-shelf" => "Change what it says, switch it off and on again; or call support.",
        "not-retired" => "Do not put it on the shelf yet: call support and read out what it says.",
        "no-data-disk" | "data-disks" => "Put in empty data disks as the label on the spare says, or call support.",
        "wrong-version" => "Nothing: it restarts. If this comes back after two tries, call support.",
        "update" | "update-lost" => "Nothing: the machine goes on with the version that it has.",
        "take-medium-out" => "Take the stick or CD out, then switch the machine off and on again.",
        "install" | "repository" | "manifest" | "registrar-ca" => {
            "Nothing yet. If this comes back after two tries, call support and read out the code."
        }
        _ => UNKNOWN,
    }
}

const UNKNOWN: &str = "Call support and read out the code.";

/// Whether somebody in the store has to do something by now, where a step has ended with this code so many times in a row. The words of
/// [`advice`] say it, so that signals and screen agree. `waits`: the machine goes on by itself.
#[must_use]
pub fn somebody_must_act(code: &str, waits: bool, times: u32) -> bool {
    let words = advice(code);
    if words.contains("after two tries") {
        times > 2
    } else {
        !(words.starts_with("Nothing") || waits && words == UNKNOWN)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_code_leads_somewhere() {
        for code in ["foreign-data", "claim", "a-code-from-the-future"] {
            assert!(super::advice(code).ends_with('.'), "{code}");
        }
    }

    #[test]
    fn signals_call_somebody_when_the_words_do() {
        let act = super::somebody_must_act;
        for code in ["foreign-data", "claim", "no-disk", "not-admitted", "metadata-expired", "take-medium-out"] {
            assert!(act(code, false, 1) && act(code, true, 1), "{code}");
        }
        for code in ["pending", "wait", "region", "update"] {
            assert!(!act(code, true, 1) && !act(code, false, 99), "{code}");
        }
        for code in ["install", "verify", "too-long"] {
            assert!(!act(code, false, 2) && act(code, false, 3), "{code}");
        }
        assert!(act("a-code-from-the-future", false, 1) && !act("a-code-from-the-future", true, 1));
    }
}
