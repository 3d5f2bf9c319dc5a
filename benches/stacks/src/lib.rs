//! What the programs of this package share: how they are told and tell, and the stacks that more than one of them uses.
#![forbid(unsafe_code)]

pub mod program;

#[cfg(not(target_arch = "wasm32"))]
pub mod process;
#[cfg(not(target_arch = "wasm32"))]
pub mod room;
#[cfg(not(target_arch = "wasm32"))]
pub mod webrtc;

#[cfg(target_arch = "wasm32")]
pub mod channels;
