//! What needs several crates, real sockets or a browser.
#![forbid(unsafe_code)]

pub mod crossplay;
