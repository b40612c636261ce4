//! The table of limits in docs/netboot.md has the numbers of the code.

use crate::{
    board, boot_files,
    cache::{folder, metadata},
    http::{api, serve, window},
    logs::room,
    names, outbox,
    page::live,
    pin::guard,
    proto::{
        dhcp::{guids, limits, relayed, reply},
        http::request,
        tftp::transfer,
    },
    quiet_log,
    region::{assignments, relay},
    tftp_server,
};
use contracts::logs::LARGEST;
use std::time::Duration;

fn size(bytes: u64) -> String {
    match bytes {
        bytes if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        bytes if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} bytes"),
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

/// The rows, as the code has them.
fn rows() -> Vec<[String; 3]> {
    let row = |what: &str, bound: String, place: &str| [what.to_owned(), bound, format!("`{place}`")];
    let bytes = |count: usize| size(count as u64);
    let (web, lan) = (serve::LIMITS, relay::LIMITS);
    let tftp = tftp_server::LIMITS;
    vec![
        row(
            "HTTP connections",
            format!("{}, {} a client; the rest waits in the kernel or is closed", web.most, web.most_per_client),
            "http::serve",
        ),
        row(
            "head of a request",
            format!(
                "{} for a file, {} otherwise, within {}",
                bytes(request::LONGEST_HEAD),
                bytes(serve::LONGEST_HEAD),
                seconds(serve::HEADER_TIMEOUT)
            ),
            "http::serve",
        ),
        row(
            "bodies",
            format!(
                "facts {}, events {}, log {}, voucher {}, within {}; forms {}",
                bytes(api::LARGEST_REPORT),
                bytes(api::LARGEST_BATCH),
                size(LARGEST.next_multiple_of(1 << 10) as u64),
                bytes(api::LARGEST_VOUCHER),
                seconds(api::READ_TIMEOUT),
                bytes(window::LARGEST)
            ),
            "http::api",
        ),
        row("a connection on which nothing is asked", seconds(serve::IDLE), "http::serve"),
        row("a reader that keeps its window shut", seconds(serve::SILENT_PEER), "http::serve"),
        row(
            "a slow reader",
            format!(
                "at least {} in each {}",
                size(crate::http::sender::LEAST_BYTES),
                seconds(crate::http::sender::PACE)
            ),
            "http::sender",
        ),
        row(
            "relay to the region",
            format!(
                "{} connections, {} a client, {} without a byte",
                lan.most,
                lan.most_per_client,
                seconds(relay::IDLE)
            ),
            "region::relay",
        ),
        row(
            "TFTP transfers",
            format!(
                "{}, {} a client, {} of a client that has not proved to be there; windows of {} blocks",
                tftp.most,
                tftp.per_client,
                tftp.unproved,
                transfer::LARGEST_WINDOW
            ),
            "tftp_server",
        ),
        row(
            "DHCP packets",
            format!(
                "{} at once and {} a second of a client, {} a second in all; {} clients remembered",
                limits::CLIENT.burst,
                limits::CLIENT.per_second,
                limits::TOTAL.per_second,
                limits::MOST
            ),
            "proto::dhcp::limits",
        ),
        row(
            "answers to DHCP",
            format!("at most {} bytes, and {} times the question; one for one", reply::MOST, reply::MOST_TIMES),
            "proto::dhcp::reply",
        ),
        row("NICs remembered by GUID", guids::MOST.to_string(), "proto::dhcp::guids"),
        row(
            "machines behind relays",
            format!("{}, for {} minutes", relayed::MOST, relayed::REMEMBER.as_secs() / 60),
            "proto::dhcp::relayed",
        ),
        row("machines on the board", format!("{}, those of the inventory last to go", board::MOST), "board"),
        row(
            "events waiting",
            format!(
                "{}, of {} at most; outcomes are never dropped",
                outbox::queue::MOST,
                bytes(outbox::record::LARGEST_EVENT)
            ),
            "outbox",
        ),
        row("events that the region refused", outbox::writer::MOST_REFUSED.to_string(), "outbox"),
        row(
            "logs of machines",
            format!(
                "{} and {} a machine, {} and {} in all, the oldest of whoever holds most goes first; {} read at once, one in \
                 {} of a machine, {} and then one in {} in all",
                room::MOST_PER_MACHINE,
                size(room::BYTES_PER_MACHINE),
                room::MOST,
                size(room::BYTES),
                crate::logs::AT_ONCE,
                seconds(room::PAUSE),
                room::BURST,
                seconds(room::EVERY)
            ),
            "logs::room",
        ),
        row("live views of the page", format!("{}, {} a client", live::MOST, live::MOST_PER_CLIENT), "page"),
        row(
            "tries at the PIN",
            format!(
                "{} free a client, {} in all, then pauses of up to {} minutes; {} clients remembered",
                guard::FREE_PER_CLIENT,
                guard::FREE_IN_ALL,
                guard::LONGEST.as_secs() / 60,
                guard::MOST
            ),
            "pin::guard",
        ),
        row(
            "log lines held against repeats",
            format!("{}, the oldest is forgotten; {} of them written a minute", quiet_log::MOST, quiet_log::A_MINUTE),
            "quiet_log",
        ),
        row("boot file", format!("{}, read from disk", size(boot_files::LARGEST_BOOT_FILE)), "boot_files"),
        row("assignments", bytes(assignments::LARGEST), "region::assignments"),
        row(
            "metadata of an upstream",
            format!("{} a file, {} files", size(metadata::LARGEST), folder::MOST_FILES),
            "cache",
        ),
        row(
            "names remembered",
            format!(
                "{}, {} addresses each, answers of {} (UDP), 64 KiB (TCP)",
                names::MOST_NAMES,
                names::message::MOST_ADDRESSES,
                bytes(names::LARGEST)
            ),
            "names",
        ),
        row("open files", format!("{}, or what the system allows", crate::confine::WANTED_FILES), "confine"),
    ]
}

#[test]
fn the_table_of_limits_has_the_numbers_of_the_code() {
    let page = include_str!("../../docs/netboot.md");
    let (_, after) = page.split_once("\n## Limits\n").unwrap();
    let (section, _) = after.split_once("\n## ").unwrap_or((after, ""));
    let found: Vec<&str> = section.lines().filter(|line| line.starts_with('|')).skip(2).collect();
    let wanted: Vec<String> =
        rows().into_iter().map(|[what, bound, place]| format!("| {what} | {bound} | {place} |")).collect();
    assert_eq!(found, wanted, "write this into docs/netboot.md:\n{}\n", wanted.join("\n"));
}
