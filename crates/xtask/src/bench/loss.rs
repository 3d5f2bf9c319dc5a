//! How late are small reliable messages where the path loses some: coplay's events, and what else a game could use?
//!
//! Each case (a stack, a pair, a pattern) has a path of its own, an emulated one between two namespaces, with many connections
//! over it; all stacks are measured at the same time, so that whatever else the machine does befalls all of them.
//! Without root, only coplay is measured, over its conditioner.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use serde::Serialize;

use self::{
    cell::Cell,
    rows::{Row, overview, picture},
};
use super::{
    emulated::{self, Bursts, Conditions},
    netns, stacks, write,
};
use crate::{
    interrupt,
    run::{Result, Steps, make_dir, root, say, target},
    tools,
};

pub(super) mod cell;
mod conditioned;
mod rows;

/// Of a round trip of 60 ms with 5 ms of jitter: in each direction half of the time, and that much more or less, as two
/// directions rarely are at their latest together.
const DELAY_MS: f64 = 30.0;
const JITTER_MS: f64 = 5.0;
/// What is lost, in percent, and whether in bursts.
const LOSSES: [(f64, bool); 5] = [(0.0, false), (2.0, false), (5.0, false), (10.0, false), (2.0, true)];
/// How long a burst is on average: three frames.
const BURST_MS: f64 = 50.0;
/// Of a short run, in seconds.
const QUICK: u32 = 3;
/// To know what one send costs, and what goes over the path anyway, in seconds at the most.
const CALIBRATION: u32 = 6;
/// For the order to send to reach side B.
const TELLING: Duration = Duration::from_millis(150);
/// For the last messages of a phase to be sent: connections do not begin together.
const ENDING: Duration = Duration::from_millis(300);
/// Without loss, so that what was held up by one phase does not hold up the next one.
const DRAIN: Duration = Duration::from_secs(3);
/// For what has not come when all is over.
const LAST: Duration = Duration::from_secs(20);
/// Of the machine's time: above, its own queues would be measured.
const MOST_BUSY: f64 = 0.75;
/// Where the picture goes.
const PICTURE: &str = "docs/images/loss.svg";

/// What `bench loss` is asked for.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A short run, for a first look.
    #[arg(long)]
    quick: bool,
    /// How long each loss is measured in each direction, in seconds.
    #[arg(long, default_value_t = 8, conflicts_with = "quick", value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Only these stacks.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Stack>,
    /// Only these pairs.
    #[arg(long, value_enum, value_delimiter = ',')]
    pair: Vec<Pair>,
    /// Draw `docs/images/loss.svg`.
    #[arg(long, conflicts_with_all = ["only", "pair"])]
    docs: bool,
}

/// What carries the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub(super) enum Stack {
    /// Events, as the plugin sends them.
    CoplayEvent,
    /// A reliable, ordered channel of the `webrtc` crate; the browser's own, there.
    Webrtc,
    /// A reliable channel of `matchbox_socket`.
    Matchbox,
    /// TCP.
    Websocket,
    /// The reliable, ordered channel of renet.
    Renet,
}

const STACKS: [Stack; 5] = [Stack::CoplayEvent, Stack::Webrtc, Stack::Matchbox, Stack::Websocket, Stack::Renet];

impl Stack {
    /// As in the JSON.
    const fn name(self) -> &'static str {
        match self {
            Self::CoplayEvent => "coplay_event",
            Self::Webrtc => "webrtc",
            Self::Matchbox => "matchbox",
            Self::Websocket => "websocket",
            Self::Renet => "renet",
        }
    }

    const fn is_for_browsers(self) -> bool {
        matches!(self, Self::CoplayEvent | Self::Webrtc | Self::Websocket)
    }
}

/// Side A is a process, side B another, or a page in Chromium.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub(super) enum Pair {
    NativeNative,
    NativeWeb,
}

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Pattern {
    /// One every 200 ms.
    Lone,
    /// 20 a second.
    Steady,
}

const PATTERNS: [Pattern; 2] = [Pattern::Lone, Pattern::Steady];

/// How messages go: see `Way` of the peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    Reliably,
    Once,
}

/// What is measured as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Case {
    pub(super) stack: Stack,
    pub(super) pair: Pair,
    pub(super) pattern: Pattern,
    /// Beside 30 kB a second of live state each way.
    pub(super) state: bool,
}

impl Case {
    fn name(self) -> String {
        let pair = if self.pair == Pair::NativeWeb { "-web" } else { "" };
        let pattern = if self.pattern == Pattern::Lone { "lone" } else { "steady" };
        let state = if self.state { "-state" } else { "" };
        format!("{}{pair}-{pattern}{state}", self.stack.name().replace('_', "-"))
    }

    /// How many connections: as many as give enough messages and leave the machine in peace.
    const fn count(self) -> usize {
        match (self.pair, self.pattern, self.state) {
            (Pair::NativeNative, Pattern::Lone, false) => 24,
            (Pair::NativeNative, Pattern::Lone, true) => 6,
            (Pair::NativeNative, Pattern::Steady, false) => 8,
            (Pair::NativeNative, Pattern::Steady, true) => 3,
            (Pair::NativeWeb, Pattern::Lone, _) => 12,
            (Pair::NativeWeb, Pattern::Steady, _) => 6,
        }
    }
}

/// A time in which one side sends.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Phase {
    number: u16,
    kind: Kind,
    /// Or side B.
    by_a: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Nothing is sent: to know what goes over the path anyway.
    Quiet,
    /// Messages are sent once, as state is, and nothing is lost: to know what one send costs. coplay alone.
    Once,
    /// Messages are sent, and measured.
    Measured { percent: f64, burst: bool },
}

impl Phase {
    const fn way(&self) -> Option<Way> {
        match self.kind {
            Kind::Quiet => None,
            Kind::Once => Some(Way::Once),
            Kind::Measured { .. } => Some(Way::Reliably),
        }
    }

    const fn conditions(&self) -> Conditions {
        let Kind::Measured { percent, burst } = self.kind else { return CLEAN };
        if burst {
            Conditions { bursts: Some(Bursts { share: percent / 100.0, length_ms: BURST_MS }), ..CLEAN }
        } else {
            Conditions { loss: percent / 100.0, ..CLEAN }
        }
    }

    fn seconds(&self, measured: u32) -> u32 {
        if matches!(self.kind, Kind::Measured { .. }) { measured } else { measured.min(CALIBRATION) }
    }

    /// How the path's marks at its begin and its end are called.
    fn labels(&self) -> [String; 2] {
        ["begin", "end"].map(|what| format!("{what} {}", self.number))
    }
}

/// The path without loss.
const CLEAN: Conditions =
    Conditions { delay_ms: DELAY_MS, jitter_ms: JITTER_MS, loss: 0.0, bursts: None, rate_kbit: None, queue_bytes: 0 };

/// All phases, in the order in which they are measured.
fn phases() -> Vec<Phase> {
    let measured = LOSSES.map(|(percent, burst)| Kind::Measured { percent, burst });
    let kinds = [Kind::Quiet, Kind::Once].into_iter().chain(measured);
    let both = kinds.flat_map(|kind| [(kind, true), (kind, false)]);
    both.zip(1..).map(|((kind, by_a), number)| Phase { number, kind, by_a }).collect()
}

/// Measures every case; an error if coplay's events are not what they are to be.
pub(crate) fn bench(options: &Options) -> Result {
    let seconds = if options.quick { QUICK } else { options.seconds };
    let chosen = |stack: &Stack| options.only.is_empty() || options.only.contains(stack);
    let stacks: Vec<_> = STACKS.into_iter().filter(chosen).collect();
    let rows = if tools::is_root() && cfg!(target_os = "linux") {
        let pairs =
            if options.pair.is_empty() { vec![Pair::NativeNative, Pair::NativeWeb] } else { options.pair.clone() };
        emulated(&groups(&stacks, &pairs), seconds)?
    } else {
        say("network namespaces and TUN devices take root on Linux: without it, coplay's events over its conditioner");
        if !stacks.contains(&Stack::CoplayEvent) {
            return Err(
                "only coplay_event can be measured without root: call this command as root, or with sudo".to_owned()
            );
        }
        conditioned::measure(seconds)?
    };
    println!("{}", overview(&rows));
    write("loss", &rows)?;
    if options.docs {
        let file = root().join(PICTURE);
        make_dir(file.parent().unwrap_or(&file))?;
        fs::write(&file, picture(&rows)).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        say(&format!("wrote {PICTURE}"));
    }
    let faults: Vec<_> = rows.iter().flat_map(Row::faults).collect();
    if faults.is_empty() {
        say("coplay's events are as late as they may be, and no later");
        Ok(())
    } else {
        Err(format!("coplay's events are not what they are to be:\n  {}", faults.join("\n  ")))
    }
}

/// What is measured at the same time: as much as leaves the machine idle for more than half of the time. Live state and browsers
/// take more of it than all the rest, so they have turns of their own.
fn groups(stacks: &[Stack], pairs: &[Pair]) -> Vec<Vec<Case>> {
    let native = |state: bool| -> Vec<Case> {
        let all = stacks.iter().filter(move |stack| !state || **stack == Stack::CoplayEvent);
        let pair = Pair::NativeNative;
        all.flat_map(move |&stack| PATTERNS.map(|pattern| Case { stack, pair, pattern, state })).collect()
    };
    let web = |pattern| -> Vec<Case> {
        let all = stacks.iter().filter(|stack| stack.is_for_browsers());
        all.map(|&stack| Case { stack, pair: Pair::NativeWeb, pattern, state: false }).collect()
    };
    let mut groups = Vec::new();
    if pairs.contains(&Pair::NativeNative) {
        groups.extend([native(false), native(true)]);
    }
    if pairs.contains(&Pair::NativeWeb) {
        groups.extend(PATTERNS.map(web));
    }
    groups.retain(|group: &Vec<_>| !group.is_empty());
    groups
}

/// Measures over emulated paths, one group after the other.
fn emulated(groups: &[Vec<Case>], seconds: u32) -> Result<Vec<Row>> {
    let mut steps = Steps::new(2 + groups.len());
    steps.next("looking for what it takes");
    netns::ready()?;
    let needs_page = groups.iter().flatten().any(|case| case.pair == Pair::NativeWeb);
    if needs_page {
        tools::chromium()?;
    }
    steps.next("building the emulator, the peers and signaling (first time about 6 minutes)");
    let programs = build()?;
    let page = needs_page.then(|| stacks::build_page(cell::PROGRAM)).transpose()?;
    interrupt::listen()?;
    let place = target()?.join("bench").join("loss");
    let mut rows = Vec::new();
    for group in groups {
        let names: Vec<_> = group.iter().map(|case| case.name()).collect();
        steps.next(&names.join(", "));
        let cells = group.iter().map(|&case| Cell::start(case, false, &programs, page.as_deref(), &place));
        let mut cells: Vec<_> = cells.collect::<Result<_>>()?;
        cells.iter_mut().try_for_each(Cell::opened)?;
        rows.extend(measure(&mut cells, seconds)?);
    }
    Ok(rows)
}

/// Builds what runs here, optimised; returns its folder.
pub(super) fn build() -> Result<PathBuf> {
    stacks::build(&[emulated::PROGRAM, cell::PROGRAM], true)
}

/// Measures cases side by side, phase by phase.
fn measure(cells: &mut [Cell], seconds: u32) -> Result<Vec<Row>> {
    let phases = phases();
    let start = busy();
    for phase in &phases {
        let [begin, end] = phase.labels();
        let seconds = phase.seconds(seconds);
        for cell in &mut *cells {
            cell.set("clean", CLEAN)?;
            if let Some(way) = phase.way()
                && (way == Way::Reliably || cell.case.stack == Stack::CoplayEvent)
            {
                cell.tell(phase.number, seconds, way, phase.by_a)?;
            }
        }
        pause(TELLING)?;
        cells.iter_mut().try_for_each(|cell| cell.set(&begin, phase.conditions()))?;
        say(&format!("  {}", phase.title()));
        pause(Duration::from_secs(seconds.into()) + ENDING)?;
        cells.iter_mut().try_for_each(|cell| cell.set(&end, CLEAN))?;
        pause(if phase.conditions() == CLEAN { ENDING } else { DRAIN })?;
    }
    let share = busy_share(start, busy());
    say(&format!("  the machine was busy for {:.0} % of the time", share * 100.0));
    if share > MOST_BUSY {
        say("  that is too much: what was measured is in part how long programs waited for it");
    }
    let waiting = Instant::now();
    loop {
        let rows = rows::of(cells, &phases, seconds)?;
        if rows.iter().all(|row| row.sent == row.delivered) || waiting.elapsed() > LAST {
            for cell in cells {
                let closed = cell.closed()?;
                if let Some(reason) = closed.first() {
                    say(&format!("  {}: {} connections ended: {reason}", cell.case.name(), closed.len()));
                }
            }
            return Ok(rows);
        }
        pause(Duration::from_secs(1))?;
    }
}

impl Phase {
    /// For a person to read.
    fn title(&self) -> String {
        let side = if self.by_a { "from A" } else { "from B" };
        match self.kind {
            Kind::Quiet => "nothing sent".to_owned(),
            Kind::Once => format!("what one send costs, {side}"),
            Kind::Measured { percent, burst: false } => format!("{percent} % lost, {side}"),
            Kind::Measured { percent, burst: true } => format!("{percent} % lost in bursts, {side}"),
        }
    }
}

/// Waits, unless the person stops it.
pub(super) fn pause(time: Duration) -> Result {
    let start = Instant::now();
    while start.elapsed() < time {
        interrupt::check()?;
        thread::sleep(Duration::from_millis(20).min(time.saturating_sub(start.elapsed())));
    }
    Ok(())
}

/// How long the machine's processors have been busy, and have been there, in ticks (proc(5)).
fn busy() -> Option<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let times: Vec<u64> =
        stat.lines().next()?.split_whitespace().skip(1).filter_map(|time| time.parse().ok()).collect();
    let all: u64 = times.iter().take(8).sum();
    // Idle, and waiting for the disk.
    Some((all - times.get(3)? - times.get(4)?, all))
}

fn busy_share(start: Option<(u64, u64)>, end: Option<(u64, u64)>) -> f64 {
    let (Some((busy_before, before)), Some((busy_after, after))) = (start, end) else { return 0.0 };
    (busy_after - busy_before) as f64 / (after - before).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_measured_once_and_has_a_name_of_its_own() {
        let groups = groups(&STACKS, &[Pair::NativeNative, Pair::NativeWeb]);
        let mut names: Vec<_> = groups.iter().flatten().map(|case| case.name()).collect();
        assert_eq!(names.len(), 10 + 2 + 6);
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 18);
        assert!(super::groups(&[Stack::Renet], &[Pair::NativeWeb]).is_empty(), "no browser has it");
    }

    #[test]
    fn each_loss_is_measured_in_both_directions() {
        let phases = phases();
        assert_eq!(phases.len(), 2 * (2 + LOSSES.len()));
        assert!(phases.iter().zip(1..).all(|(phase, number)| phase.number == number));
        assert_eq!(phases.iter().filter(|phase| phase.by_a).count(), phases.len() / 2);
        let burst = phases.last().expect("there are some");
        assert_eq!(burst.conditions().bursts.map(|bursts| bursts.share), Some(0.02));
        assert_eq!((burst.seconds(10), phases[0].seconds(10)), (10, CALIBRATION));
    }
}
