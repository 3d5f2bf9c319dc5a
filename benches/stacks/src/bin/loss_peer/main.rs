//! One side of the pairs of peers of `cargo xtask bench loss`, `narrow` and `bulk`, native or in a browser: many connections of one stack, each
//! with a game of 60 frames a second that sends small messages, or takes them and tells how long they took.
//!
//! # What is measured, and why it is fair
//!
//! The time from when the game of one side hands a message over, in a frame, until the game of the other side takes it, in a
//! frame. All stacks are used alike, as games use them: a stack does what it can between frames, on threads of its own or
//! in the browser's events, and is asked for messages once a frame. So each is later than the path by half a frame on
//! average and a frame at the most; the frames of the two sides are apart by another quarter of a frame in each of the
//! connections. `renet` has no threads of its own: it is driven once a frame, as `bevy_renet` drives it.
//!
//! Both sides read the clock of one machine. A browser gives it in steps of 0.1 ms or less.
//!
//! Side A is told by its standard input what to do (`game::Told`) and tells side B by the connection itself. What it
//! says are lines `loss_peer {..}`, once a second.
#![forbid(unsafe_code)]

mod coplay;
mod game;
mod message;
mod tally;

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod web;

use coplay_bench_stacks::program::{self, is_side_a, parsed, text};

/// What its lines begin with.
const PROGRAM: &str = "loss_peer";

fn main() {
    #[cfg(not(target_arch = "wasm32"))]
    native::run();
    #[cfg(target_arch = "wasm32")]
    web::run();
}

/// What the peer is told by its command line or URL.
struct Settings {
    stack: String,
    /// Whether this is side A, which is told what to do, and serves where a stack has a server.
    leads: bool,
    /// How many connections.
    count: usize,
    /// `HOST:PORT` of the signaling server, or of side A where the stack does without one. Of several ports, the first.
    address: String,
    /// Bytes of state that each side sends each frame beside the messages.
    state: usize,
    /// Whether to tell how old the newest state is in each frame.
    ages: bool,
    /// Whether bulk is sent beside all else.
    bulk: bool,
}

impl Settings {
    fn read() -> Result<Self, String> {
        let is = |name: &str| text(name).is_ok_and(|value| value == "true");
        Ok(Self {
            stack: text("stack")?,
            leads: is_side_a()?,
            count: parsed("count")?,
            address: text("address")?,
            state: parsed("state")?,
            ages: is("ages"),
            bulk: is("bulk"),
        })
    }
}

/// Says what happened: `loss_peer {..}`.
fn say(what: &serde_json::Value) {
    program::say(PROGRAM, what);
}
