//! A path between two network namespaces, as bad as it is told to be: two TUN devices, and what one side sends comes out of
//! the other late, or not at all. Kernels without `netem` have no other.
//!
//! `emulator --a NAME --b NAME [--s NAME] [--seed N]` makes the devices, says `{"event":"ready"}`, and runs until its standard
//! input ends. With `--s` there is a third one, for a server that both sides reach. Who called it moves each device into its namespace (`ip link set NAME netns SPACE`), which the open device does
//! not mind. Each line of its input is an `Order` (`devices.rs`); each is answered by a line with what was sent so far.
//!
//! Each pair of ends (protocol, addresses, ports) has a path of its own in each direction: so many pairs of peers can be
//! measured at once, and none of them is in another's way.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::process::ExitCode;

#[cfg(target_os = "linux")]
mod devices;
#[cfg(any(target_os = "linux", test))]
mod link;
#[cfg(any(target_os = "linux", test))]
mod path;
#[cfg(any(target_os = "linux", test))]
mod traffic;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    let ended = devices::run();
    #[cfg(not(target_os = "linux"))]
    let ended = Err("TUN devices in network namespaces are Linux's: run this there".to_owned());
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            println!("{}", serde_json::json!({ "event": "failed", "reason": reason }));
            ExitCode::FAILURE
        }
    }
}
