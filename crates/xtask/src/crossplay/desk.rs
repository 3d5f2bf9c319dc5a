//! Where the peers of a match report each stage they have reached, and wait for what comes next.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{StatusCode, Uri},
    routing::post,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::wire::{Order, Reached};
use crate::{
    pages,
    run::{Result, Running},
};

/// As many reports wait at most: a peer has one at a time.
const ARRIVALS: usize = 64;

/// A peer that has reached a stage and waits for its next order.
pub(super) struct Waiting {
    pub(super) reached: Reached,
    answer: oneshot::Sender<Order>,
}

impl Waiting {
    /// Lets the peer go on. One that is gone is noticed at its next stage.
    pub(super) fn order(self, order: Order) {
        let _ = self.answer.send(order);
    }
}

struct Arrival {
    name: String,
    waiting: Waiting,
}

/// An HTTP server for the peers of one match, which also serves the page.
pub(super) struct Desk {
    pub(super) address: SocketAddr,
    arrivals: mpsc::Receiver<Arrival>,
    server: JoinHandle<()>,
}

impl Desk {
    /// Opens a desk on a free port of this machine, with the page of this folder.
    pub(super) async fn open(page: PathBuf) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| format!("no free port: {error}"))?;
        let address = listener.local_addr().map_err(|error| format!("no free port: {error}"))?;
        let (sender, arrivals) = mpsc::channel(ARRIVALS);
        let router = Router::new()
            .route("/reached/{name}", post(reached))
            .with_state(sender)
            .fallback(move |uri: Uri| async move { pages::file(&page, uri.path()) });
        let server = tokio::spawn(async move {
            // Ends with the task only.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, arrivals, server })
    }

    /// Waits until all of these peers have reached their next stage.
    pub(super) async fn gather(
        &mut self,
        names: &[String],
        limit: Duration,
        running: &mut [Running],
    ) -> Result<BTreeMap<String, Waiting>> {
        let until = Instant::now() + limit;
        let mut here = BTreeMap::new();
        while here.len() < names.len() {
            match timeout(Duration::from_millis(500), self.arrivals.recv()).await {
                Ok(Some(arrival)) => {
                    if let Reached::Failed(why) = &arrival.waiting.reached {
                        return Err(format!("{} failed: {why}{}", arrival.name, last_words(&arrival.name, running)));
                    }
                    here.insert(arrival.name, arrival.waiting);
                }
                Ok(None) => return Err("the desk is closed".to_owned()),
                Err(_) => running.iter_mut().try_for_each(Running::check)?,
            }
            if Instant::now() > until {
                let missing: Vec<_> = names.iter().filter(|name| !here.contains_key(*name)).collect();
                let told: Vec<_> = missing.iter().map(|name| format!("{name}{}", last_words(name, running))).collect();
                return Err(format!("waited {limit:?} in vain for {}", told.join("\n")));
            }
        }
        Ok(here)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn last_words(name: &str, running: &[Running]) -> String {
    running.iter().find(|running| running.name == name).map(Running::last_words).unwrap_or_default()
}

async fn reached(
    State(desk): State<mpsc::Sender<Arrival>>,
    Path(name): Path<String>,
    Json(reached): Json<Reached>,
) -> std::result::Result<Json<Order>, StatusCode> {
    let (answer, order) = oneshot::channel();
    let arrival = Arrival { name, waiting: Waiting { reached, answer } };
    desk.send(arrival).await.map_err(|_| StatusCode::GONE)?;
    order.await.map(Json).map_err(|_| StatusCode::GONE)
}
