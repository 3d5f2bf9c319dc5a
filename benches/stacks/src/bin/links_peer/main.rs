//! The hub of `cargo xtask bench links`, or all of its guests: each guest sends 100 bytes 30 times a second, and the hub sends them back.
//! Both look what came once a millisecond, whatever the stack; what is sent may be lost.
//!
//! The hub tells once a second what it takes of the machine, and whom its stack calls silent or gone; the guests, how long round
//! trips took.
#![forbid(unsafe_code)]

#[cfg(not(target_arch = "wasm32"))]
mod sides;

fn main() {
    #[cfg(not(target_arch = "wasm32"))]
    sides::run();
}
