//! What people in the store may change: an admission window, with the PIN, from our own form. And that nothing else changes
//! anything.

use crate::common::{Netboot, World, assignments, until};
use contracts::{
    store::{MachineSelector, StoreAssignments, StoreMachine},
    window::{AdmissionWindow, Opening, WindowStatus},
};
use netboot::{http::routes, pin::secret::SecretFile};
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};

pub(crate) const PIN: &str = "428571";

/// A machine by name, and a place for any other in a window that the store may open.
pub(crate) fn with_window(generation: u64) -> StoreAssignments {
    let mut document = assignments(generation, 1);
    let place = StoreMachine {
        name: "spares-1".into(),
        selector: MachineSelector::Window("spares".into()),
        ..document.machines[0].clone()
    };
    document.machines.push(place);
    let opening = Opening::ByStore { longest_minutes: 30 };
    document.windows =
        vec![AdmissionWindow { name: "spares".into(), opening, architectures: vec![], mac_prefixes: vec![] }];
    document
}

/// As `netboot pin set` does, with fewer rounds.
pub(crate) fn set_pin(world: &World) {
    SecretFile::make_with(PIN, 1000).unwrap().write(&world.state().join("pin.json")).unwrap();
}

async fn store(pin: bool) -> (World, Netboot) {
    let world = World::new();
    world.know(with_window(3));
    if pin {
        set_pin(&world);
    }
    let netboot = world.start().await;
    (world, netboot)
}

fn window(netboot: &Netboot) -> WindowStatus {
    netboot.running.shared.status().windows.remove(0)
}

/// The token in the form, as a browser would send it back.
async fn token(netboot: &Netboot) -> String {
    let html = netboot.client.get(netboot.url("/window")).send().await.unwrap().text().await.unwrap();
    let (_, rest) = html.split_once("name=token value=\"").expect("a form with a token");
    rest.split_once('"').unwrap().0.to_owned()
}

async fn submit(netboot: &Netboot, origin: Option<&str>, fields: &[(&str, &str)]) -> (StatusCode, HeaderMap, String) {
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let mut request = client.post(netboot.url("/window")).body(body);
    if let Some(origin) = origin {
        request = request.header("origin", origin);
    }
    let answer = request.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
    (answer.status(), answer.headers().clone(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_form_opens_and_closes_a_window_with_the_pin_and_from_our_page_alone() {
    let (_world, netboot) = store(true).await;
    let (token, own) = (token(&netboot).await, netboot.base.clone());
    let open = |token: &str, pin: &str| {
        [("action", "open"), ("window", "spares"), ("machines", "1"), ("minutes", "10"), ("token", token), ("pin", pin)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let send = async |origin: Option<&str>, token: &str, pin: &str| {
        let fields = open(token, pin);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        submit(&netboot, origin, &fields).await
    };
    // Another site, no site, no token, another process' token: nothing, and the PIN is not even looked at.
    for (origin, token) in [
        (Some("http://evil.example"), token.as_str()),
        (None, token.as_str()),
        (Some("null"), token.as_str()),
        (Some(own.as_str()), ""),
        (Some(own.as_str()), "9999999999.00"),
    ] {
        let (status, _, html) = send(origin, token, PIN).await;
        assert_eq!(status, 403, "{origin:?} {token}");
        assert!(html.contains("This form is too old, or came from another page."), "{html}");
        assert_eq!(window(&netboot).open_until, None);
    }
    let (status, _, html) = send(Some(&own), &token, "428572").await;
    assert!(status == 403 && html.contains("The PIN is wrong. Nothing was changed."), "{html}");
    assert!(!html.contains("428572"), "what was typed is not shown again");
    assert_eq!(window(&netboot).open_until, None);

    let (status, headers, _) = send(Some(&own), &token, PIN).await;
    assert_eq!((status.as_u16(), headers["location"].to_str().unwrap()), (303, "/?lang=en"));
    let opened = window(&netboot);
    assert!(opened.open_until.is_some() && opened.places_left == 1, "{opened:?}");
    let page = netboot.client.get(netboot.url("/")).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"), "{policy}");
    assert!(page.text().await.unwrap().contains("Spare servers are being taken in until"));
    // The region hears of it.
    until(|| netboot.running.shared.status().events_waiting > 0).await;

    let fields = [("action", "close"), ("window", "spares"), ("token", &token), ("pin", PIN)];
    assert_eq!(submit(&netboot, Some(&own), &fields).await.0, 303);
    assert_eq!(window(&netboot).open_until, None);

    // From here on only wrong ones: soon they are not even compared. However slow this is, the pauses grow faster.
    let mut waits = 0;
    for _ in 0..12 {
        let (status, _, html) = send(Some(&own), &token, "428572").await;
        waits += usize::from(status == 429 && html.contains("There were too many wrong PINs."));
    }
    assert!(waits > 0);
    assert_eq!(window(&netboot).open_until, None);
    netboot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_open_a_window_with_json_and_browsers_of_other_sites_do_not() {
    let (_world, netboot) = store(true).await;
    let request = |pin: &str, action: Value| json!({ "version": 1, "pin": pin, "action": action });
    let open = json!({ "open": { "minutes": 10 } });
    let post = async |body: &Value, kind: &str, origin: Option<&str>| {
        let mut call = netboot.client.post(netboot.url("/v1/window")).header("content-type", kind);
        if let Some(origin) = origin {
            call = call.header("origin", origin);
        }
        let answer = call.body(body.to_string()).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let json = "application/json";
    assert_eq!(post(&request(PIN, open.clone()), "text/plain", None).await.1["code"], "not-json");
    assert_eq!(post(&request(PIN, open.clone()), json, Some("http://evil.example")).await.1["code"], "not-json");
    let (status, answer) = post(&request("000001", open.clone()), json, None).await;
    assert_eq!((status, answer["code"].as_str()), (403, Some("wrong-pin")));
    let (status, answer) = post(&request(PIN, json!({ "open": { "minutes": 31 } })), json, None).await;
    assert_eq!((status, answer["code"].as_str()), (409, Some("bad-number")));
    assert_eq!(window(&netboot).open_until, None);
    let (status, answer) = post(&request(PIN, open), json, None).await;
    assert_eq!((status, answer["name"].as_str()), (200, Some("spares")));
    assert!(window(&netboot).open_until.is_some());
    netboot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_pin_nothing_can_be_changed() {
    let (_world, netboot) = store(false).await;
    let html = netboot.client.get(netboot.url("/window")).send().await.unwrap().text().await.unwrap();
    assert!(html.contains("This store has no PIN yet.") && !html.contains("<form"), "{html}");
    let body = json!({ "version": 1, "pin": "", "action": { "open": {} } });
    let answer = netboot.client.post(netboot.url("/v1/window")).json(&body).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["code"], "no-pin");
    netboot.stop().await;
}

/// Everything that this service keeps: roster, machines, queue, files. What only counts visits is left out.
fn kept(world: &World, netboot: &Netboot) -> String {
    let shared = &netboot.running.shared;
    let mut status = shared.status();
    status.now = time::OffsetDateTime::UNIX_EPOCH;
    let roster = shared.store.with(|roster| format!("{roster:?}"));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(world.state()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            files.push((path.clone(), std::fs::read(path).unwrap()));
        }
    }
    files.sort();
    format!("{roster}\n{status:?}\n{files:?}")
}

/// No request that anybody can send without the PIN wipes, orders or opens anything: every route, by every method.
#[tokio::test(flavor = "multi_thread")]
async fn no_other_call_changes_anything() {
    let routes = routes();
    let changing: Vec<&str> = routes.iter().filter(|r| !r.changes.is_empty()).map(|r| r.path).collect();
    assert_eq!(
        changing,
        ["/window", "/v1/window", "/v1/machines", "/v1/events", "/v1/logs"],
        "a new way to change something"
    );
    let (world, netboot) = store(true).await;
    netboot.loaded().await;
    let before = kept(&world, &netboot);
    let paths: std::collections::BTreeSet<&str> = routes.iter().map(|route| route.path).collect();
    let mut tried = 0;
    for path in paths {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WIPE"] {
            let ours = |r: &&netboot::http::Route| {
                r.path == path && (r.method == method || (r.method == "GET" && method == "HEAD"))
            };
            let route = routes.iter().find(ours);
            // Machines and agents may: what they change is tested with them.
            if matches!((path, method), ("/v1/machines" | "/v1/events", "POST")) {
                continue;
            }
            let url = netboot.url(if path == "/page/live" { "/page/live?once=1" } else { path });
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let body = "action=open&window=spares&minutes=1&machines=1&pin=428571&wipe=yes";
            let mut request = netboot.client.request(method.clone(), url);
            if method != Method::HEAD && method != Method::GET {
                request = request.body(body).header("content-type", "application/x-www-form-urlencoded");
            }
            let status = request.send().await.unwrap().status();
            if route.is_none() {
                assert!(matches!(status.as_u16(), 404 | 405), "{method} {path}: {status}");
            }
            assert_eq!(kept(&world, &netboot), before, "{method} {path} changed something");
            tried += 1;
        }
    }
    assert!(tried > 80, "{tried}");
    netboot.stop().await;
}

/// The PIN opens a window and touches nothing else: not the ledger, not what the region ordered.
#[tokio::test(flavor = "multi_thread")]
async fn the_pin_reaches_nothing_but_windows() {
    let (_world, netboot) = store(true).await;
    let look = || netboot.running.shared.store.with(|r| (r.assignments.clone(), r.ledger.clone()));
    let before = look();
    for action in [json!({ "open": {} }), json!("close"), json!("wipe"), json!({ "reinstall": {} }), json!(null)] {
        let body = json!({ "version": 1, "pin": PIN, "action": action, "wipe": true, "machine": "52:54:00:aa:bb:01" });
        let answer = netboot.client.post(netboot.url("/v1/window")).json(&body).send().await.unwrap();
        let known = action == "close" || action.get("open").is_some();
        assert_eq!(answer.status() == 200, known, "{action}");
        assert_eq!(look(), before, "{action}");
    }
    netboot.stop().await;
}
