//! Peers of one room of `cargo xtask bench rooms`: each owns an entity that changes in every tick, 30 a second, and looks in each
//! tick how old what it sees of another one is.
//!
//! They are what a game has without Bevy around it: a session over a network over a socket. Once a second the process tells
//! what all its peers together sent and received, and what it takes of the machine.
#![forbid(unsafe_code)]

#[cfg(not(target_arch = "wasm32"))]
mod player;
#[cfg(not(target_arch = "wasm32"))]
mod players;

fn main() {
    #[cfg(not(target_arch = "wasm32"))]
    players::run();
}
