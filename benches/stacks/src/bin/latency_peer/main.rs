//! One side of a pair of peers of `cargo xtask bench latency`, native or in a browser: side B sends back all that comes; side A,
//! which is always native, is told by its standard input what to send, and tells how long each round trip took.
//!
//! # What is measured, and why it is fair
//!
//! Each stack is used as one who wants an answer soon would: an answer is sent where the message is heard of, without a
//! game in between. `webrtc` is tuned, and everything of a peer is on one thread; `matchbox_socket` is awaited, not polled;
//! coplay's socket wakes its user. Only the events of coplay are from game to game: they are handed over and taken in frames, 60 a
//! second on both sides, which begin at random; or in frames that follow each other after 0.1 ms, as without a display.
//! One message is under way at a time.
#![forbid(unsafe_code)]

mod events;
#[cfg(not(target_arch = "wasm32"))]
mod message;
mod port;
mod sockets;

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod web;

/// What its lines begin with.
const PROGRAM: &str = "latency_peer";

fn main() {
    #[cfg(not(target_arch = "wasm32"))]
    native::run();
    #[cfg(target_arch = "wasm32")]
    web::run();
}
