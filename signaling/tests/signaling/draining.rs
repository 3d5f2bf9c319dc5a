//! Does a server that stops let peers finish what they are at?

use std::time::{Duration, Instant};

use coplay_proto::signal::{ServerMessage, SignalError};
use coplay_signaling::{Config, Signaling, Stun, Timing};
use tokio::sync::oneshot;

use crate::client::*;

/// Longer than a handshake is waited for after its last word, 2 s.
const WINDOW: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_any_more_and_who_is_there_is_told_to_come_again() {
    let timing = Timing { drain: WINDOW, ..Timing::default() };
    let signaling = Signaling::bind(Config { timing, ..Config::local().stun(Stun::Off) }).await.unwrap();
    let (address, url) = (signaling.local_addr(), signaling.url());
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(signaling.serve(async move { drop(stopped.await) }));
    let at = At { address, url };
    // One pair is in the middle of a handshake, the others have been idle for long enough.
    let mut idle = Vec::new();
    for room in 0..8 {
        idle.push(at.join(&format!("/idle-{room}")).await);
    }
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let mut busy = at.join("/busy").await;
    let mut other = at.join("/busy").await;
    busy.hears(ServerMessage::NewPeer(other.me)).await;
    assert!(at.get("/readyz").await.starts_with("HTTP/1.1 200"));
    drop(stop);
    let start = Instant::now();
    // Until the server has heard of it.
    soon("readyz to say so", async { while !at.get("/readyz").await.starts_with("HTTP/1.1 503") {} }).await;
    assert!(at.get("/healthz").await.starts_with("HTTP/1.1 200"), "it is well");
    let mut late = Client::open_at(at.address, &format!("{}/r", at.url), true).await.unwrap();
    assert_eq!(late.dismissed().await, (SignalError::Stopping, 4503));
    // The handshake goes on.
    busy.signal(other.me, offer("late")).await;
    other.hears(ServerMessage::Signal { sender: busy.me, data: offer("late") }).await;
    other.signal(busy.me, answer("late")).await;
    busy.hears(ServerMessage::Signal { sender: other.me, data: answer("late") }).await;
    let answered = start.elapsed();
    let mut ends = Vec::new();
    for mut client in idle {
        ends.push(tokio::spawn(async move { (client.closed().await, start.elapsed()) }));
    }
    assert_eq!(busy.closed().await, Some(1012));
    let held = start.elapsed();
    assert!(held > answered + Duration::from_millis(1500), "it was held until it was quiet: {held:?}");
    let mut times = Vec::new();
    for end in ends {
        let (code, time) = end.await.unwrap();
        assert_eq!(code, Some(1012));
        times.push(time);
    }
    times.sort_unstable();
    assert!(times[7] - times[0] > WINDOW / 10, "spread over the window: {times:?}");
    soon("the end", serving).await.unwrap();
    assert!(start.elapsed() < WINDOW + timing.close + Duration::from_secs(3), "{:?}", start.elapsed());
}

/// A server that is not [`coplay_signaling::Running`].
struct At {
    address: std::net::SocketAddr,
    url: String,
}

impl At {
    async fn join(&self, path: &str) -> Client {
        let mut client = Client::open_at(self.address, &format!("{}{path}", self.url), true).await.unwrap();
        match client.next().await {
            ServerMessage::Welcome(welcome) => client.me = welcome.me,
            other => panic!("{other:?}"),
        }
        client
    }

    async fn get(&self, path: &str) -> String {
        raw_at(self.address, &format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")).await
    }
}
