//! What is asked of a server, each load with an end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    Result,
    client::Client,
    server::{Kind, Server},
};

/// How many come at once where as many as possible are to be let in without haste.
const ABREAST: usize = 64;
/// Joins a second, and for how long, where the time of each is the question.
const JOINS_PER_SECOND: u32 = 1000;
const JOIN_SECONDS: u32 = 5;
/// How long pairs are made.
const PAIR_TIME: Duration = Duration::from_secs(5);
/// So many pairs signal at once, so often to and fro: below what a server lets one peer send in a burst.
const SIGNALLING: usize = 64;
const ROUND_TRIPS: usize = 800;
/// Of so many players each.
const MATCHES: usize = 300;
const PLAYERS: usize = 4;
/// How long to wait before a refused connection is tried again.
const AGAIN: Duration = Duration::from_millis(100);

/// Peers that do nothing, in rooms of two.
pub(crate) async fn crowd(server: &Server, peers: u32) -> Result<Vec<Client>> {
    let joins = (0..peers).map(|number| async move { Client::join(server, &format!("/idle-{}", number / 2)).await });
    stream::iter(joins).buffer_unordered(ABREAST).try_collect().await
}

/// Lets whatever was allocated only for a moment be given back.
pub(crate) async fn settle() {
    sleep(Duration::from_secs(2)).await;
}

/// All of them lose their connection, and join the same server again at once, as newcomers in rooms of other names: what
/// the server has to do when another one went down. Seconds until the last is in.
pub(crate) async fn storm(server: &Server, crowd: Vec<Client>) -> Result<f64> {
    let count = crowd.len();
    drop(crowd);
    let start = Instant::now();
    let back = (0..count).map(|number| async move {
        let path = format!("/storm-{}", number / 2);
        loop {
            match Client::join(server, &path).await {
                Ok(client) => return client,
                Err(_) => sleep(AGAIN).await,
            }
        }
    });
    let back: Vec<_> = stream::iter(back).buffer_unordered(count).collect().await;
    let seconds = start.elapsed().as_secs_f64();
    drop(back);
    Ok(seconds)
}

/// From the start of a peer's TCP connection until the other in its room hears of it: p50 and p99 in milliseconds.
pub(crate) async fn joins(server: &Server) -> Result<[f64; 2]> {
    let rooms = JOINS_PER_SECOND * JOIN_SECONDS / 2;
    let start = Instant::now() + Duration::from_millis(200);
    let pairs = (0..rooms).map(|number| async move {
        // Two peers for each room, the first one second before the other.
        let at = start + Duration::from_secs_f64(f64::from(number) * 2.0 / f64::from(JOINS_PER_SECOND));
        let path = format!("/join-{number}");
        sleep_until(at).await;
        let mut one = Client::join(server, &path).await?;
        sleep_until(at + Duration::from_secs(1)).await;
        let begun = Instant::now();
        let heard = async {
            one.hear("\"NewPeer\"").await?;
            Ok(begun.elapsed().as_secs_f64() * 1000.0)
        };
        let (milliseconds, other) = tokio::try_join!(heard, Client::join(server, &path))?;
        one.leave().await;
        other.leave().await;
        Result::<f64>::Ok(milliseconds)
    });
    let mut times = try_join_all(pairs).await?;
    times.sort_by(f64::total_cmp);
    Ok([0.5, 0.99].map(|share| percentile(&times, share)))
}

/// Pairs a second that come, meet, exchange offer and answer, and go.
pub(crate) async fn pairs(server: &Server) -> Result<f64> {
    let (made, end) = (Arc::new(AtomicU64::new(0)), Instant::now() + PAIR_TIME);
    let begun = Instant::now();
    let workers = (0..ABREAST).map(|worker| {
        let made = made.clone();
        async move {
            for number in 0.. {
                if Instant::now() >= end {
                    break;
                }
                let (one, other) = meet(server, &format!("/pair-{worker}-{number}")).await?;
                let (mut one, mut other) = (one, other);
                one.signal(&other.id, "Offer").await?;
                other.hear("\"Offer\"").await?;
                other.signal(&one.id, "Answer").await?;
                one.hear("\"Answer\"").await?;
                one.leave().await;
                other.leave().await;
                made.fetch_add(1, Ordering::Relaxed);
            }
            Result::<()>::Ok(())
        }
    });
    try_join_all(workers).await?;
    Ok(made.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64())
}

/// Signals a second that go through it.
pub(crate) async fn signals(server: &Server) -> Result<f64> {
    let rooms = (0..SIGNALLING).map(|number| async move { meet(server, &format!("/signals-{number}")).await });
    let pairs: Vec<_> = stream::iter(rooms).buffer_unordered(ABREAST).try_collect().await?;
    let begun = Instant::now();
    let talks = pairs.into_iter().map(|(mut one, mut other)| async move {
        for _ in 0..ROUND_TRIPS {
            one.signal(&other.id, "Offer").await?;
            other.hear("\"Offer\"").await?;
            other.signal(&one.id, "Answer").await?;
            one.hear("\"Answer\"").await?;
        }
        Result::<()>::Ok(())
    });
    try_join_all(talks).await?;
    Ok((2 * SIGNALLING * ROUND_TRIPS) as f64 / begun.elapsed().as_secs_f64())
}

/// From the start of the last player's TCP connection until all of a match know of it: p99 in milliseconds.
pub(crate) async fn matches(server: &Server) -> Result<f64> {
    let matches = (0..MATCHES).map(|number| async move {
        let path = match server.kind {
            // Each of a game of its own, so that those who are meant to meet do.
            Kind::Coplay => format!("/-/match?size={PLAYERS}&topology=mesh&game=bench-{number}"),
            Kind::Matchbox => format!("/match-{number}?next={PLAYERS}"),
        };
        let mut waiting = Vec::new();
        for _ in 1..PLAYERS {
            waiting.push(match server.kind {
                Kind::Coplay => {
                    let mut client = Client::open(server, &path).await?;
                    client.hear("\"Waiting\"").await?;
                    client
                }
                Kind::Matchbox => Client::join(server, &path).await?,
            });
        }
        let begun = Instant::now();
        let mut last = Client::join(server, &path).await?;
        for client in &mut waiting {
            match server.kind {
                Kind::Coplay => client.hear("\"Welcome\"").await?,
                Kind::Matchbox => client.hear(&last.id).await?,
            };
        }
        let milliseconds = begun.elapsed().as_secs_f64() * 1000.0;
        for client in waiting {
            client.leave().await;
        }
        last.id.clear();
        last.leave().await;
        Result::<f64>::Ok(milliseconds)
    });
    let mut times: Vec<f64> = stream::iter(matches).buffer_unordered(4).try_collect().await?;
    times.sort_by(f64::total_cmp);
    Ok(percentile(&times, 0.99))
}

/// Two peers of one room, the first of which knows of the other.
async fn meet(server: &Server, path: &str) -> Result<(Client, Client)> {
    let mut one = Client::join(server, path).await?;
    let other = Client::join(server, path).await?;
    one.hear("\"NewPeer\"").await?;
    Ok((one, other))
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    let at = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
