//! What does each peer of a room send, receive and compute, and how old is what it sees, as rooms get larger?
//!
//! Every peer owns an entity that changes in each of 30 ticks a second. In a mesh all are in one process; under a host, the host
//! has one to itself.

use std::{
    path::Path,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::{loss::pause, quantile, stacks, write};
use crate::{
    interrupt,
    run::{Result, Running, Steps, make_dir, say, table, target},
};

const PROGRAM: &str = "rooms_peer";
/// What a line of theirs begins with.
const MARK: &str = "rooms_peer {";
const MESHES: [usize; 4] = [2, 4, 8, 16];
const HOSTS: [usize; 6] = [2, 4, 8, 16, 32, 64];
/// For all to be in the room and to see everybody's entity.
const OPENING: Duration = Duration::from_secs(90);
/// After that, before it is measured.
const SETTLING: Duration = Duration::from_secs(2);
/// Under a host a guest's upload is the same however many there are: at most so much more in the largest room than in the
/// smallest.
const FLAT: f64 = 1.25;

/// What `bench rooms` is asked for.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long each room is measured, in seconds.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(3..=600))]
    seconds: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Topology {
    Mesh,
    /// Of the guests.
    Host,
    /// Of the host itself.
    HostItself,
}

impl Topology {
    const fn name(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
            Self::Host => "host",
            Self::HostItself => "host_itself",
        }
    }
}

/// One room: of each peer, on average.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    topology: Topology,
    n: usize,
    /// Of datagrams, without what encryption, UDP and IP add.
    up_kb_s: f64,
    down_kb_s: f64,
    /// Of one processor.
    cpu_percent: f64,
    /// How old what is seen of the others is, in each tick of each peer, one of them at a time.
    state_age_p99_ms: f64,
}

/// What a process says, once a second.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Said {
    Used(Used),
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Used {
    /// In ms since 1970.
    at: f64,
    /// How many of its peers see everybody's entity.
    complete: usize,
    /// Of a processor, so far.
    seconds: f64,
    /// Bytes, of all its peers together, so far.
    sent: u64,
    received: u64,
    /// In ms, since the one before.
    ages: Vec<f64>,
}

/// Measures every room; an error if under a host more peers are more to send for each.
pub(crate) fn bench(options: &Options) -> Result {
    let mut steps = Steps::new(3);
    steps.next("building the peers and signaling (first time about 6 minutes)");
    let programs = stacks::build(&[PROGRAM], true)?;
    interrupt::listen()?;
    let place = target()?.join("bench").join("rooms");
    let mut rows = Vec::new();
    for (topology, sizes) in [(Topology::Mesh, &MESHES[..]), (Topology::Host, &HOSTS[..])] {
        steps.next(topology.name());
        for &n in sizes {
            say(&format!("  {n} peers"));
            rows.extend(measure(topology, n, options.seconds, &programs, &place)?);
        }
    }
    println!("{}", overview(&rows));
    write("rooms", &rows)?;
    stacks::verdict("coplay", &faults(&rows))
}

fn measure(topology: Topology, n: usize, seconds: u32, programs: &Path, place: &Path) -> Result<Vec<Row>> {
    let place = place.join(format!("{}-{n}", topology.name()));
    make_dir(&place)?;
    let address = stacks::free_address()?;
    let _server = stacks::signaling(programs, &address, &place, stacks::here)?;
    // The first in a host's room is the host.
    let parts = if topology == Topology::Mesh {
        vec![(topology, n)]
    } else {
        vec![(Topology::HostItself, 1), (topology, n - 1)]
    };
    let mut running = Vec::new();
    for (part, count) in parts {
        let mut command = Command::new(programs.join(PROGRAM));
        command.args(["--topology", topology.name(), "--address", &address]);
        command.args(["--count", &count.to_string(), "--all", &n.to_string()]);
        let mut process = Running::start(PROGRAM, &mut command, Some(&place.join(format!("{}.log", part.name()))))?;
        // It has begun once it says something, so that who is to host is in the room first.
        stacks::wait(&mut process, MARK, OPENING, "begin", |said: &[Said]| (!said.is_empty()).then_some(()))?;
        running.push((part, count, process));
    }
    for (_, count, process) in &mut running {
        let complete =
            |said: &[Said]| said.last().is_some_and(|Said::Used(used)| used.complete == *count).then_some(());
        stacks::wait(process, MARK, OPENING, "see everybody", complete)
            .map_err(|error| format!("{} of {n}: {error}", topology.name()))?;
    }
    pause(SETTLING)?;
    let begin = since_1970();
    pause(Duration::from_secs(seconds.into()))?;
    let span = (begin, since_1970());
    let rows = running.iter().map(|(part, count, process)| {
        let said = stacks::heard::<Said>(process, MARK)?;
        Ok(Row::of(*part, n, *count, &said, span))
    });
    rows.collect()
}

fn since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

impl Row {
    /// Of what so many peers said within this time.
    fn of(topology: Topology, n: usize, count: usize, said: &[Said], span: (f64, f64)) -> Self {
        let within: Vec<_> =
            said.iter().map(|Said::Used(used)| used).filter(|used| used.at >= span.0 && used.at <= span.1).collect();
        let (Some(first), Some(last)) = (within.first(), within.last()) else {
            let none = f64::NAN;
            return Self { topology, n, up_kb_s: none, down_kb_s: none, cpu_percent: none, state_age_p99_ms: none };
        };
        let peer_seconds = count as f64 * (last.at - first.at) / 1e3;
        let kb_s = |first: u64, last: u64| rounded((last.saturating_sub(first)) as f64 / 1e3 / peer_seconds);
        let mut ages: Vec<_> = within.iter().skip(1).flat_map(|used| used.ages.iter().copied()).collect();
        ages.sort_unstable_by(f64::total_cmp);
        Self {
            topology,
            n,
            up_kb_s: kb_s(first.sent, last.sent),
            down_kb_s: kb_s(first.received, last.received),
            cpu_percent: rounded((last.seconds - first.seconds) / peer_seconds * 100.0),
            state_age_p99_ms: quantile(&ages, 0.99),
        }
    }
}

/// Where more peers are more to send for each of them, under a host.
fn faults(rows: &[Row]) -> Vec<String> {
    let uploads = rows.iter().filter(|row| row.topology == Topology::Host);
    let Some(smallest) = uploads.clone().min_by_key(|row| row.n) else { return Vec::new() };
    // What was not measured is a fault, too.
    let more = uploads.filter(|row| row.up_kb_s.is_nan() || row.up_kb_s > FLAT * smallest.up_kb_s);
    let fault = |row: &Row| {
        let (up, least) = (row.up_kb_s, smallest.up_kb_s);
        format!("under a host a guest of {} sends {up} kB/s, one of {} {least} kB/s: to be the same", row.n, smallest.n)
    };
    more.map(fault).collect()
}

fn overview(rows: &[Row]) -> String {
    let heading = ["topology", "peers", "up, kB/s", "down, kB/s", "CPU, %", "state age p99, ms"];
    let line = |row: &Row| {
        vec![
            row.topology.name().to_owned(),
            row.n.to_string(),
            row.up_kb_s.to_string(),
            row.down_kb_s.to_string(),
            row.cpu_percent.to_string(),
            format!("{:.0}", row.state_age_p99_ms),
        ]
    };
    table(&std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows.iter().map(line)).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_what_each_of_the_peers_of_a_process_took() {
        let used = |at, seconds, sent, age: f64| {
            Said::Used(Used { at, complete: 4, seconds, sent, received: 2 * sent, ages: vec![age; 10] })
        };
        let said = [used(500.0, 0.0, 0, 900.0), used(1_000.0, 1.0, 8_000, 900.0), used(3_000.0, 1.8, 40_000, 35.0)];
        let row = Row::of(Topology::Mesh, 4, 4, &said, (900.0, 3_500.0));
        assert_eq!((row.up_kb_s, row.down_kb_s, row.cpu_percent, row.state_age_p99_ms), (4.0, 8.0, 10.0, 35.0));
        assert!(Row::of(Topology::Mesh, 4, 4, &said, (9e3, 10e3)).up_kb_s.is_nan());
    }

    #[test]
    fn uploads_of_guests_are_to_be_flat() {
        let row = |topology, n, up_kb_s| Row { topology, n, up_kb_s, ..Row::of(topology, n, 1, &[], (0.0, 0.0)) };
        let flat = [row(Topology::Host, 2, 2.0), row(Topology::Host, 64, 2.4), row(Topology::HostItself, 64, 130.0)];
        assert_eq!(faults(&flat), Vec::<String>::new());
        let steep = [row(Topology::Host, 2, 2.0), row(Topology::Host, 64, 2.6), row(Topology::Mesh, 16, 30.0)];
        assert_eq!(faults(&steep).len(), 1);
        assert_eq!(faults(&[row(Topology::Host, 2, f64::NAN)]).len(), 1);
    }
}
