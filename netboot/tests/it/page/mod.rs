//! The store page in a real Chromium, before a running netboot whose machines are played on a wire of their own.
//!
//! `cargo xtask test` runs this: it needs a Debian tree with chromium, chromium-driver and fonts, named by
//! `SHELFBOOT_BROWSER_TREE`, and a folder for the pictures, named by `SHELFBOOT_SCREENSHOTS`.

mod machine;
mod webdriver;

use self::{
    machine::{Agent, Lan},
    webdriver::{Browser, Driver},
};
use crate::{
    common::{MAC, Netboot, World, namespace},
    region::{self, Heard, Region},
    window::{PIN, set_pin, with_window},
};
use contracts::{event::StepStatus, step::Step};
use netboot::{proto::mac::Mac, service::Prepared};
use rustls::version::TLS13;
use std::{path::PathBuf, sync::Arc};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const W1: Mac = Mac([0x52, 0x54, 0, 0xaa, 0xbb, 1]);
const OFFICE_PC: Mac = Mac([0x00, 0x1b, 0x21, 0x3c, 0x4d, 0x5e]);
/// In one of the narrowest windows that are in use, nothing may be cut off.
const PHONE: (u32, u32) = (320, 640);
const DESK: (u32, u32) = (1024, 768);

#[test]
#[ignore = "needs a browser: cargo xtask test runs it"]
fn in_a_real_browser() {
    namespace::run("page::inside_in_a_real_browser");
}

/// Seconds that each step took in two earlier installs.
const STEP_TIMES: &str = r#"{"k8s-worker": {
    "power-on": [6, 9], "netboot": [31, 44], "network": [8, 12], "assign": [1, 1], "plan": [1, 2], "partition": [3, 5],
    "install": [140, 190], "verify": [60, 90], "restart": [60, 80], "enroll": [5, 9], "join": [40, 70], "ready": [20, 40]
}}"#;

/// netboot on the wire, and what looks at it.
struct Scene {
    netboot: Netboot,
    lan: Lan,
    port: u16,
    pictures: PathBuf,
}

impl Scene {
    async fn start(world: &World, more: &str) -> Self {
        let lan = Lan::new();
        world.know(with_window(7));
        set_pin(world);
        // As earlier installs left it.
        std::fs::write(world.state().join("step-times.json"), STEP_TIMES).unwrap();
        let stop = CancellationToken::new();
        let prepared = Prepared::read(&world.write_config_for("lan0", more)).unwrap();
        let running = prepared.start(stop.clone()).unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let base = format!("http://{}:{}", namespace::SERVER, world.http);
        let netboot = Netboot { running, stop, client, base };
        netboot.loaded().await;
        let pictures = PathBuf::from(std::env::var_os("SHELFBOOT_SCREENSHOTS").expect("SHELFBOOT_SCREENSHOTS"));
        std::fs::create_dir_all(&pictures).unwrap();
        Self { netboot, lan, port: world.http, pictures }
    }

    /// An agent of a new attempt.
    fn agent(&self) -> Agent<'_> {
        Agent { client: &self.netboot.client, base: &self.netboot.base, mac: MAC, attempt: Uuid::new_v4() }
    }

    /// Looks at the page on a desk and on a phone, without and with what is folded away.
    async fn picture(&self, windows: &[&Browser<'_>; 2], name: &str, seen: &[&str]) {
        for (window, size) in windows.iter().zip(["desk", "phone"]) {
            for text in seen {
                window.sees(text).await;
            }
            let name = format!("{name}-{size}");
            window.picture(&self.pictures, &name).await;
            window.is_clean(&self.netboot.base, &name).await;
            window.script("document.querySelectorAll('main details').forEach(d => d.open = true)").await;
            window.is_clean(&self.netboot.base, &format!("{name} with details")).await;
            if size == "desk" {
                window.picture(&self.pictures, &format!("{name}-details")).await;
            }
            window.script("document.querySelectorAll('main details').forEach(d => d.open = false)").await;
        }
    }
}

const TO_INSTALL: [(Step, &str); 4] = [
    (Step::Network, "eth0 has 10.77.0.50 and found http://10.77.0.2"),
    (Step::Assign, "w1 gets the template k8s-worker"),
    (Step::Plan, "the only blank disk: nvme0n1, 512 GB"),
    (Step::Partition, "the disk is divided; nothing on it can start yet"),
];

const TO_RESTART: [(Step, &str); 3] = [
    (Step::Install, "k8s-worker 1 is on the disk (812 MiB)"),
    (Step::Verify, "the disk holds exactly what was signed"),
    (Step::Restart, "started from the disk"),
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run in a namespace by another test"]
async fn inside_in_a_real_browser() {
    let tree =
        PathBuf::from(std::env::var_os("SHELFBOOT_BROWSER_TREE").expect("SHELFBOOT_BROWSER_TREE names the tree"));
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    namespace::wire();
    let (mut world, region) = (World::new(), Region::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.credential = region.credential(listener.local_addr().unwrap().port());
    let driver = Driver::start(&tree).await;
    let scene = Scene::start(&world, "").await;
    let desk = driver.browser(DESK.0, DESK.1, true, "en").await;
    let phone = driver.browser(PHONE.0, PHONE.1, true, "en").await;
    let both = [&desk, &phone];
    for window in both {
        window.open(&scene.netboot.url("/")).await;
        // What is lost when a page is loaded anew: from here on everything has to come by itself.
        window.script("window.mark = 'the same page'").await;
        // Page, style, script, live updates: so requests are seen at all.
        assert!(window.log_is_clean(&scene.netboot.base, "first").await >= 4);
    }
    let see = async |name: &str, seen: &[&str]| scene.picture(&both, name, seen).await;
    see("01-line-down", &["No server is being set up.", "The line to head office is down."]).await;
    let acceptor = region.acceptor(&[&TLS13]);
    tokio::spawn(region::serve(listener, acceptor, region::router(Arc::new(Heard::default()))));
    see("02-empty", &["Nothing is wrong.", "Press the power button.", "head office works"]).await;

    spares(&scene, &both).await;

    scene.lan.firmware_asks(W1);
    scene.lan.firmware_fetches(scene.port, 200_000);
    see("03-fetching", &["w1 is being set up.", "Step 2 of 12: Loading the start program"]).await;
    circles(&scene).await;
    see("04-refused", &["w1 needs a look.", "boot-refused", "may have refused it"]).await;

    let first = scene.agent();
    first.asks().await;
    first.did(&TO_INSTALL).await;
    first.says(Step::Install, StepStatus::Started, "fetching the system", |_| {}).await;
    first.copies(0.43, 96).await;
    see("05-installing", &["Step 7 of 12: Copying the system", "43 %", "5 to 7 minutes", "the last 2 servers"]).await;
    live(&scene, &desk, &first).await;

    first.did(&TO_RESTART).await;
    first.says(Step::Enroll, StepStatus::Started, "asking the region", |_| {}).await;
    let words = "call support and read out the claim code K7QM-2F9X-0TBD (w1 is admitted by a person)";
    first.waits(Step::Enroll, "claim", words).await;
    see("06-claim", &["w1 is waiting for a call from you.", "K7QM-2F9X-0TBD"]).await;
    accessible(&desk).await;
    first.did(&[(Step::Enroll, "admitted as w1"), (Step::Join, "kubelet.service is started")]).await;
    first.says(Step::Ready, StepStatus::Started, "waiting for the cluster", |_| {}).await;
    first.waits(Step::Ready, "not-ready", "the node is not ready yet").await;
    see("07-not-ready", &["Step 12 of 12: Last check"]).await;
    first.did(&[(Step::Ready, "the cluster reports this machine ready")]).await;
    see("08-done", &["Everything is working.", "It is working."]).await;

    scene.lan.firmware_asks(OFFICE_PC);
    see("09-stranger", &["does not know asks to be set up", "00:1B:21:3C:4D:5E"]).await;
    let again = scene.agent();
    scene.lan.firmware_asks(W1);
    again.did(&TO_INSTALL[..2]).await;
    let words = "vda (64 GB, serial S4EVNX0R) holds an NTFS file system; nothing was written";
    again.fails(Step::Plan, "foreign-data", words).await;
    see("10-failed", &["w1 needs help.", "foreign-data", "Do not try to delete it"]).await;
    again.fails(Step::Plan, "from-a-newer-agent", "the disk <b>sang</b> & danced").await;
    see("11-unknown-code", &["read out this code", "from-a-newer-agent", "<b>sang</b>"]).await;
    for window in both {
        window.dark(true).await;
    }
    again.fails(Step::Plan, "no-disk", "no disk was found").await;
    see("12-dark-failed", &["It finds no disk."]).await;
    for window in both {
        window.open(&scene.netboot.url("/?lang=de")).await;
    }
    again.waits(Step::Enroll, "claim", "read out the claim code K7QM-2F9X-0TBD (why)").await;
    see("13-dark-german-claim", &["w1 wartet auf Ihren Anruf.", "K7QM-2F9X-0TBD"]).await;
    for window in both {
        window.dark(false).await;
    }
    scene.lan.firmware_asks(W1);
    see("14-german-disk", &["w1 startet.", "Er startet von seiner Platte."]).await;
    desk.close().await;
    phone.close().await;
    without_script(&scene, &driver).await;
    scene.netboot.stop().await;
}

/// Spares that are not on the list are let in, with the PIN, by a form that needs no script of ours.
async fn spares(scene: &Scene, both: &[&Browser<'_>; 2]) {
    let base = &scene.netboot.base;
    let link = "document.querySelector('#window-link a').click()";
    let fill = |pin: &str, action: &str| {
        format!(
            "document.querySelector('[name=pin]').value = '{pin}'; document.querySelector('[value={action}]').click()"
        )
    };
    for (window, size) in both.iter().zip(["desk", "phone"]) {
        window.sees("Take in spare servers that are not on the list").await;
        window.script(link).await;
        window.sees("For how many minutes").await;
        window.picture(&scene.pictures, &format!("16-window-{size}")).await;
        window.is_clean(base, "the form").await;
        window.script(&fill("428572", "open")).await;
        window.sees("The PIN is wrong. Nothing was changed.").await;
        window.picture(&scene.pictures, &format!("17-window-wrong-pin-{size}")).await;
        window.log_may_complain(403).await;
        window.script(&fill(PIN, "open")).await;
        window.sees("Spare servers are being taken in until").await;
        window.picture(&scene.pictures, &format!("18-window-open-{size}")).await;
        window.is_clean(base, "a window is open").await;
        window.script("document.querySelector('#window a').click()").await;
        window.sees("Close").await;
        window.is_clean(base, "the form to close").await;
        window.script(&fill(PIN, "close")).await;
        window.sees("Take in spare servers that are not on the list").await;
        window.script("window.mark = 'the same page'").await;
        window.is_clean(base, "closed").await;
    }
}

/// An open page follows without being loaded anew, keeps what was unfolded, and says so when it is cut off.
async fn live(scene: &Scene, desk: &Browser<'_>, agent: &Agent<'_>) {
    desk.script("document.querySelector('main section details').open = true").await;
    agent.copies(0.91, 15).await;
    desk.sees("91 %").await;
    assert_eq!(desk.script("return window.mark").await, "the same page");
    assert_eq!(desk.script("return document.querySelector('main section details').open").await, true);
    assert_eq!(desk.script("return document.querySelector('progress').value").await.as_f64().unwrap(), 6.91);
    desk.script("document.querySelector('main section details').open = false").await;
    let title = desk.script("return document.title").await;
    assert_eq!(title, "w1 is being set up. · Servers of store store-17");
    desk.is_clean(&scene.netboot.base, "live").await;
}

/// Landmarks, one heading of the first level, and names for what is not text.
async fn accessible(window: &Browser<'_>) {
    let count = async |selector: &str| {
        window.script(&format!("return document.querySelectorAll('{selector}').length")).await.as_u64().unwrap()
    };
    for (selector, expected) in [("h1", 1), ("main", 1), ("header", 1), ("nav[aria-label]", 1), ("[role=status]", 1)] {
        assert_eq!(count(selector).await, expected, "{selector}");
    }
    assert_eq!(count("progress:not([aria-label])").await, 0);
    assert_eq!(count("svg:not([aria-hidden])").await, 0);
    assert_eq!(count("html[lang=en]").await, 1);
    // Large enough for a thumb.
    let low = "return [...document.querySelectorAll('a:not(.skip), summary')].filter(e => e.offsetHeight < 44).length";
    assert_eq!(window.script(low).await, 0);
}

/// The firmware gets its boot image again and again, and no agent ever speaks.
async fn circles(scene: &Scene) {
    for _ in 0..3 {
        scene.lan.firmware_asks(W1);
        assert!(scene.lan.firmware_fetches(scene.port, u64::MAX) > 300_000);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// The essentials need no script: the page is there, in the browser's language, and asks again by itself.
async fn without_script(scene: &Scene, driver: &Driver) {
    for (width, height, size) in [(DESK.0, DESK.1, "desk"), (PHONE.0, PHONE.1, "phone")] {
        let plain = driver.browser(width, height, false, "de-AT,de").await;
        plain.open(&scene.netboot.url("/")).await;
        plain.sees("w1 startet.").await;
        plain.picture(&scene.pictures, &format!("15-no-script-{size}")).await;
        let source = plain.source().await;
        assert!(source.contains("http-equiv=\"refresh\""), "{source}");
        assert!(plain.log_is_clean(&scene.netboot.base, "no script").await >= 2);
        plain.close().await;
    }
}
