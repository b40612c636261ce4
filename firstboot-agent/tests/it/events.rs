//! Events on their way to netboot.

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use contracts::{
    event::{Event, StepStatus},
    step::Step,
};
use firstboot_agent::{net::client::Netboot, report::Reporter};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_before_the_restart_arrives_before_what_happens_now() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let before = Reporter::new(Uuid::from_u128(7));
    before.done(Step::Install, "installed");
    before.done(Step::Verify, "checked");
    let kept = serde_json::to_vec(&before.unsent()).unwrap();

    let heard: Arc<Mutex<Vec<Event>>> = Arc::default();
    let take = |State(heard): State<Arc<Mutex<Vec<Event>>>>, Json(events): Json<Vec<Event>>| async move {
        heard.lock().unwrap().extend(events);
        StatusCode::NO_CONTENT
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let netboot = Netboot::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let router = Router::new().route("/v1/events", post(take)).with_state(heard.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });

    let reporter = Reporter::new(Uuid::from_u128(7));
    reporter.inherit(serde_json::from_slice(&kept).unwrap());
    reporter.started(Step::Enroll, "asking");
    reporter.connect(netboot, "02:00:00:00:00:01");
    assert!(reporter.flush(Duration::from_secs(20)).await, "the events did not get through");
    assert!(reporter.unsent().is_empty());

    let heard = heard.lock().unwrap();
    let steps: Vec<_> = heard.iter().map(|event| (event.data.step, event.data.status)).collect();
    let done = |step| (step, StepStatus::Done);
    assert_eq!(steps, [done(Step::Install), done(Step::Verify), (Step::Enroll, StepStatus::Started)]);
    assert!(heard.iter().all(|event| event.subject == "02:00:00:00:00:01"));
    assert!(heard.iter().all(|event| event.data.attempt == Some(Uuid::from_u128(7))), "one journey");
}
