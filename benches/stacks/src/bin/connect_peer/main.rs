//! One side of the pairs of `cargo xtask bench connect`: makes connections, one after the other, each a socket of its own in
//! a room of its own, says on each as soon as it is open which one it is, and tells when it heard that from the other side.
//!
//! The two sides make each connection at the same time, so that it is begun by whichever of the two is in the room last. What
//! is told are the times of both; `webrtc` alone has no room, and side A just listens for side B.
#![forbid(unsafe_code)]

#[cfg(not(target_arch = "wasm32"))]
mod attempts;

fn main() {
    #[cfg(not(target_arch = "wasm32"))]
    attempts::run();
}
