//! How two namespaces are joined by a path that is as bad as it is told to be, and what went over it.
//!
//! ```text
//!   namespace a, 10.77.0.1 ──eth0 (TUN)── emulator, outside ──(TUN) eth0── namespace b, 10.77.0.2
//! ```
//!
//! The emulator is a program of `benches/stacks`, for kernels that have no `netem`. There is no other way between the two. If asked
//! for, it has a third device, to a namespace for a server, 10.77.0.3, which both reach.

use std::{
    path::Path,
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::netns::{self, Spaces};
use crate::{
    interrupt,
    run::{Result, Running, make_dir},
};

/// The program.
pub(super) const PROGRAM: &str = "emulator";
/// The addresses of the two sides.
pub(super) const A: &str = "10.77.0.1";
pub(super) const B: &str = "10.77.0.2";
/// The address of the server.
pub(super) const S: &str = "10.77.0.3";

/// For the emulator to make its devices.
const STARTING: Duration = Duration::from_secs(10);
/// How often it is looked whether something was said.
const LOOK: Duration = Duration::from_millis(10);

/// What a path is like in one direction, as the emulator takes it. Without any, all arrives at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Conditions {
    pub(super) delay_ms: f64,
    pub(super) jitter_ms: f64,
    /// 0 to 1.
    pub(super) loss: f64,
    pub(super) bursts: Option<Bursts>,
    /// What goes through between two ends, in kbit/s of IP packets. None: any amount.
    pub(super) rate_kbit: Option<f64>,
    /// Bytes that may wait for that. Packets beyond are lost.
    pub(super) queue_bytes: u32,
}

/// Times in which all is lost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Bursts {
    /// Of the time, 0 to 1.
    pub(super) share: f64,
    /// On average.
    pub(super) length_ms: f64,
}

/// What one side had sent at some time, whether or not it arrived; bytes are those of IP packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub(super) struct Sent {
    pub(super) udp_bytes: u64,
    pub(super) tcp_bytes: u64,
    /// The most bytes that waited between two ends, since the mark before.
    pub(super) most_queued: u64,
}

/// What both had sent when an order of this label was given.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Mark {
    pub(super) label: String,
    pub(super) a_to_b: Sent,
    pub(super) b_to_a: Sent,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    Ready,
    Sent(Mark),
    Failed { reason: String },
}

/// Which of the namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    A,
    B,
    /// The server's.
    S,
}

/// Two namespaces and the path between them, until this is dropped.
pub(super) struct Emulated {
    // The devices go with the emulator, and what runs in the namespaces with those.
    emulator: Running,
    _spaces: Spaces,
    names: Vec<String>,
}

impl Emulated {
    /// Lays the path out. `name`: of the namespaces, among those of this process; `programs`: the folder with the emulator;
    /// `place`: for its log.
    pub(super) fn new(name: &str, programs: &Path, place: &Path) -> Result<Self> {
        Self::of(&[(A, "a"), (B, "b")], name, programs, place)
    }

    /// The same, with a namespace for a server.
    pub(super) fn with_server(name: &str, programs: &Path, place: &Path) -> Result<Self> {
        Self::of(&[(A, "a"), (B, "b"), (S, "s")], name, programs, place)
    }

    fn of(sides: &[(&str, &str)], name: &str, programs: &Path, place: &Path) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        make_dir(place)?;
        let mut spaces = Spaces::new();
        let names = sides.iter().map(|(_, side)| spaces.add(&format!("{name}-{side}"))).collect::<Result<Vec<_>>>()?;
        // A device's name has at most 15 bytes.
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let device = |side: &str| format!("cp{}-{number}{side}", process::id());
        let mut command = Command::new(programs.join(PROGRAM));
        command.args(["--seed", &format!("{}", number + 1)]);
        for (_, side) in sides {
            command.args([format!("--{side}"), device(side)]);
        }
        let mut emulator = Running::start_listening(PROGRAM, &mut command, Some(&place.join("emulator.log")))?;
        let start = Instant::now();
        while !lines(&emulator.log())?.iter().any(|line| matches!(line, Line::Ready)) {
            interrupt::check()?;
            emulator.check()?;
            if start.elapsed() > STARTING {
                return Err(format!("the emulator does not start{}", emulator.last_words()));
            }
            std::thread::sleep(LOOK);
        }
        for ((own, side), space) in sides.iter().zip(&names) {
            spaces.ip(&["link", "set", &device(side), "netns", space, "name", "eth0"])?;
            spaces.up(space, "eth0", &format!("{own}/24"), Some(if *own == A { B } else { A }))?;
        }
        Ok(Self { emulator, _spaces: spaces, names })
    }

    /// The same program, to run on one side.
    pub(super) fn inside(&self, side: Side, program: &Command) -> Command {
        netns::inside(&self.names[side as usize], program)
    }

    /// Changes what the path is like in both directions, and marks what was sent before.
    pub(super) fn set(&mut self, label: &str, conditions: Conditions) -> Result {
        self.emulator.tell(&json!({ "label": label, "a_to_b": conditions, "b_to_a": conditions }))
    }

    /// Changes what UDP meets and what TCP does, in both directions.
    pub(super) fn set_apart(&mut self, udp: Conditions, tcp: Conditions) -> Result {
        self.emulator.tell(&json!({ "a_to_b": udp, "b_to_a": udp, "tcp": tcp }))
    }

    /// All marks so far.
    pub(super) fn marks(&self) -> Result<Vec<Mark>> {
        let lines = lines(&self.emulator.log())?;
        Ok(lines.into_iter().filter_map(|line| if let Line::Sent(mark) = line { Some(mark) } else { None }).collect())
    }
}

fn lines(log: &str) -> Result<Vec<Line>> {
    // The last may not be written to its end.
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let read = |line: &str| {
        let line = serde_json::from_str(line).map_err(|error| format!("the emulator said {line:?}: {error}"))?;
        if let Line::Failed { reason } = line { Err(reason) } else { Ok(line) }
    };
    whole.lines().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_emulator_says_is_understood() {
        let counters =
            r#"{"udp_packets":3,"udp_bytes":300,"tcp_packets":0,"tcp_bytes":0,"lost":1,"dropped":0,"most_queued":0}"#;
        let sent =
            format!("{{\"event\":\"sent\",\"label\":\"x\",\"a_to_b\":{counters},\"b_to_a\":{counters}}}\n{{\"ev");
        let read = lines(&format!("{{\"event\":\"ready\"}}\n{sent}")).expect("understood");
        let [Line::Ready, Line::Sent(mark)] = &read[..] else { panic!("two lines") };
        assert_eq!((mark.label.as_str(), mark.a_to_b, mark.b_to_a.udp_bytes), ("x", mark.b_to_a, 300));
        let failed = lines("{\"event\":\"failed\",\"reason\":\"no root\"}\n");
        assert_eq!(failed.err().as_deref(), Some("no root"));
    }
}
