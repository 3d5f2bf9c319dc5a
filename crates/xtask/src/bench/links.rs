//! What does a host with many guests take of its machine, how late are answers, and how soon does it know that guests are gone?
//!
//! The stacks have turns: for each, the guests of one process connect with a hub, play for a while, and are frozen (`SIGSTOP`), so
//! that nothing closes their connections, as where a machine loses its network; then the next has its turn while the hub of this
//! one waits for its stack to notice.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::{loss::pause, quantile, stacks, write};
use crate::{
    interrupt,
    run::{Result, Running, Steps, make_dir, say, table, target},
};

const PROGRAM: &str = "links_peer";
/// What a line of theirs begins with.
const MARK: &str = "links_peer {";
const PEERS: [usize; 2] = [16, 64];
/// For a hub to be there, and for all guests to connect.
const STARTING: Duration = Duration::from_secs(20);
const OPENING: Duration = Duration::from_secs(90);
/// After that, before it is measured.
const SETTLING: Duration = Duration::from_secs(3);
/// For a stack to notice that guests are gone. ICE gives up after 30 s by default.
const NOTICING: Duration = Duration::from_secs(45);
/// What coplay is to reach: a silent peer is seen within 2 s, and what a look takes on a busy machine.
const SEEN_S: f64 = 2.2;

/// What `bench links` is asked for.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long each stack is measured with each number of guests, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(3..=600))]
    seconds: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Stack {
    /// coplay's network: a socket, and a link for each guest.
    Coplay,
    /// The `webrtc` crate alone, tuned.
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

/// One stack with one number of guests.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    stack: Stack,
    peers: usize,
    /// Of one processor.
    hub_cpu_percent: f64,
    rtt_p99_ms: f64,
    /// Resident memory of the hub.
    kb_per_link: f64,
    /// From when the guests were frozen until the hub knew of half of them. None: not within 45 s.
    vanish_seen_s: Option<f64>,
}

/// What a hub or its guests say.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Said {
    /// The hub is there, and takes this of the machine.
    Ready(Used),
    /// So many connections were opened so far.
    Open {
        count: usize,
    },
    Used(Used),
    /// How long round trips took, in ms, in the second before.
    Times {
        at: f64,
        ms: Vec<f64>,
    },
    /// A guest does not answer, or is gone, as the hub's stack says.
    Lost {
        at: f64,
        reason: String,
    },
}

/// What a process took of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
struct Used {
    /// In ms since 1970.
    at: f64,
    /// Of a processor, so far.
    seconds: f64,
    /// Of memory, now.
    kb: f64,
}

/// A hub whose guests were frozen.
struct Bereft {
    row: Row,
    hub: Running,
    _guests: Running,
    _server: Option<Running>,
    since: f64,
}

/// Measures every stack; an error if coplay does not notice soon that guests are gone.
pub(crate) fn bench(options: &Options) -> Result {
    let mut steps = Steps::new(2 + PEERS.len());
    steps.next("building the peers and signaling (first time about 6 minutes)");
    let programs = stacks::build(&[PROGRAM], true)?;
    interrupt::listen()?;
    let place = target()?.join("bench").join("links");
    let mut bereft = Vec::new();
    for peers in PEERS {
        steps.next(&format!("{peers} guests"));
        for stack in STACKS {
            say(&format!("  {}", stack.name()));
            bereft.push(measure(stack, peers, options.seconds, &programs, &place)?);
        }
    }
    steps.next("waiting for the hubs to notice that their guests are gone");
    let mut rows = Vec::new();
    for Bereft { mut row, hub, since, .. } in bereft {
        row.vanish_seen_s = noticed(&hub, row.peers, since)?;
        rows.push(row);
    }
    println!("{}", overview(&rows));
    write("links", &rows)?;
    let faults: Vec<_> = rows.iter().filter_map(Row::fault).collect();
    stacks::verdict("coplay", &faults)
}

fn measure(stack: Stack, peers: usize, seconds: u32, programs: &Path, place: &Path) -> Result<Bereft> {
    let place = place.join(format!("{}-{peers}", stack.name()));
    make_dir(&place)?;
    let address = stacks::free_address()?;
    let server =
        (stack != Stack::Webrtc).then(|| stacks::signaling(programs, &address, &place, stacks::here)).transpose()?;
    let side = |side: &str| {
        let mut command = Command::new(programs.join(PROGRAM));
        command.args(["--side", side, "--stack", stack.name(), "--address", &address, "--count", &peers.to_string()]);
        Running::start(PROGRAM, &mut command, Some(&place.join(format!("{side}.log"))))
    };
    let mut hub = side("a")?;
    let ready =
        |said: &[Said]| said.iter().find_map(|said| if let Said::Ready(used) = said { Some(*used) } else { None });
    let alone = stacks::wait(&mut hub, MARK, STARTING, "begin", ready)?;
    let mut guests = side("b")?;
    let open = |said: &[Said]| said.contains(&Said::Open { count: peers }).then_some(());
    for side in [&mut hub, &mut guests] {
        stacks::wait(side, MARK, OPENING, "connect all", open)
            .map_err(|error| format!("{} with {peers} guests: {error}", stack.name()))?;
    }
    pause(SETTLING)?;
    let begin = since_1970();
    pause(Duration::from_secs(seconds.into()))?;
    let end = since_1970();
    let times: Vec<Said> = stacks::heard(&guests, MARK)?;
    guests.freeze()?;
    let since = since_1970();
    let lost = |said: &Said| if let Said::Lost { reason, .. } = said { Some(reason.clone()) } else { None };
    let used: Vec<Said> = stacks::heard(&hub, MARK)?;
    if let Some(reason) = used.iter().find_map(lost) {
        let fault = format!("{} with {peers} guests: the hub lost one that was there: {reason}", stack.name());
        if stack == Stack::Coplay {
            return Err(fault);
        }
        say(&format!("  {fault}"));
    }
    Ok(Bereft {
        row: Row::of(stack, peers, alone, &used, &times, (begin, end)),
        hub,
        _guests: guests,
        _server: server,
        since,
    })
}

/// After how many seconds a hub knew of half of its guests that they were gone.
fn noticed(hub: &Running, peers: usize, since: f64) -> Result<Option<f64>> {
    let start = Instant::now();
    loop {
        let said: Vec<Said> = stacks::heard(hub, MARK)?;
        let times = said.iter().filter_map(|said| if let Said::Lost { at, .. } = said { Some(*at) } else { None });
        let mut times: Vec<_> = times.map(|at| (at - since) / 1e3).filter(|time| *time >= 0.0).collect();
        if times.len() >= peers.div_ceil(2) {
            times.sort_unstable_by(f64::total_cmp);
            return Ok(times.get(peers.div_ceil(2) - 1).map(|time| rounded(*time)));
        }
        if since_1970() - since > NOTICING.as_secs_f64() * 1e3 && start.elapsed() > Duration::from_secs(2) {
            return Ok(None);
        }
        pause(Duration::from_millis(100))?;
    }
}

fn since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

impl Row {
    /// `alone`: what the hub took without guests; `hub`, `guests`: what they said; of what they said within `span`.
    fn of(stack: Stack, peers: usize, alone: Used, hub: &[Said], guests: &[Said], span: (f64, f64)) -> Self {
        let within = |at: f64| at >= span.0 && at <= span.1;
        let used = hub.iter().filter_map(|said| if let Said::Used(used) = said { Some(*used) } else { None });
        let used: Vec<_> = used.filter(|used| within(used.at)).collect();
        let (cpu, kb) = match &used[..] {
            [first, .., last] => {
                let cpu = (last.seconds - first.seconds) / ((last.at - first.at) / 1e3) * 100.0;
                (cpu, (last.kb - alone.kb) / peers as f64)
            }
            _ => (f64::NAN, f64::NAN),
        };
        let times = guests.iter().filter_map(|said| match said {
            Said::Times { at, ms } if within(*at - 1e3) && within(*at) => Some(ms),
            _ => None,
        });
        let mut times: Vec<_> = times.flatten().copied().collect();
        times.sort_unstable_by(f64::total_cmp);
        Self {
            stack,
            peers,
            hub_cpu_percent: rounded(cpu),
            rtt_p99_ms: quantile(&times, 0.99),
            kb_per_link: kb.round(),
            vanish_seen_s: None,
        }
    }

    /// What coplay is to reach and does not.
    fn fault(&self) -> Option<String> {
        let late = self.vanish_seen_s.is_none_or(|seconds| seconds > SEEN_S);
        (self.stack == Stack::Coplay && late).then(|| {
            let seen = self.vanish_seen_s.map_or_else(|| "not".to_owned(), |seconds| format!("after {seconds} s"));
            format!("with {} guests: that they are gone is seen {seen}, to be seen within {SEEN_S} s", self.peers)
        })
    }
}

fn overview(rows: &[Row]) -> String {
    let heading = ["stack", "peers", "hub CPU, %", "rtt p99, ms", "kB a link", "gone seen after, s"];
    let line = |row: &Row| {
        vec![
            row.stack.name().to_owned(),
            row.peers.to_string(),
            row.hub_cpu_percent.to_string(),
            format!("{:.1}", row.rtt_p99_ms),
            row.kb_per_link.to_string(),
            row.vanish_seen_s.map_or_else(|| "not".to_owned(), |seconds| seconds.to_string()),
        ]
    };
    table(&std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows.iter().map(line)).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_made_of_what_was_said_while_it_was_measured() {
        let used = |at, seconds, kb| Said::Used(Used { at, seconds, kb });
        let alone = Used { at: 0.0, seconds: 0.0, kb: 10_000.0 };
        let hub =
            [used(500.0, 9.0, 0.0), used(1_000.0, 1.0, 0.0), used(2_000.0, 1.5, 0.0), used(5_000.0, 2.0, 14_000.0)];
        let times = |at, ms: f64| Said::Times { at, ms: vec![ms; 10] };
        let guests = [times(1_900.0, 900.0), times(2_500.0, 1.5), times(5_500.0, 900.0)];
        let row = Row::of(Stack::Coplay, 16, alone, &hub, &guests, (1_000.0, 5_000.0));
        assert_eq!((row.hub_cpu_percent, row.kb_per_link, row.rtt_p99_ms), (25.0, 250.0, 1.5));
        assert!(row.fault().is_some_and(|fault| fault.contains("seen not")));
        assert_eq!(Row { vanish_seen_s: Some(2.1), ..row.clone() }.fault(), None);
        assert!(Row { vanish_seen_s: Some(2.6), ..row.clone() }.fault().is_some());
        assert_eq!(Row { stack: Stack::Webrtc, ..row }.fault(), None);
    }
}
