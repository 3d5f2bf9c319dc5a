//! What do the hub and the guests do?

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use coplay_bench_stacks::{
    process,
    program::{failed, is_side_a, parsed, say, text, time_of_day},
    room::{Heard, Peer, Room, guest, hub, meet},
};
use serde_json::json;

/// What its lines begin with.
const PROGRAM: &str = "links_peer";
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(1);
/// How often something is told.
const TELL: Duration = Duration::from_secs(1);
/// How often each guest sends, and how much.
const EVERY: Duration = Duration::from_nanos(1_000_000_000 / 30);
const BYTES: usize = 100;

pub(super) fn run() {
    if let Err(reason) = play() {
        failed(PROGRAM, &reason);
    }
}

fn play() -> Result<(), String> {
    let (leads, address, stack) = (is_side_a()?, text("address")?, text("stack")?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    let _entered = runtime.enter();
    let raw = stack == "webrtc";
    // The first in a host's room is the host: guests are connected with it alone.
    let room = || {
        if raw { Ok(guest(&address)) } else { meet(&stack, &format!("ws://{address}/links?topology=host")) }
    };
    if leads {
        return lead(if raw { hub(&address)? } else { room()? });
    }
    let rooms = (0..parsed::<u32>("count")?).map(|_| room()).collect::<Result<_, _>>()?;
    follow(rooms)
}

/// Sends all back that comes.
fn lead(mut room: Box<dyn Room>) -> Result<(), String> {
    let (mut told, mut open) = (Instant::now(), BTreeSet::<Peer>::new());
    let mut opened = 0;
    loop {
        while let Some(heard) = room.poll() {
            match heard {
                Heard::Entered => used("ready"),
                Heard::Opened(peer) => {
                    open.insert(peer);
                    opened += 1;
                }
                Heard::Came(peer, bytes) => room.state(peer, bytes),
                Heard::Lost(peer, reason) => {
                    // A peer that never was there is not missed, and one that is gone not twice.
                    if open.remove(&peer) {
                        say(PROGRAM, &json!({ "event": "lost", "at": time_of_day(), "reason": reason }));
                    }
                }
                Heard::Failed(reason) => return Err(reason),
            }
        }
        room.turn();
        if told.elapsed() >= TELL {
            told += TELL;
            say(PROGRAM, &json!({ "event": "open", "count": opened }));
            used("used");
        }
        thread::sleep(LOOK);
    }
}

/// What this process took of the machine so far, and takes now.
fn used(event: &str) {
    let (seconds, kb) = (process::seconds().unwrap_or(f64::NAN), process::resident_kb().unwrap_or(f64::NAN));
    say(PROGRAM, &json!({ "event": event, "at": time_of_day(), "seconds": seconds, "kb": kb }));
}

struct Guest {
    room: Box<dyn Room>,
    hub: Option<Peer>,
    due: Instant,
}

/// Sends, and takes the time.
fn follow(rooms: Vec<Box<dyn Room>>) -> Result<(), String> {
    let (start, count) = (Instant::now(), rooms.len().max(1) as u32);
    let guest = |(number, room)| Guest { room, hub: None, due: start + EVERY / count * number };
    let mut guests: Vec<_> = (0..).zip(rooms).map(guest).collect();
    let (mut told, mut times) = (start, Vec::new());
    loop {
        for guest in &mut guests {
            guest.turn(start, &mut times)?;
        }
        if told.elapsed() >= TELL {
            told += TELL;
            let (open, times) = (guests.iter().filter(|guest| guest.hub.is_some()).count(), std::mem::take(&mut times));
            say(PROGRAM, &json!({ "event": "open", "count": open }));
            say(PROGRAM, &json!({ "event": "times", "at": time_of_day(), "ms": times }));
        }
        thread::sleep(LOOK);
    }
}

impl Guest {
    fn turn(&mut self, start: Instant, times: &mut Vec<f64>) -> Result<(), String> {
        while let Some(heard) = self.room.poll() {
            match heard {
                Heard::Opened(peer) => self.hub = Some(peer),
                Heard::Came(_, bytes) => {
                    if let Some(sent) = bytes.first_chunk().map(|bytes| f64::from_le_bytes(*bytes)) {
                        times.push(((start.elapsed().as_secs_f64() - sent) * 1e5).round() / 1e2);
                    }
                }
                Heard::Lost(peer, _) => _ = self.hub.take_if(|hub| *hub == peer),
                Heard::Failed(reason) => return Err(reason),
                Heard::Entered => {}
            }
        }
        if let Some(hub) = self.hub
            && Instant::now() >= self.due
        {
            // What there was no time for is not made up for, as in a game.
            self.due = (self.due + EVERY).max(Instant::now());
            let mut message = start.elapsed().as_secs_f64().to_le_bytes().to_vec();
            message.resize(BYTES, 0);
            self.room.state(hub, Bytes::from(message));
        }
        self.room.turn();
        Ok(())
    }
}
