//! When is which connection made, what becomes of it, and when is it dropped?

use std::{
    sync::mpsc::TryRecvError,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use coplay_bench_stacks::{
    program::{failed, is_side_a, orders, say, text, time_of_day},
    room::{Heard, Room, guest, hub, meet},
};
use serde::Deserialize;
use serde_json::json;

/// What its lines begin with.
const PROGRAM: &str = "connect_peer";
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(1);
/// A connection over which something came stays for so long, for the other side may still wait.
const LAST: Duration = Duration::from_secs(2);
/// One over which nothing comes is given up after so long.
const PATIENCE: Duration = Duration::from_secs(22);

/// Connections to be made.
#[derive(Clone, Copy, Deserialize)]
struct Order {
    /// The number of the first.
    first: u32,
    count: u32,
    /// How far apart they are made, in ms.
    every: u32,
}

/// A connection that is made.
struct Attempt {
    number: u32,
    room: Box<dyn Room>,
    made: Instant,
    /// In ms since 1970.
    made_at: f64,
    heard: Option<Instant>,
}

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
    let mut listening = if raw && leads { Some(hub(&address)?) } else { None };
    let told = orders::<Order>(PROGRAM);
    say(PROGRAM, &json!({ "event": "ready" }));
    let (mut order, mut begun, mut made) = (None::<Order>, Instant::now(), 0);
    let mut attempts = Vec::<Attempt>::new();
    loop {
        match told.try_recv() {
            Ok(next) => (order, begun, made) = (Some(next), Instant::now(), 0),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
        if let Some(listening) = &mut listening {
            serve(&mut **listening);
        } else if let Some(order) = order
            && made < order.count
            && begun.elapsed() >= Duration::from_millis(u64::from(order.every)) * made
        {
            let number = order.first + made;
            made += 1;
            let (now, made_at) = (Instant::now(), time_of_day());
            let room = if raw { guest(&address) } else { meet(&stack, &format!("ws://{address}/connect-{number}"))? };
            attempts.push(Attempt { number, room, made: now, made_at, heard: None });
        }
        attempts.retain_mut(Attempt::turn);
        thread::sleep(LOOK);
    }
}

impl Attempt {
    /// Looks what happened. False once it is to be dropped.
    fn turn(&mut self) -> bool {
        while let Some(heard) = self.room.poll() {
            match heard {
                Heard::Opened(peer) => {
                    self.room.event(peer, Bytes::copy_from_slice(&self.number.to_le_bytes()));
                }
                Heard::Came(..) if self.heard.is_none() => {
                    self.heard = Some(Instant::now());
                    tell(self.number, Some(self.made_at));
                }
                Heard::Failed(reason) | Heard::Lost(_, reason) if self.heard.is_none() => {
                    say(PROGRAM, &json!({ "event": "lost", "number": self.number, "reason": reason }));
                }
                _ => {}
            }
        }
        self.room.turn();
        match self.heard {
            Some(heard) => heard.elapsed() < LAST,
            None => self.made.elapsed() < PATIENCE,
        }
    }
}

/// Who listens says something to each that comes, and learns from it which one it is.
fn serve(room: &mut dyn Room) {
    while let Some(heard) = room.poll() {
        match heard {
            Heard::Opened(peer) => room.event(peer, Bytes::from_static(b"hello")),
            Heard::Came(_, bytes) => {
                if let Ok(number) = bytes[..].try_into() {
                    tell(u32::from_le_bytes(number), None);
                }
            }
            Heard::Entered | Heard::Lost(..) | Heard::Failed(_) => {}
        }
    }
    room.turn();
}

/// The first event of a connection is here, which was made then.
fn tell(number: u32, made: Option<f64>) {
    say(PROGRAM, &json!({ "event": "heard", "number": number, "made": made, "at": time_of_day() }));
}
