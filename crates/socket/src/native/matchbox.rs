//! One attempt to connect with one peer by `matchbox_socket`: as `peer`, to the engine.
//!
//! What matchbox does not do by itself is done here: it has no bound for what waits to be sent, so [`Pace`] keeps what goes
//! into it to a rate; it has none for what came in, so it is not polled while the inbox has no room; it panics on signals
//! that it cannot use, so each attempt is a task of its own, and a panic costs that attempt; and it closes a connection
//! without waiting for what was sent, so that is waited for.

use std::{any::Any, future::poll_fn, sync::Arc, time::Duration};

use bytes::Bytes;
use coplay_proto::{
    Lane,
    signal::{IceServer, Signal},
};
use tokio::{
    sync::{mpsc, watch},
    task::coop::consume_budget,
    time::{Instant, sleep, sleep_until},
};

use self::pace::Pace;
use super::{
    engine::Report,
    inbox::Share,
    lanes::{FLUSHING, Inlets},
    peer::{Order, Shared},
    servers::usable,
};
use crate::{
    clock,
    matchbox::{Link, News},
    switchboard::Attempt,
};

mod pace;

/// How often [`crate::Path`] is brought up to date.
const PATH_INTERVAL: Duration = Duration::from_millis(250);
/// Of what `matchbox_socket` 0.15 panics with when a connection ends before its channels are open. Others mean that it
/// could not use what it was told.
const ENDED_EARLY: &str = "closed before";

/// Runs an attempt until it is stopped.
pub(super) async fn run(
    shared: Arc<Shared>,
    attempt: Attempt,
    ice_servers: Arc<[IceServer]>,
    offer: bool,
    inlets: Inlets,
    admitted: watch::Receiver<bool>,
    orders: mpsc::Receiver<Order>,
) {
    let serving = Serving {
        link: Link::open(attempt.peer, &usable_alone(&ice_servers), offer),
        shared: shared.clone(),
        attempt,
        inlets,
        admitted,
        share: Share::default(),
        open: false,
        pace: [Pace::new(clock::now()); 2],
        flushed: Instant::now(),
        path_at: Instant::now(),
    };
    if let Err(ended) = tokio::spawn(serving.run(orders)).await
        && let Ok(panic) = ended.try_into_panic()
    {
        let why = format!("matchbox_socket says: {}", text(&*panic));
        let refused = !why.contains(ENDED_EARLY);
        shared.report(attempt, if refused { Report::Refused(why) } else { Report::Failed(why) }).await;
    }
}

struct Serving {
    link: Link,
    shared: Arc<Shared>,
    attempt: Attempt,
    inlets: Inlets,
    admitted: watch::Receiver<bool>,
    share: Share,
    open: bool,
    /// By the lanes' order.
    pace: [Pace; 2],
    /// When what was sent reliably counts as arrived.
    flushed: Instant,
    /// When the path is asked for next.
    path_at: Instant,
}

impl Serving {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            // A flood from one peer leaves room for the tasks of others.
            consume_budget().await;
            let now = clock::now();
            let [unreliable, reliable] = self.pace.map(|pace| pace.wait(now));
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Describe(signal)) => self.link.tell(signal),
                    Some(Order::Candidate(json)) => self.candidate(json),
                    None => break,
                },
                news = poll_fn(|cx| self.link.poll(cx)) => if !self.hear(news).await { return },
                // What is more than the pace allows is lost here and now: later nobody wants it.
                Some(bytes) = self.inlets.unreliable.recv(), if self.open => if unreliable.is_none() {
                    self.send(Lane::Unreliable, bytes);
                },
                Some(bytes) = self.inlets.reliable.recv(), if self.open && reliable.is_none() => {
                    self.send(Lane::Reliable, bytes);
                }
                () = sleep(reliable.unwrap_or_default()), if self.open && reliable.is_some() => {}
                () = sleep_until(self.path_at), if self.open => {
                    self.path_at = Instant::now() + PATH_INTERVAL;
                    if let Some(path) = self.link.path() {
                        self.inlets.path.set(path);
                    }
                }
            }
        }
        self.stop().await;
    }

    /// An empty candidate says that there are no more. matchbox adds none after one that it cannot use.
    fn candidate(&self, json: String) {
        let candidate = serde_json::from_str::<serde_json::Value>(&json).ok();
        let line = candidate.as_ref().and_then(|candidate| candidate.get("candidate")?.as_str());
        if line.is_some_and(|line| !line.is_empty()) {
            self.link.tell(Signal::IceCandidate(json));
        }
    }

    fn send(&mut self, lane: Lane, bytes: Bytes) {
        self.pace[usize::from(lane == Lane::Reliable)].spend(clock::now(), bytes.len());
        if lane == Lane::Reliable {
            self.flushed = Instant::now() + FLUSHING;
        }
        self.link.send(lane, bytes);
    }

    /// Returns `false` if the engine has no more interest in the attempt.
    async fn hear(&mut self, news: News) -> bool {
        let report = match news {
            News::Signal(Signal::IceCandidate(json)) => Report::Candidate(json),
            News::Signal(description) => Report::Described(description),
            News::Received(lane, bytes) => {
                // While this waits, nothing more is taken from the peer.
                self.shared.inbox.datagram(self.attempt, lane, bytes, &self.share).await;
                return true;
            }
            News::Open => {
                self.open = true;
                self.shared.report(self.attempt, Report::LaneOpen(Lane::Unreliable)).await;
                self.shared.report(self.attempt, Report::LaneOpen(Lane::Reliable)).await;
                // Nothing is handed out until the caller was told of the peer.
                return self.admitted.wait_for(|&admitted| admitted).await.is_ok();
            }
            News::Closed => Report::LaneClosed,
            News::Failed(why) => Report::Failed(why),
        };
        self.shared.report(self.attempt, report).await;
        true
    }

    /// Takes nothing more in, and sends what waits to be sent, within bounds.
    async fn stop(mut self) {
        if !self.open {
            return;
        }
        while let Ok(bytes) = self.inlets.reliable.try_recv() {
            self.send(Lane::Reliable, bytes);
        }
        let until = self.flushed;
        loop {
            tokio::select! {
                news = poll_fn(|cx| self.link.poll(cx)) => if matches!(news, News::Closed | News::Failed(_)) { return },
                () = sleep_until(until) => return,
            }
        }
    }
}

/// The servers with those of their URLs that can be used: on others, matchbox panics.
fn usable_alone(servers: &[IceServer]) -> Vec<IceServer> {
    let with = |server: &IceServer| {
        let urls: Vec<String> = usable(server).into_iter().map(|usable| usable.url).collect();
        (!urls.is_empty()).then(|| IceServer { urls, ..server.clone() })
    };
    servers.iter().filter_map(with).collect()
}

/// What a panic said.
fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("nothing")
}
