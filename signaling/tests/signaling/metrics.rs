//! What does a server tell of itself, and whom?

use coplay_proto::signal::{ClientMessage, Report, ReportedPath, ServerMessage};
use coplay_signaling::{Config, MetricsAccess, Stun};

use crate::client::*;

#[tokio::test]
async fn what_happens_is_counted() {
    let server = plain();
    let (mut a, _) = Client::coplay(&server, "/r?next=2").await;
    let mut b = Client::stock(&server, "/r?next=2").await;
    a.hears(ServerMessage::NewPeer(b.me)).await;
    b.reaches(&mut a).await;
    Client::refused(&server, "/r?next=0").await;
    for report in
        [Report::Path(ReportedPath::Host), Report::Path(ReportedPath::Relay), Report::Failed("no_answer".into())]
    {
        a.say(serde_json::to_string(&ClientMessage::Report(report)).unwrap()).await;
    }
    // The reports were read before this.
    a.reaches(&mut b).await;
    let text = http(&server, "/metrics").await;
    assert!(
        text.contains("Content-Type: text/plain; version=0.0.4")
            || text.contains("content-type: text/plain; version=0.0.4")
    );
    for line in [
        "coplay_rooms 1",
        "coplay_peers 2",
        "coplay_joins_total{dialect=\"coplay\"} 1",
        "coplay_joins_total{dialect=\"matchbox\"} 1",
        "coplay_matches_total 1",
        "coplay_refusals_total{error=\"malformed\"} 1",
        "coplay_signals_total{kind=\"candidate\"} 2",
        "coplay_connected_ends_total{path=\"host\"} 1",
        "coplay_connected_ends_total{path=\"relay\"} 1",
        "coplay_failed_ends_total{code=\"no_answer\"} 1",
        "coplay_received_frames_total 5",
        "coplay_stopping 0",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn only_peers_with_the_subprotocol_report() {
    let server = plain();
    let mut stock = Client::stock(&server, "/r").await;
    stock.tell(&ClientMessage::Report(Report::Failed("no_answer".into()))).await;
    assert_eq!(stock.closed().await, Some(4400));
    assert!(!http(&server, "/metrics").await.contains("coplay_failed_ends_total{"));
}

#[tokio::test]
async fn metrics_are_for_this_machine_unless_told_otherwise() {
    let forwarded = "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\nConnection: close\r\n\r\n";
    let server = plain();
    assert!(http(&server, "/metrics").await.contains("coplay_rooms"));
    assert!(raw(&server, forwarded).await.starts_with("HTTP/1.1 404"), "for another, through a proxy on this machine");
    let public = start(Config { metrics: MetricsAccess::Public, ..Config::local().stun(Stun::Off) });
    assert!(raw(&public, forwarded).await.contains("coplay_rooms"));
    let metrics = MetricsAccess::At("127.0.0.1:0".parse().unwrap());
    let apart = start(Config { metrics, ..Config::local().stun(Stun::Off) });
    assert!(http(&apart, "/metrics").await.starts_with("HTTP/1.1 404"));
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let address = apart.metrics_addr().unwrap();
    assert!(raw_at(address, get("/metrics")).await.contains("coplay_rooms"));
    assert!(raw_at(address, get("/readyz")).await.ends_with("ready\n"));
    assert!(raw_at(address, get("/r")).await.starts_with("HTTP/1.1 404"), "and nothing else");
}
