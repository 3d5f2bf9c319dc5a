//! How fast does a large file get to another peer, and what does play beside it feel of that?
//!
//! Each stack plays for a while, 20 events a second and 30 kB of state a second each way, and goes on while 64 MiB are sent from side A
//! to side B, three times.

use std::{collections::BTreeMap, path::Path, time::Duration};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    loss::{
        Pair,
        cell::{FRAMES, INTERVAL, PROGRAM, STATE},
        pause,
    },
    quantile,
    stacks::{self, Couple},
    write,
};
use crate::{
    interrupt,
    run::{Result, Running, Steps, make_dir, say, table, target},
    tools,
};

/// What a line of the peers begins with.
const MARK: &str = "loss_peer {";
const MIB: u64 = 1 << 20;
/// For a pair to connect: Chromium starts within that.
const OPENING: Duration = Duration::from_secs(60);
/// For one file.
const ARRIVING: Duration = Duration::from_secs(120);
/// How often it is sent.
const TIMES: u64 = 3;
/// For what was sent last to arrive, and for the peers to tell.
const LAST: Duration = Duration::from_millis(2_500);
/// Events before the file, and while it is sent, from side A and from side B; and those that end them.
const BEFORE: [u16; 2] = [1, 2];
const DURING: [u16; 2] = [3, 4];
const AFTER: [u16; 2] = [5, 6];
/// What coplay is to reach: events at most so much later, at least so much of the rate of `webrtc`, and never as much memory
/// as the file has.
const LATER: f64 = 2.0;
const OF_RAW: f64 = 0.8;

/// What `bench bulk` is asked for.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How large the file is, in MiB.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1024))]
    mib: u64,
    /// How long each stack plays before, in seconds.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(3..=600))]
    seconds: u32,
    /// Only these pairs.
    #[arg(long, value_enum, value_delimiter = ',')]
    pair: Vec<Pair>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Stack {
    /// A blob, the channel of events, frames of state.
    Coplay,
    /// Three data channels: a reliable one for the file, a reliable one for events, an unreliable one for state.
    Webrtc,
    /// All on one.
    Websocket,
}

const STACKS: [Stack; 3] = [Stack::Coplay, Stack::Webrtc, Stack::Websocket];
const PAIRS: [Pair; 2] = [Pair::NativeNative, Pair::NativeWeb];

impl Stack {
    const fn name(self) -> &'static str {
        match self {
            Self::Coplay => "coplay",
            Self::Webrtc => "webrtc",
            Self::Websocket => "websocket",
        }
    }

    /// As the peers call it.
    const fn of_peers(self) -> &'static str {
        match self {
            Self::Coplay => "coplay_event",
            Self::Webrtc | Self::Websocket => self.name(),
        }
    }
}

/// One stack between one pair.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    pair: Pair,
    stack: Stack,
    /// From when it was handed over until all of it was taken: the median.
    mb_s: f64,
    /// From game to game, as in `bench loss`, both directions together, while the file was sent.
    event_p99_ms: f64,
    /// The most memory that was resident, of the native side or the larger of two.
    peak_mb: f64,
}

/// What a peer says.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Said {
    Ready,
    Open {
        count: usize,
    },
    Counted {
        phase: u16,
        sent: u64,
        times: Vec<f64>,
    },
    Memory {
        peak_kb: f64,
    },
    /// The file was handed over then: in ms since 1970.
    BulkBegun {
        at: f64,
    },
    /// So many bytes of files are here by then.
    Bulk {
        at: f64,
        bytes: u64,
    },
    Closed {
        reason: String,
    },
}

/// What was found of one stack.
struct Found {
    /// Of each file, in MB a second.
    rates: Vec<f64>,
    /// How long events took before and during, from short to long, in ms.
    before: Vec<f64>,
    during: Vec<f64>,
    /// Events that were sent and did not come, or came twice.
    missing: u64,
    peak_mb: f64,
}

/// Measures every stack; an error if coplay is not what it is to be.
pub(crate) fn bench(options: &Options) -> Result {
    let pairs: Vec<_> =
        PAIRS.into_iter().filter(|pair| options.pair.is_empty() || options.pair.contains(pair)).collect();
    let needs_page = pairs.contains(&Pair::NativeWeb);
    let mut steps = Steps::new(1 + pairs.len());
    steps.next("building the peers and signaling (first time about 6 minutes)");
    if needs_page {
        tools::chromium()?;
    }
    let programs = stacks::build(&[PROGRAM], true)?;
    let folder = needs_page.then(|| stacks::build_page(PROGRAM)).transpose()?;
    interrupt::listen()?;
    let place = target()?.join("bench").join("bulk");
    make_dir(&place)?;
    let (signaling, page) = (stacks::free_address()?, stacks::free_address()?);
    let mut servers = vec![stacks::signaling(&programs, &signaling, &place, stacks::here)?];
    if let Some(folder) = &folder {
        servers.push(stacks::page(folder, &page, &place)?);
    }
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    for pair in pairs {
        let title = if pair == Pair::NativeNative { "native" } else { "browser" };
        steps.next(title);
        let mut raw = None;
        // coplay is held against the raw channel.
        for stack in [Stack::Webrtc, Stack::Coplay, Stack::Websocket] {
            say(&format!("  {}", stack.name()));
            let place = place.join(format!("{}-{title}", stack.name()));
            let address = if stack == Stack::Coplay { signaling.clone() } else { stacks::free_address()? };
            let found = measure(stack, pair, &address, &page, options, &programs, &place)
                .map_err(|error| format!("{}, {title}: {error}", stack.name()))?;
            let row = Row::of(pair, stack, &found);
            match stack {
                Stack::Webrtc => raw = Some(row.mb_s),
                Stack::Coplay => faults.extend(row.faults(&found, raw, options.mib)),
                Stack::Websocket => {}
            }
            rows.push(row);
        }
    }
    rows.sort_by_key(|row| (row.pair, STACKS.iter().position(|stack| *stack == row.stack)));
    println!("{}", overview(&rows));
    write("bulk", &rows)?;
    stacks::verdict("coplay", &faults)
}

fn measure(
    stack: Stack,
    pair: Pair,
    address: &str,
    page: &str,
    options: &Options,
    programs: &Path,
    place: &Path,
) -> Result<Found> {
    let settings = [
        ("stack", stack.of_peers().to_owned()),
        ("count", "1".to_owned()),
        ("address", address.to_owned()),
        ("state", STATE.to_string()),
        ("bulk", "true".to_owned()),
    ];
    let mut couple = Couple::start(PROGRAM, MARK, pair, &settings, page, programs, place)?;
    let open = |said: &[Said]| said.contains(&Said::Open { count: 1 }).then_some(());
    stacks::wait(&mut couple.a, MARK, OPENING, "connect", open)?;
    stacks::wait(&mut couple.b, MARK, OPENING, "connect", open)?;
    send(&mut couple.a, BEFORE, options.seconds * FRAMES / INTERVAL)?;
    pause(Duration::from_secs(options.seconds.into()) + LAST)?;
    // More than there is time for.
    send(&mut couple.a, DURING, u32::MAX)?;
    pause(Duration::from_millis(500))?;
    let (bytes, mut rates) = (options.mib * MIB, Vec::new());
    for time in 1..=TIMES {
        couple.a.tell(&json!({ "bulk": bytes }))?;
        let arrived = |said: &[Said]| {
            said.iter().find_map(|said| match said {
                Said::Bulk { at, bytes: here } if *here >= bytes * time => Some(*at),
                _ => None,
            })
        };
        let arrived = stacks::wait(&mut couple.b, MARK, ARRIVING, "have the file", arrived)?;
        let begun = |said: &[Said]| {
            said.iter().rev().find_map(|said| if let Said::BulkBegun { at } = said { Some(*at) } else { None })
        };
        let begun = stacks::wait(&mut couple.a, MARK, ARRIVING, "begin", begun)?;
        rates.push(bytes as f64 / 1e3 / (arrived - begun));
    }
    // Another order ends the one before.
    send(&mut couple.a, AFTER, 1)?;
    pause(LAST)?;
    let said = [stacks::heard(&couple.a, MARK)?, stacks::heard(&couple.b, MARK)?].concat();
    Found::of(rates, &said)
}

/// Has both sides send so many events.
fn send(a: &mut Running, phases: [u16; 2], count: u32) -> Result {
    for (phase, by_a) in phases.into_iter().zip([true, false]) {
        a.tell(&json!({ "phase": phase, "count": count, "every": INTERVAL, "way": "reliably", "by_a": by_a }))?;
    }
    Ok(())
}

impl Found {
    fn of(mut rates: Vec<f64>, said: &[Said]) -> Result<Self> {
        rates.sort_unstable_by(f64::total_cmp);
        let mut phases = BTreeMap::<u16, (u64, Vec<f64>)>::new();
        let mut peak_mb = 0.0_f64;
        for said in said {
            match said {
                Said::Counted { phase, sent, times } => {
                    let (all_sent, all_times) = phases.entry(*phase).or_default();
                    *all_sent += sent;
                    all_times.extend(times);
                }
                Said::Memory { peak_kb } => peak_mb = peak_mb.max(peak_kb * 1_024.0 / 1e6),
                Said::Closed { reason } => return Err(format!("the connection ended: {reason}")),
                Said::Ready | Said::Open { .. } | Said::BulkBegun { .. } | Said::Bulk { .. } => {}
            }
        }
        let missing = phases.values().map(|(sent, times)| sent.abs_diff(times.len() as u64)).sum();
        let mut both = |numbers: [u16; 2]| {
            let mut times: Vec<_> =
                numbers.iter().filter_map(|number| phases.remove(number)).flat_map(|(_, times)| times).collect();
            times.sort_unstable_by(f64::total_cmp);
            times
        };
        Ok(Self { rates, before: both(BEFORE), during: both(DURING), missing, peak_mb })
    }
}

impl Row {
    fn of(pair: Pair, stack: Stack, found: &Found) -> Self {
        let rounded = |value: f64| (value * 10.0).round() / 10.0;
        let (mb_s, event_p99_ms) = (quantile(&found.rates, 0.5), quantile(&found.during, 0.99));
        Self { pair, stack, mb_s: rounded(mb_s), event_p99_ms: rounded(event_p99_ms), peak_mb: rounded(found.peak_mb) }
    }

    /// What coplay is to reach and does not. `raw`: the rate of a raw channel.
    fn faults(&self, found: &Found, raw: Option<f64>, mib: u64) -> Vec<String> {
        let mut faults = Vec::new();
        let pair = if self.pair == Pair::NativeNative { "native" } else { "browser" };
        // What was not measured is a fault, too.
        let mut most = |what: &str, value: f64, limit: f64| {
            if value.is_nan() || value > limit {
                faults.push(format!("{pair}: {what} is {value:.1}, at most {limit:.1}"));
            }
        };
        most("the p99 of events beside it, in ms,", self.event_p99_ms, LATER * quantile(&found.before, 0.99));
        most("events that were lost", found.missing as f64, 0.0);
        most("memory, in MB,", self.peak_mb, (mib * MIB) as f64 / 1e6);
        if let Some(raw) = raw.filter(|raw| self.mb_s.is_nan() || self.mb_s < OF_RAW * raw) {
            let least = OF_RAW * raw;
            faults.push(format!("{pair}: the rate, in MB/s, is {:.1}, at least {least:.1}", self.mb_s));
        }
        faults
    }
}

fn overview(rows: &[Row]) -> String {
    let heading = ["pair", "stack", "MB/s", "event p99, ms", "memory, MB"];
    let line = |row: &Row| {
        let pair = if row.pair == Pair::NativeNative { "native" } else { "browser" };
        let figures = [row.mb_s, row.event_p99_ms, row.peak_mb].map(|figure| figure.to_string());
        [pair.to_owned(), row.stack.name().to_owned()].into_iter().chain(figures).collect()
    };
    table(&std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows.iter().map(line)).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(before: f64, during: f64) -> Found {
        let counted = |phase, sent, ms: f64| Said::Counted { phase, sent, times: vec![ms; 10] };
        let said = [
            counted(1, 10, before),
            counted(2, 10, before),
            counted(3, 10, during),
            Said::Memory { peak_kb: 20_000.0 },
            Said::Memory { peak_kb: 30_000.0 },
        ];
        Found::of(vec![30.0, 10.0, 20.0], &said).expect("nothing ended")
    }

    #[test]
    fn a_row_has_the_median_rate_and_the_larger_memory() {
        let row = Row::of(Pair::NativeNative, Stack::Coplay, &found(20.0, 35.0));
        assert_eq!((row.mb_s, row.event_p99_ms, row.peak_mb), (20.0, 35.0, 30.7));
        assert!(Found::of(Vec::new(), &[Said::Closed { reason: "x".to_owned() }]).is_err());
    }

    #[test]
    fn coplay_is_held_against_play_before_and_against_a_raw_channel() {
        let faults = |before, during, raw, mib| {
            let found = found(before, during);
            Row::of(Pair::NativeNative, Stack::Coplay, &found).faults(&found, raw, mib).len()
        };
        assert_eq!(faults(20.0, 40.0, Some(25.0), 64), 0);
        assert_eq!(faults(20.0, 40.1, Some(25.0), 64), 1);
        assert_eq!(faults(20.0, 40.0, Some(25.1), 64), 1);
        assert_eq!(faults(20.0, 40.0, None, 29), 1);
        let mut lost = found(20.0, 20.0);
        lost.missing = 1;
        assert_eq!(Row::of(Pair::NativeNative, Stack::Coplay, &lost).faults(&lost, None, 64).len(), 1);
    }
}
