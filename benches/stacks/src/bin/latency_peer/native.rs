//! Either side as a process.

use std::{
    sync::mpsc::{Receiver, TryRecvError},
    time::{Duration, Instant},
};

use coplay_bench_stacks::program::{failed, is_side_a, orders, say, text};
use coplay_proto::{Lane, rng::Rng};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::{
    PROGRAM, message,
    port::{Port, echo},
    sockets::Sockets,
};

mod frames;
mod matchbox;
mod udp;
mod webrtc;

/// How long an answer is waited for: one on the unreliable lane may not come.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between an answer and the next message, at random, so that no two clocks go in step.
const PAUSE: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(6)];
/// How often it is looked for an order.
const LOOK: Duration = Duration::from_millis(10);

/// What side A is to do.
#[derive(Deserialize)]
struct Order {
    /// What this is told under.
    number: u32,
    lane: LaneName,
    /// Of each message.
    bytes: usize,
    /// How many messages.
    count: u32,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LaneName {
    Unreliable,
    Reliable,
}

impl From<LaneName> for Lane {
    fn from(name: LaneName) -> Self {
        match name {
            LaneName::Unreliable => Self::Unreliable,
            LaneName::Reliable => Self::Reliable,
        }
    }
}

/// What it came to.
fn tell(number: u32, times: &[Duration], lost: u32) {
    let us: Vec<_> = times.iter().map(|time| (time.as_secs_f64() * 1e7).round() / 10.0).collect();
    say(PROGRAM, &json!({ "event": "measured", "number": number, "us": us, "lost": lost }));
}

fn ready() {
    say(PROGRAM, &json!({ "event": "ready" }));
}

fn opened() {
    say(PROGRAM, &json!({ "event": "open" }));
}

pub(crate) fn run() {
    if let Err(reason) = play() {
        failed(PROGRAM, &reason);
    }
}

fn play() -> Result<(), String> {
    let (leads, address, stack) = (is_side_a()?, text("address")?, text("stack")?);
    let room = format!("ws://{address}/{}", text("room")?);
    if let Some(pace) = stack.strip_prefix("coplay_event_") {
        let length = match pace {
            "60hz" => frames::FRAME,
            "uncapped" => frames::UNCAPPED,
            other => return Err(format!("there is no pace {other:?}")),
        };
        ready();
        return if leads { frames::ask(&room, length, &orders(PROGRAM)) } else { frames::echo(&room, length) };
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(async {
        match stack.as_str() {
            "udp" => serve(udp::Udp::meet(&address, leads).await?, leads).await,
            "webrtc" => serve(webrtc::Raw::meet(&address, leads).await?, leads).await,
            "matchbox" => {
                ready();
                serve(matchbox::Matchbox::meet(&room).await?, leads).await
            }
            "coplay_socket" => {
                ready();
                serve(Sockets::meet(&room).await?, leads).await
            }
            other => Err(format!("there is no stack {other:?}")),
        }
    })
}

async fn serve(port: impl Port, leads: bool) -> Result<(), String> {
    opened();
    if leads { ask(port, &orders(PROGRAM)).await } else { echo(port).await }
}

/// Sends what is ordered, and takes the time.
async fn ask(mut port: impl Port, orders: &Receiver<Order>) -> Result<(), String> {
    let (mut rng, mut number) = (Rng::new(1), 0);
    loop {
        let order = match orders.try_recv() {
            Ok(order) => order,
            Err(TryRecvError::Disconnected) => return Ok(()),
            Err(TryRecvError::Empty) => {
                sleep(LOOK).await;
                continue;
            }
        };
        let mut times = Vec::new();
        for _ in 0..order.count {
            sleep(PAUSE[0] + (PAUSE[1] - PAUSE[0]).mul_f64(rng.unit())).await;
            number += 1;
            let start = Instant::now();
            port.send(order.lane.into(), message::write(number, order.bytes)).await?;
            let answered = async {
                loop {
                    let (_, bytes) = port.next().await?;
                    if message::number(&bytes) == Some(number) {
                        return Ok::<_, String>(start.elapsed());
                    }
                }
            };
            if let Ok(time) = timeout(PATIENCE, answered).await {
                times.push(time?);
            }
        }
        tell(order.number, &times, order.count - times.len() as u32);
    }
}
