//! What does signaling cost, and how long does it take? `coplay-signaling` and an unmodified `matchbox_server`, each in
//! a process of its own, in turns. Run by `cargo xtask bench signaling`, which builds both and gives their paths.
//!
//! Clients and servers share one machine, so the times are those of both; what can be compared is the ratio.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

mod client;
mod load;
mod server;

use std::{
    env,
    error::Error,
    path::{Path, PathBuf},
};

use serde_json::json;
use server::{Kind, Server};

/// How often each server is measured; the medians are shown.
const ROUNDS: usize = 3;
/// How many peers are there at once where that is the question.
const PEERS: u32 = 10_000;

/// What one round found.
#[derive(Clone, Copy, Default)]
struct Figures {
    idle_kb_per_peer: f64,
    join_p50_ms: f64,
    join_p99_ms: f64,
    pairs_per_s: f64,
    signals_per_s: f64,
    reconnect_storm_s: f64,
    match_p99_ms: f64,
}

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result {
    let paths: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [coplay, matchbox] = paths.as_slice() else {
        return Err("give the paths of coplay-signaling and matchbox_server: `cargo xtask bench signaling` does".into());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let servers = [(Kind::Coplay, coplay), (Kind::Matchbox, matchbox)];
    let mut found = [Vec::new(), Vec::new()];
    for round in 1..=ROUNDS {
        for ((kind, path), rounds) in servers.iter().zip(&mut found) {
            eprintln!("round {round} of {ROUNDS}: {}", kind.name());
            rounds.push(runtime.block_on(measure(*kind, path))?);
        }
    }
    for ((kind, _), rounds) in servers.iter().zip(&found) {
        let median = |figure: fn(&Figures) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(figure).collect();
            values.sort_by(f64::total_cmp);
            (values[values.len() / 2] * 100.0).round() / 100.0
        };
        let row = json!({
            "server": kind.name(),
            "peers": PEERS,
            "idle_kb_per_peer": median(|figures| figures.idle_kb_per_peer),
            "join_p50_ms": median(|figures| figures.join_p50_ms),
            "join_p99_ms": median(|figures| figures.join_p99_ms),
            "pairs_per_s": median(|figures| figures.pairs_per_s),
            "signals_per_s": median(|figures| figures.signals_per_s),
            "reconnect_storm_s": median(|figures| figures.reconnect_storm_s),
            "match_p99_ms": median(|figures| figures.match_p99_ms),
        });
        println!("{row}");
    }
    Ok(())
}

/// A fresh server for each question, so that none pays for another.
async fn measure(kind: Kind, path: &Path) -> Result<Figures> {
    let mut figures = Figures::default();
    let server = Server::start(kind, path)?;
    let before = server.memory_kb()?;
    let idle = load::crowd(&server, PEERS).await?;
    load::settle().await;
    figures.idle_kb_per_peer = (server.memory_kb()? - before) / f64::from(PEERS);
    figures.reconnect_storm_s = load::storm(&server, idle).await?;
    drop(server);
    let server = Server::start(kind, path)?;
    [figures.join_p50_ms, figures.join_p99_ms] = load::joins(&server).await?;
    figures.match_p99_ms = load::matches(&server).await?;
    drop(server);
    let server = Server::start(kind, path)?;
    figures.pairs_per_s = load::pairs(&server).await?;
    figures.signals_per_s = load::signals(&server).await?;
    Ok(figures)
}
