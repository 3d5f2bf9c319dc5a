//! How do the players of one process take turns, and what do they tell?

use std::{
    thread,
    time::{Duration, Instant},
};

use coplay_bench_stacks::{
    process,
    program::{failed, parsed, say, text, time_of_day},
};
use coplay_proto::Topology;
use serde_json::json;

use crate::player::{Player, RATE};

/// What its lines begin with.
const PROGRAM: &str = "rooms_peer";
/// How often something is told.
const TELL: Duration = Duration::from_secs(1);

pub(super) fn run() {
    if let Err(reason) = play() {
        failed(PROGRAM, &reason);
    }
}

fn play() -> Result<(), String> {
    let topology = match text("topology")?.as_str() {
        "mesh" => Topology::Mesh,
        "host" => Topology::Host,
        other => return Err(format!("there is no topology {other:?}")),
    };
    let url = format!("ws://{}/rooms?topology={}", text("address")?, text("topology")?);
    // Of this process, and in the room.
    let (count, all): (u32, usize) = (parsed("count")?, parsed("all")?);
    let mut players: Vec<_> = (0..count).map(|number| Player::enter(&url, topology, number.into())).collect();
    let (start, tick) = (Instant::now(), Duration::from_secs(1) / u32::from(RATE));
    // Their ticks do not begin together.
    let mut due: Vec<_> = (0..count).map(|number| start + tick / count * number).collect();
    let (mut told, mut ages) = (start, Vec::new());
    loop {
        for (player, due) in players.iter_mut().zip(&mut due).filter(|(_, due)| **due <= Instant::now()) {
            // What there was no time for is not made up for.
            *due = (*due + tick).max(Instant::now() - tick);
            if let Some(age) = player.tick()? {
                ages.push((age * 10.0).round() / 10.0);
            }
        }
        if told.elapsed() >= TELL {
            told += TELL;
            let complete = players.iter().filter(|player| player.sees() == all).count();
            let sum = |of: fn(&Player) -> u64| players.iter().map(of).sum::<u64>();
            say(
                PROGRAM,
                &json!({
                    "event": "used",
                    "at": time_of_day(),
                    "complete": complete,
                    "seconds": process::seconds().unwrap_or(f64::NAN),
                    "sent": sum(Player::sent),
                    "received": sum(Player::received),
                    "ages": std::mem::take(&mut ages),
                }),
            );
        }
        if let Some(next) = due.iter().min() {
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
}
