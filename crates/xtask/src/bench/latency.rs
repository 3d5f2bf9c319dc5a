//! How long does a small message take there and back over loopback: through coplay's socket, as an event of coplay, and through
//! what else a game could use?
//!
//! All pairs run all the time and take turns, message by message kind and round by round, so that whatever else the machine does
//! befalls all of them.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    loss::Pair,
    plot::{Group, Panel, Span, plot},
    quantile,
    stacks::{self, Couple},
    write,
};
use crate::{
    interrupt,
    run::{Result, Steps, make_dir, root, say, table, target},
    tools,
};

const PROGRAM: &str = "latency_peer";
/// What a line of theirs begins with.
const MARK: &str = "latency_peer {";
/// For a pair to connect: Chromium starts within that.
const OPENING: Duration = Duration::from_secs(60);
/// For a turn, which takes a few seconds.
const TURN: Duration = Duration::from_secs(60);
/// Messages of a turn; and in frames, where each takes several times as long.
const MESSAGES: u32 = 100;
const IN_FRAMES: u32 = 40;
const SIZES: [usize; 2] = [64, 1_000];
/// Of those that were sent, so many have to come back. Nothing is lost on loopback unless a queue is too full.
const ANSWERED: f64 = 0.99;
/// How much more time coplay's socket may take than `webrtc` alone.
const MORE: f64 = 1.2;
/// Where the picture goes.
const PICTURE: &str = "docs/images/latency.svg";

/// What `bench latency` is asked for.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A short run, for a first look.
    #[arg(long, conflicts_with = "rounds")]
    quick: bool,
    /// How often each kind of message has its turn, with 100 of them (40 where they go in frames).
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Only these stacks.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Stack>,
    /// Only these pairs.
    #[arg(long, value_enum, value_delimiter = ',')]
    pair: Vec<Pair>,
    /// Draw `docs/images/latency.svg`.
    #[arg(long, conflicts_with_all = ["only", "pair"])]
    docs: bool,
}

/// What carries the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
enum Stack {
    /// Nothing above UDP.
    Udp,
    /// The `webrtc` crate alone; the browser's own channels, there.
    Webrtc,
    Matchbox,
    /// coplay's socket, its user awakened.
    CoplaySocket,
    /// coplay's events between games of 60 frames a second.
    #[value(name = "coplay_event_60hz")]
    #[serde(rename = "coplay_event_60hz")]
    CoplayEvent60hz,
    /// The same, where a frame follows the one before after 0.1 ms.
    CoplayEventUncapped,
}

const STACKS: [Stack; 6] = [
    Stack::Udp,
    Stack::Webrtc,
    Stack::Matchbox,
    Stack::CoplaySocket,
    Stack::CoplayEvent60hz,
    Stack::CoplayEventUncapped,
];
const PAIRS: [Pair; 2] = [Pair::NativeNative, Pair::NativeWeb];

impl Stack {
    /// As in the JSON.
    const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Webrtc => "webrtc",
            Self::Matchbox => "matchbox",
            Self::CoplaySocket => "coplay_socket",
            Self::CoplayEvent60hz => "coplay_event_60hz",
            Self::CoplayEventUncapped => "coplay_event_uncapped",
        }
    }

    /// A page has the browser's frames and no others.
    const fn is_for(self, pair: Pair) -> bool {
        match pair {
            Pair::NativeNative => true,
            Pair::NativeWeb => matches!(self, Self::Webrtc | Self::CoplaySocket | Self::CoplayEvent60hz),
        }
    }

    const fn lanes(self) -> &'static [Lane] {
        match self {
            Self::Udp => &[Lane::Unreliable],
            Self::Webrtc | Self::Matchbox | Self::CoplaySocket => &[Lane::Unreliable, Lane::Reliable],
            // Events are reliable, by whichever lane they go.
            Self::CoplayEvent60hz | Self::CoplayEventUncapped => &[Lane::Reliable],
        }
    }

    const fn meets_by_signaling(self) -> bool {
        !matches!(self, Self::Udp | Self::Webrtc)
    }

    fn messages(self) -> u32 {
        if self == Self::CoplayEvent60hz { IN_FRAMES } else { MESSAGES }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Lane {
    Unreliable,
    Reliable,
}

/// What one kind of message was found to take, there and back.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    stack: Stack,
    pair: Pair,
    lane: Lane,
    bytes: usize,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
}

/// What a peer says.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Said {
    Ready,
    Open,
    Measured { number: u32, us: Vec<f64>, lost: u32 },
}

/// What has turns: one kind of message of one pair.
struct Kind {
    /// Which of the pairs.
    at: usize,
    lane: Lane,
    bytes: usize,
    times: Vec<f64>,
    lost: u32,
}

/// Measures every kind of message; an error if coplay's socket is slower than it may be.
pub(crate) fn bench(options: &Options) -> Result {
    let rounds = if options.quick { 1 } else { options.rounds };
    let chosen = |stack: &Stack| options.only.is_empty() || options.only.contains(stack);
    let pairs: Vec<_> =
        PAIRS.into_iter().filter(|pair| options.pair.is_empty() || options.pair.contains(pair)).collect();
    let needs_page = pairs.contains(&Pair::NativeWeb);
    let mut steps = Steps::new(3);
    steps.next("building the peers and signaling (first time about 6 minutes)");
    if needs_page {
        tools::chromium()?;
    }
    let programs = stacks::build(&[PROGRAM], true)?;
    let folder = needs_page.then(|| stacks::build_page(PROGRAM)).transpose()?;
    interrupt::listen()?;
    steps.next("connecting");
    let place = target()?.join("bench").join("latency");
    make_dir(&place)?;
    let addresses = Addresses { signaling: stacks::free_address()?, page: stacks::free_address()? };
    let mut servers = vec![stacks::signaling(&programs, &addresses.signaling, &place, stacks::here)?];
    if let Some(folder) = &folder {
        servers.push(stacks::page(folder, &addresses.page, &place)?);
    }
    let wanted = pairs.iter().flat_map(|&pair| STACKS.into_iter().map(move |stack| (stack, pair)));
    let wanted = wanted.filter(|(stack, pair)| chosen(stack) && stack.is_for(*pair));
    let mut running = wanted
        .map(|(stack, pair)| Connected::start(stack, pair, &addresses, &programs, &place))
        .collect::<Result<Vec<_>>>()?;
    steps.next(&format!("{rounds} rounds"));
    let mut kinds = Vec::new();
    for (at, connected) in running.iter().enumerate() {
        let lanes = connected.stack.lanes().iter().flat_map(|&lane| SIZES.map(|bytes| (lane, bytes)));
        kinds.extend(lanes.map(|(lane, bytes)| Kind { at, lane, bytes, times: Vec::new(), lost: 0 }));
    }
    let start = Instant::now();
    for round in 1..=rounds {
        for kind in &mut kinds {
            let connected = running.get_mut(kind.at).ok_or("there is no such pair")?;
            let (times, lost) = connected.turn(kind.lane, kind.bytes)?;
            kind.times.extend(times);
            kind.lost += lost;
        }
        say(&format!("  round {round} of {rounds}, {} s so far", start.elapsed().as_secs()));
    }
    let mut faults = Vec::new();
    let rows: Vec<_> = kinds
        .into_iter()
        .filter_map(|kind| {
            let Connected { stack, pair, .. } = running.get(kind.at)?;
            let row = Row::of(*stack, *pair, &kind);
            let sent = kind.times.len() as f64 + f64::from(kind.lost);
            if (kind.times.len() as f64) < ANSWERED * sent {
                faults.push(format!("{}: {} of {sent} messages did not come back", row.title(), kind.lost));
            }
            Some(row)
        })
        .collect();
    println!("{}", overview(&rows));
    write("latency", &rows)?;
    if options.docs {
        let file = root().join(PICTURE);
        make_dir(file.parent().unwrap_or(&file))?;
        fs::write(&file, picture(&rows)).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        say(&format!("wrote {PICTURE}"));
    }
    faults.extend(slower(&rows));
    stacks::verdict("coplay's socket", &faults)
}

struct Addresses {
    signaling: String,
    page: String,
}

/// Two peers that are connected.
struct Connected {
    stack: Stack,
    pair: Pair,
    turns: u32,
    couple: Couple,
}

impl Connected {
    fn start(stack: Stack, pair: Pair, addresses: &Addresses, programs: &Path, place: &Path) -> Result<Self> {
        let web = if pair == Pair::NativeWeb { "-web" } else { "" };
        let name = format!("{}{web}", stack.name().replace('_', "-"));
        let address = if stack.meets_by_signaling() { addresses.signaling.clone() } else { stacks::free_address()? };
        let settings = [("stack", stack.name().to_owned()), ("address", address), ("room", name.clone())];
        let place = place.join(&name);
        let mut couple = Couple::start(PROGRAM, MARK, pair, &settings, &addresses.page, programs, &place)?;
        let open = |said: &[Said]| said.iter().any(|said| matches!(said, Said::Open)).then_some(());
        stacks::wait(&mut couple.a, MARK, OPENING, "connect", open).map_err(|error| format!("{name}: {error}"))?;
        Ok(Self { stack, pair, turns: 0, couple })
    }

    /// Sends messages of one kind; how long each took, in us, and how many did not come back.
    fn turn(&mut self, lane: Lane, bytes: usize) -> Result<(Vec<f64>, u32)> {
        self.turns += 1;
        let turn = self.turns;
        let count = self.stack.messages();
        self.couple.a.tell(&json!({ "number": turn, "lane": lane, "bytes": bytes, "count": count }))?;
        let measured = |said: &[Said]| {
            said.iter().find_map(|said| match said {
                Said::Measured { number, us, lost } if *number == turn => Some((us.clone(), *lost)),
                _ => None,
            })
        };
        stacks::wait(&mut self.couple.a, MARK, TURN, "measure", measured)
    }
}

impl Row {
    fn of(stack: Stack, pair: Pair, kind: &Kind) -> Self {
        let mut times = kind.times.clone();
        times.sort_unstable_by(f64::total_cmp);
        let at = |share| quantile(&times, share);
        let (lane, bytes) = (kind.lane, kind.bytes);
        Self { stack, pair, lane, bytes, p50_us: at(0.5), p90_us: at(0.9), p99_us: at(0.99) }
    }

    fn title(&self) -> String {
        let pair = if self.pair == Pair::NativeNative { "native" } else { "with a browser" };
        format!("{} of {}, {}", self.stack.name(), kind(self.lane, self.bytes), pair)
    }
}

fn kind(lane: Lane, bytes: usize) -> String {
    let lane = if lane == Lane::Unreliable { "unreliable" } else { "reliable" };
    format!("{bytes} B, {lane}")
}

/// Where coplay's socket takes more time than it may: a fifth more than `webrtc` alone, or more than `matchbox_socket`.
fn slower(rows: &[Row]) -> Vec<String> {
    let mut faults = Vec::new();
    for row in rows.iter().filter(|row| row.stack == Stack::CoplaySocket) {
        for (stack, most) in [(Stack::Webrtc, MORE), (Stack::Matchbox, 1.0)] {
            let like = |other: &&Row| (other.pair, other.lane, other.bytes) == (row.pair, row.lane, row.bytes);
            let other = rows.iter().filter(|other| other.stack == stack).find(like);
            // What was not measured is a fault, too.
            if let Some(other) = other.filter(|other| row.p50_us.is_nan() || row.p50_us > most * other.p50_us) {
                let limit = if most > 1.0 { format!(" and {:.0} % more", (most - 1.0) * 100.0) } else { String::new() };
                let (took, others) = (row.p50_us, other.p50_us);
                let name = stack.name();
                faults.push(format!("{}: p50 is {took:.0} us, at most {name}'s {others:.0} us{limit}", row.title()));
            }
        }
    }
    faults
}

fn overview(rows: &[Row]) -> String {
    let heading = ["stack", "pair", "lane", "bytes", "p50, us", "p90", "p99"];
    let line = |row: &Row| {
        let pair = if row.pair == Pair::NativeNative { "native" } else { "browser" };
        let lane = if row.lane == Lane::Unreliable { "unreliable" } else { "reliable" };
        let mut cells = vec![row.stack.name().to_owned(), pair.to_owned(), lane.to_owned(), row.bytes.to_string()];
        cells.extend([row.p50_us, row.p90_us, row.p99_us].map(|time| format!("{time:.0}")));
        cells
    };
    table(&std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows.iter().map(line)).collect::<Vec<_>>())
}

/// The rows as a picture: from p50 to p90, and thinner to p99.
fn picture(rows: &[Row]) -> String {
    let panels =
        [(Pair::NativeNative, "Between two native peers"), (Pair::NativeWeb, "Between a native peer and Chromium")];
    let panel = |(pair, title): (Pair, &str)| {
        let kinds = [Lane::Unreliable, Lane::Reliable].into_iter().flat_map(|lane| SIZES.map(|bytes| (lane, bytes)));
        let group = |(lane, bytes): (Lane, usize)| {
            let shown = rows.iter().filter(|row| (row.pair, row.lane, row.bytes) == (pair, lane, bytes));
            let span = |row: &Row| {
                let series = STACKS.iter().position(|stack| *stack == row.stack).unwrap_or_default();
                Span { series, from: row.p50_us, to: row.p90_us, most: row.p99_us }
            };
            Group { name: kind(lane, bytes), spans: shown.map(span).filter(|span| span.most.is_finite()).collect() }
        };
        Panel { title: title.to_owned(), groups: kinds.map(group).collect() }
    };
    let title = "There and back over loopback: bars from p50 to p90, lines to p99";
    plot(title, "us, there and back", &STACKS.map(Stack::name), &panels.map(panel))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(stack: Stack, p50_us: f64) -> Row {
        let (pair, lane) = (Pair::NativeNative, Lane::Reliable);
        Row { stack, pair, lane, bytes: 64, p50_us, p90_us: 2.0 * p50_us, p99_us: 3.0 * p50_us }
    }

    #[test]
    fn rows_have_the_names_that_are_asked_for() {
        let named = |stack: Stack| serde_json::to_value(row(stack, 1.0)).expect("JSON")["stack"].clone();
        assert!(STACKS.into_iter().all(|stack| named(stack) == stack.name()));
    }

    #[test]
    fn coplays_socket_is_held_against_the_same_messages_of_others() {
        let rows = |socket, matchbox| {
            let other = Row { bytes: 1_000, ..row(Stack::Webrtc, 1.0) };
            [row(Stack::Webrtc, 100.0), row(Stack::Matchbox, matchbox), row(Stack::CoplaySocket, socket), other]
        };
        assert_eq!(slower(&rows(120.0, 150.0)), Vec::<String>::new());
        assert_eq!(slower(&rows(121.0, 150.0)).len(), 1);
        assert_eq!(slower(&rows(130.0, 125.0)).len(), 2);
        assert_eq!(slower(&rows(f64::NAN, 125.0)).len(), 2);
    }

    #[test]
    fn every_stack_that_a_browser_has_is_measured_in_one() {
        let web: Vec<_> = STACKS.into_iter().filter(|stack| stack.is_for(Pair::NativeWeb)).collect();
        assert_eq!(web, [Stack::Webrtc, Stack::CoplaySocket, Stack::CoplayEvent60hz]);
        let svg = picture(&[row(Stack::Udp, 40.0)]);
        assert_eq!(svg.matches("<rect").count(), STACKS.len() + 1);
    }
}
