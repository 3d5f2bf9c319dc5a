//! How long does it take from making a socket until the first event of the other side is here, and how often does it come to nothing?
//!
//! Every connection is made by both sides at the same time, each with a socket of its own in a room of its own, and counts as
//! opened once both sides have the other's first event. The stacks have turns, batch by batch.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    emulated::{self, A, Conditions, Emulated, S, Side},
    loss::pause,
    netns, quantile, stacks, write,
};
use crate::{
    interrupt,
    run::{Result, Running, Steps, make_dir, say, table, target},
    tools,
};

const PROGRAM: &str = "connect_peer";
/// What a line of theirs begins with.
const MARK: &str = "connect_peer {";
/// For a process to start.
const STARTING: Duration = Duration::from_secs(20);
/// For what has not opened when the last of a case were made.
const LAST: Duration = Duration::from_secs(20);
/// Connections of a batch, and how far apart they are made, in ms: so far that the machine is idle for most of the time.
const BATCH: u32 = 60;
const EVERY: u32 = 60;
/// Where signaling listens, and side A of `webrtc`, in the namespaces.
const SIGNALING: u16 = 3536;
const PEER: u16 = 4000;
/// Half of the round trips: between peers, and to signaling.
const PEERS_MS: f64 = 25.0;
const SIGNALING_MS: f64 = 20.0;
const LOSS: f64 = 0.05;
/// What coplay is to reach: the p50, in ms; and of so many connections at 5 % loss, how many may still not be open after
/// 5 s. After 10 s, none.
const LOOPBACK_P50: f64 = 100.0;
const EMULATED_P50: f64 = 450.0;
const TRIED_AT_LOSS: u32 = 960;
const UNOPENED_AFTER_5_S: f64 = 5.0;

/// What `bench connect` is asked for.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A short run, for a first look: 60 connections of each stack and case.
    #[arg(long)]
    quick: bool,
    /// Lose packets on the way to signaling, too, and not only between the peers.
    #[arg(long)]
    lossy_signaling: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Stack {
    /// coplay's network: a socket, a link, its channel of events.
    Coplay,
    /// The `webrtc` crate alone, tuned. Side A listens, and there is no room and no signaling server in between.
    Webrtc,
    Matchbox,
}

const STACKS: [Stack; 3] = [Stack::Coplay, Stack::Webrtc, Stack::Matchbox];

impl Stack {
    const fn name(self) -> &'static str {
        match self {
            Self::Coplay => "coplay",
            Self::Webrtc => "webrtc",
            Self::Matchbox => "matchbox",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Case {
    Loopback,
    /// Round trips of 40 ms to signaling, and of 50 ms between peers.
    Emulated,
    /// The same, and every twentieth packet is lost.
    #[serde(rename = "emulated_loss5")]
    EmulatedLoss5,
}

impl Case {
    const fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Emulated => "emulated",
            Self::EmulatedLoss5 => "emulated_loss5",
        }
    }

    /// How many connections a stack makes.
    const fn tried(self, stack: Stack, quick: bool) -> u32 {
        match (self, stack) {
            (Self::EmulatedLoss5, Stack::Coplay) if !quick => TRIED_AT_LOSS,
            (Self::EmulatedLoss5, _) if !quick => TRIED_AT_LOSS / 4,
            _ => BATCH,
        }
    }

    fn conditions(self, lossy_signaling: bool) -> [Conditions; 2] {
        let loss = if self == Self::EmulatedLoss5 { LOSS } else { 0.0 };
        let peers = Conditions { delay_ms: PEERS_MS, loss, ..Conditions::default() };
        let loss = if lossy_signaling { loss } else { 0.0 };
        [peers, Conditions { delay_ms: SIGNALING_MS, loss, ..Conditions::default() }]
    }
}

/// One stack in one case. Times are from when the later of the two sides was made until both had heard an event.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    stack: Stack,
    case: Case,
    /// Within 20 s.
    opened: usize,
    tried: u32,
    p50_ms: f64,
    p95_ms: f64,
}

/// What a peer says.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Said {
    Ready,
    /// The first event of this connection came then, which was made here then, if it was: in ms since 1970.
    Heard {
        number: u32,
        made: Option<f64>,
        at: f64,
    },
    /// It came to nothing here.
    Lost {
        number: u32,
        reason: String,
    },
}

/// Measures every case; an error if coplay does not connect as fast, or as surely, as it is to.
pub(crate) fn bench(options: &Options) -> Result {
    let root = tools::is_root() && cfg!(target_os = "linux");
    let cases: &[Case] = if root { &[Case::Loopback, Case::Emulated, Case::EmulatedLoss5] } else { &[Case::Loopback] };
    let mut steps = Steps::new(2 + cases.len());
    steps.next("looking for what it takes");
    if root {
        netns::ready()?;
    } else {
        say("network namespaces and TUN devices take root on Linux: without it, over loopback alone");
    }
    steps.next("building the emulator, the peers and signaling (first time about 6 minutes)");
    let programs = stacks::build(&[emulated::PROGRAM, PROGRAM], true)?;
    interrupt::listen()?;
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    for &case in cases {
        steps.next(case.name());
        for (stack, times) in measure(case, options, &programs)? {
            let row = Row::of(stack, case, case.tried(stack, options.quick), &times);
            faults.extend(row.faults(&times));
            rows.push(row);
        }
    }
    println!("{}", overview(&rows));
    write("connect", &rows)?;
    stacks::verdict("coplay", &faults)
}

/// Makes the connections of one case; returns how long those took that opened, from short to long, in ms.
fn measure(case: Case, options: &Options, programs: &Path) -> Result<Vec<(Stack, Vec<f64>)>> {
    let place = target()?.join("bench").join("connect").join(case.name());
    make_dir(&place)?;
    let mut net = (case != Case::Loopback).then(|| Emulated::with_server("connect", programs, &place)).transpose()?;
    if let Some(net) = &mut net {
        let [peers, signaling] = case.conditions(options.lossy_signaling);
        net.set_apart(peers, signaling)?;
    }
    let net = net.as_ref();
    let inside =
        |side: Side, program: &Command| net.map_or_else(|| stacks::here(program), |net| net.inside(side, program));
    let (signaling, peer) = match net {
        Some(_) => (format!("{S}:{SIGNALING}"), format!("{A}:{PEER}")),
        None => (stacks::free_address()?, stacks::free_address()?),
    };
    let _server = stacks::signaling(programs, &signaling, &place, |command| inside(Side::S, command))?;
    let mut pairs = Vec::new();
    for stack in STACKS {
        let address = if stack == Stack::Webrtc { &peer } else { &signaling };
        let side = |name: &str, side: Side| {
            let mut command = Command::new(programs.join(PROGRAM));
            command.args(["--side", name, "--stack", stack.name(), "--address", address]);
            let log = place.join(format!("{}-{name}.log", stack.name()));
            let mut running = Running::start_listening(PROGRAM, &mut inside(side, &command), Some(&log))?;
            let ready = |said: &[Said]| said.iter().any(|said| matches!(said, Said::Ready)).then_some(());
            stacks::wait(&mut running, MARK, STARTING, "begin", ready)?;
            Ok::<_, String>(running)
        };
        pairs.push((stack, [side("a", Side::A)?, side("b", Side::B)?], 0));
    }
    let start = Instant::now();
    loop {
        let mut all_made = true;
        for (stack, sides, made) in &mut pairs {
            let count = BATCH.min(case.tried(*stack, options.quick) - *made);
            if count == 0 {
                continue;
            }
            all_made = false;
            for side in sides.iter_mut() {
                side.tell(&json!({ "first": *made, "count": count, "every": EVERY }))?;
            }
            *made += count;
            pause(Duration::from_millis(u64::from(count * EVERY)) + Duration::from_millis(500))?;
        }
        if all_made {
            break;
        }
        let made: Vec<_> = pairs.iter().map(|(stack, _, made)| format!("{} {made}", stack.name())).collect();
        say(&format!("  made: {}, {} s so far", made.join(", "), start.elapsed().as_secs()));
    }
    let waiting = Instant::now();
    loop {
        let mut found = Vec::new();
        for (stack, [a, b], made) in &pairs {
            let (a, b): (Vec<Said>, Vec<Said>) = (stacks::heard(a, MARK)?, stacks::heard(b, MARK)?);
            found.push((*stack, times(&a, &b), *made));
            if waiting.elapsed() > LAST {
                reasons(*stack, a.iter().chain(&b));
            }
        }
        if waiting.elapsed() > LAST || found.iter().all(|(_, times, made)| times.len() == *made as usize) {
            return Ok(found.into_iter().map(|(stack, times, _)| (stack, times)).collect());
        }
        pause(Duration::from_millis(200))?;
    }
}

/// How long it took until both sides had heard of each other, from short to long, in ms.
fn times(a: &[Said], b: &[Said]) -> Vec<f64> {
    let heard = |said: &[Said]| -> BTreeMap<u32, (Option<f64>, f64)> {
        let mut first = BTreeMap::new();
        for said in said {
            if let Said::Heard { number, made, at } = said {
                first.entry(*number).or_insert((*made, *at));
            }
        }
        first
    };
    let (a, b) = (heard(a), heard(b));
    let both = a.iter().filter_map(|(number, one)| Some((one, b.get(number)?)));
    let mut times: Vec<_> = both
        .filter_map(|((made, at), (other_made, other_at))| {
            let made = made.iter().chain(other_made).copied().reduce(f64::max)?;
            Some(at.max(*other_at) - made)
        })
        .collect();
    times.sort_unstable_by(f64::total_cmp);
    times
}

/// Shows why connections came to nothing.
fn reasons<'a>(stack: Stack, said: impl Iterator<Item = &'a Said>) {
    let lost = |said: &'a Said| if let Said::Lost { number, reason } = said { Some((*number, reason)) } else { None };
    for (number, reason) in said.filter_map(lost).take(5) {
        say(&format!("  {}, connection {number}: {reason}", stack.name()));
    }
}

impl Row {
    fn of(stack: Stack, case: Case, tried: u32, times: &[f64]) -> Self {
        let at = |share| (quantile(times, share) * 10.0).round() / 10.0;
        Self { stack, case, opened: times.len(), tried, p50_ms: at(0.5), p95_ms: at(0.95) }
    }

    /// What coplay is to reach and does not.
    fn faults(&self, times: &[f64]) -> Vec<String> {
        if self.stack != Stack::Coplay {
            return Vec::new();
        }
        let mut faults = Vec::new();
        let case = self.case.name();
        let mut most = |what: &str, value: f64, limit: f64| {
            // What was not measured is a fault, too.
            if value.is_nan() || value > limit {
                faults.push(format!("{case}: {what} is {value:.0}, at most {limit:.0}"));
            }
        };
        let open_after = |ms: f64| times.iter().filter(|time| **time <= ms).count();
        let unopened = |ms: f64| f64::from(self.tried) - open_after(ms) as f64;
        match self.case {
            Case::Loopback => most("the p50, in ms,", self.p50_ms, LOOPBACK_P50),
            Case::Emulated => most("the p50, in ms,", self.p50_ms, EMULATED_P50),
            Case::EmulatedLoss5 => {
                let some = (UNOPENED_AFTER_5_S * f64::from(self.tried) / f64::from(TRIED_AT_LOSS)).floor();
                most("what is not open after 5 s", unopened(5e3), some);
            }
        }
        most("what is not open after 10 s", unopened(10e3), 0.0);
        faults
    }
}

fn overview(rows: &[Row]) -> String {
    let heading = ["stack", "case", "opened", "tried", "p50, ms", "p95"];
    let line = |row: &Row| {
        vec![
            row.stack.name().to_owned(),
            row.case.name().to_owned(),
            row.opened.to_string(),
            row.tried.to_string(),
            format!("{:.0}", row.p50_ms),
            format!("{:.0}", row.p95_ms),
        ]
    };
    table(&std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows.iter().map(line)).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(number: u32, made: Option<f64>, at: f64) -> Said {
        Said::Heard { number, made, at }
    }

    #[test]
    fn a_connection_takes_from_the_later_making_to_the_later_hearing() {
        let a = [heard(0, Some(100.0), 300.0), heard(1, Some(500.0), 900.0), heard(2, Some(900.0), 950.0)];
        let b = [heard(1, Some(510.0), 700.0), heard(0, Some(90.0), 350.0)];
        assert_eq!(times(&a, &b), [250.0, 390.0]);
        // Who listens did not make it.
        assert_eq!(times(&[heard(7, None, 20.0)], &[heard(7, Some(5.0), 15.0)]), [15.0]);
    }

    #[test]
    fn what_is_slow_or_does_not_open_is_a_fault_of_coplay_alone() {
        let faults = |stack, case, tried, times: &[f64]| Row::of(stack, case, tried, times).faults(times).len();
        assert_eq!(faults(Stack::Coplay, Case::Loopback, 3, &[50.0, 100.0, 200.0]), 0);
        assert_eq!(faults(Stack::Coplay, Case::Loopback, 3, &[50.0, 101.0, 200.0]), 1);
        assert_eq!(faults(Stack::Matchbox, Case::Loopback, 3, &[101.0]), 0);
        assert_eq!(faults(Stack::Coplay, Case::Emulated, 4, &[400.0, 450.0, 451.0]), 1, "one did not open");
        let mut times = vec![600.0; 955];
        times.extend([5_001.0; 5]);
        assert_eq!(faults(Stack::Coplay, Case::EmulatedLoss5, 960, &times), 0);
        times[954] = 5_001.0;
        assert_eq!(faults(Stack::Coplay, Case::EmulatedLoss5, 960, &times), 1);
        times[959] = 10_001.0;
        assert_eq!(faults(Stack::Coplay, Case::EmulatedLoss5, 960, &times), 2);
        assert_eq!(faults(Stack::Coplay, Case::EmulatedLoss5, 60, &[600.0; 59]), 2, "of 60 all are to open");
    }
}
