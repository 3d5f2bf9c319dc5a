//! Which pairs of peers connect through which NATs, by which path, how fast, and what are those told that do not?

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ValueEnum;
use serde::Serialize;

use super::{
    build_peers, document,
    netns::{self, Net, Router},
    peers::{self, End, Kind, Manner},
    servers::{Servers, Turn},
    write,
};
use crate::{
    interrupt,
    run::{Result, Steps, make_dir, say, table, target},
    tools, web,
};

/// Within which a pair is connected, or told that it cannot be.
const VERDICT: Duration = Duration::from_secs(8);
/// After which a row is given up.
const LIMIT: Duration = Duration::from_secs(20);
/// What each peer sends once it is connected, and how far apart: the path is asked for when ICE has made up its mind.
const PINGS: u32 = 30;
const EVERY: u32 = 50;

/// What `bench nat` is asked for.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only with these NATs.
    #[arg(long, value_enum, value_delimiter = ',')]
    nat: Vec<Nat>,
    /// Only these pairs.
    #[arg(long, value_enum, value_delimiter = ',')]
    pair: Vec<Pair>,
    /// Only with these TURN servers.
    #[arg(long, value_enum, value_delimiter = ',')]
    turn: Vec<Turn>,
    /// Write the table into docs/TURN.md, if all of it is as expected.
    #[arg(long, conflicts_with_all = ["nat", "pair", "turn"])]
    docs: bool,
}

/// What lies between the peers and the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
enum Nat {
    /// Nothing.
    Open,
    /// A router each that gives one port for all destinations, and lets nobody answer who was not asked.
    Cone,
    /// The same at B; at A one that gives each destination another port.
    SymmetricOne,
    /// Such a one at both.
    SymmetricBoth,
    /// Routers that let no UDP through.
    UdpBlocked,
}

impl Nat {
    const fn routers(self) -> (Router, Router) {
        match self {
            Self::Open => (Router::None, Router::None),
            Self::Cone => (Router::Cone, Router::Cone),
            Self::SymmetricOne => (Router::Symmetric, Router::Cone),
            Self::SymmetricBoth => (Router::Symmetric, Router::Symmetric),
            Self::UdpBlocked => (Router::NoUdp, Router::NoUdp),
        }
    }
}

/// Who is to be connected: A, which makes the offer, and B.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
enum Pair {
    NativeNative,
    NativeWeb,
    WebWeb,
}

impl Pair {
    const fn web(self) -> [bool; 2] {
        match self {
            Self::NativeNative => [false, false],
            Self::NativeWeb => [false, true],
            Self::WebWeb => [true, true],
        }
    }
}

/// What is to become of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Path(Kind),
    /// From one to the other, by whichever address is learnt first: the machine's own, or the one that STUN tells.
    Direct,
    /// It is told this code.
    Code(&'static str),
}

/// What is to become of a pair that ICE finds no path for: it goes by signaling, unless there is to be no relay at all.
const fn without_path(turn: Turn) -> Expected {
    match turn {
        Turn::None => Expected::Code("N0010"),
        Turn::Embedded | Turn::Coturn => Expected::Path(Kind::Websocket),
    }
}

/// The expected row.
const fn expected(nat: Nat, pair: Pair, turn: Turn) -> Expected {
    match (nat, pair, turn) {
        (Nat::Open, Pair::NativeNative, _) => Expected::Path(Kind::Host),
        // A page that may not use camera or microphone hides its address behind an mDNS name, which ends at its own
        // network. So the other end knows the address from STUN or from checks, though no NAT is in between: what it is
        // called then depends on which of the two comes first.
        (Nat::Open, ..) => Expected::Direct,
        (Nat::Cone, ..) => Expected::Path(Kind::Srflx),
        // The port that STUN saw of the symmetric side is not the one that its peer hears from, and the peer's router lets in
        // what comes from where something was sent to alone.
        (Nat::SymmetricOne | Nat::SymmetricBoth, _, Turn::Embedded | Turn::Coturn) => Expected::Path(Kind::Relay),
        (Nat::SymmetricOne | Nat::SymmetricBoth, _, Turn::None) => without_path(turn),
        // Browsers reach coturn by TCP; nobody else relays by TCP, and no native peer asks for it.
        (Nat::UdpBlocked, Pair::WebWeb, Turn::Coturn) => Expected::Path(Kind::Relay),
        (Nat::UdpBlocked, ..) => without_path(turn),
    }
}

/// What became of a pair.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    nat: Nat,
    pair: Pair,
    turn: Turn,
    connected: bool,
    path: Option<Kind>,
    /// From when both were in the room, until both were connected or both were told that they cannot be.
    seconds: f64,
    error_code: Option<String>,
}

impl Row {
    fn of(nat: Nat, pair: Pair, turn: Turn, ends: &[End; 2]) -> Self {
        let latest = |time: fn(&End) -> f64| ends.iter().map(time).fold(f64::NEG_INFINITY, f64::max);
        let seconds = (latest(|end| end.at) - latest(|end| end.entered)) / 1e3;
        let mut paths: Vec<_> = ends.iter().filter_map(|end| Some(end.result.as_ref().ok()?.path)).collect();
        // Of both, should they not agree.
        let mut codes: Vec<_> = ends
            .iter()
            .map(|end| match &end.result {
                Ok(_) => "connected",
                Err((code, _)) => code.as_deref().unwrap_or("none"),
            })
            .collect();
        paths.sort_unstable();
        codes.dedup();
        let connected = paths.len() == ends.len();
        Self {
            nat,
            pair,
            turn,
            connected,
            path: paths.pop().filter(|_| connected),
            seconds: (seconds * 1e3).round() / 1e3,
            error_code: (!connected).then(|| codes.join("/")),
        }
    }

    /// Of a pair that never came to an end, or not into the room.
    fn without_verdict(nat: Nat, pair: Pair, turn: Turn) -> Self {
        let (seconds, error_code) = (LIMIT.as_secs_f64(), Some("no_verdict".to_owned()));
        Self { nat, pair, turn, connected: false, path: None, seconds, error_code }
    }

    /// How it differs from what is expected.
    fn fault(&self) -> Option<String> {
        let expected = expected(self.nat, self.pair, self.turn);
        let is_expected = match expected {
            Expected::Path(path) => self.path == Some(path),
            Expected::Direct => matches!(self.path, Some(Kind::Host | Kind::Srflx)),
            Expected::Code(code) => self.error_code.as_deref() == Some(code),
        };
        let title = format!("{} {} {}", name(self.nat), name(self.pair), name(self.turn));
        if !is_expected {
            return Some(format!("{title}: {}, and {expected:?} was expected", self.outcome()));
        }
        (self.seconds > VERDICT.as_secs_f64()).then(|| format!("{title}: {}, later than {VERDICT:?}", self.outcome()))
    }

    /// For a person to read.
    fn outcome(&self) -> String {
        let what = self.path.map_or_else(|| self.error_code.clone().unwrap_or_default(), name);
        format!("{what} {:.1} s", self.seconds)
    }
}

/// Connects every pair through every NAT with every TURN server; an error unless all came as expected.
pub(crate) fn bench(options: &Options) -> Result {
    let chosen = Chosen::of(options);
    let mut steps = Steps::new(3 + chosen.nats.len());
    steps.next("looking for what it takes");
    netns::ready()?;
    if chosen.turns.contains(&Turn::Coturn) {
        tools::debian_program("turnserver", "coturn")?;
    }
    let needs_page = chosen.pairs.iter().any(|pair| *pair != Pair::NativeNative);
    if needs_page {
        tools::chromium()?;
    }
    steps.next("building signaling and the native peer (first time about 5 minutes)");
    let programs = build_peers()?;
    steps.next("building the page of the peer");
    let page =
        needs_page.then(|| web::build(peers::PROGRAM, web::Profile::Web, Path::new(peers::INDEX))).transpose()?;
    let bench = Bench { programs, page, place: target()?.join("bench").join("nat") };
    interrupt::listen()?;
    let mut rows = Vec::new();
    for &nat in &chosen.nats {
        steps.next(&name(nat));
        bench.through(nat, &chosen, &mut rows)?;
    }
    println!("{}", overview(&rows));
    write("nat", &rows)?;
    let faults: Vec<_> = rows.iter().filter_map(Row::fault).collect();
    let total = rows.len();
    if !faults.is_empty() {
        let at = bench.place.display();
        return Err(format!("{} of {total} rows differ (logs are in {at}):\n  {}", faults.len(), faults.join("\n  ")));
    }
    say(&format!("{total} of {total} rows are as expected"));
    if options.docs { document("nat", &overview(&rows)) } else { Ok(()) }
}

struct Chosen {
    nats: Vec<Nat>,
    pairs: Vec<Pair>,
    turns: Vec<Turn>,
}

impl Chosen {
    /// What was asked for, or everything.
    fn of(options: &Options) -> Self {
        Self { nats: these(&options.nat), pairs: these(&options.pair), turns: these(&options.turn) }
    }
}

fn these<T: ValueEnum + Clone + PartialEq>(asked: &[T]) -> Vec<T> {
    T::value_variants().iter().filter(|value| asked.is_empty() || asked.contains(value)).cloned().collect()
}

struct Bench {
    programs: PathBuf,
    page: Option<PathBuf>,
    place: PathBuf,
}

impl Bench {
    /// All rows of one kind of NAT.
    fn through(&self, nat: Nat, chosen: &Chosen, rows: &mut Vec<Row>) -> Result {
        let place = self.place.join(name(nat));
        let (a, b) = nat.routers();
        let net = Net::new(a, b, &place)?;
        for &turn in &chosen.turns {
            let place = place.join(name(turn));
            let _servers = Servers::start(&net, turn, &self.programs, self.page.as_deref(), &place)?;
            for &pair in &chosen.pairs {
                let place = place.join(name(pair));
                make_dir(&place)?;
                let manners =
                    pair.web().map(|web| Manner { web, relay: false, websocket: false, pings: PINGS, every: EVERY });
                let met = peers::meet(&net, &self.programs, &place, &name(pair), manners, LIMIT);
                interrupt::check()?;
                let row = match &met {
                    Ok(ends) => Row::of(nat, pair, turn, ends),
                    Err(error) => {
                        println!("{error}");
                        Row::without_verdict(nat, pair, turn)
                    }
                };
                println!("{} {} {}: {}", name(nat), name(turn), name(pair), row.outcome());
                let file = place.join("ends.txt");
                fs::write(&file, format!("{met:#?}\n"))
                    .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
                rows.push(row);
            }
        }
        Ok(())
    }
}

/// Its name in JSON.
fn name(value: impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| Some(value.as_str()?.to_owned())).unwrap_or_default()
}

/// The rows, all pairs of one NAT and TURN server in one line.
fn overview(rows: &[Row]) -> String {
    let pairs: Vec<_> =
        Pair::value_variants().iter().filter(|pair| rows.iter().any(|row| row.pair == **pair)).collect();
    let heading = ["NAT", "TURN"].map(str::to_owned).into_iter().chain(pairs.iter().map(name));
    let mut lines = vec![heading.collect::<Vec<_>>()];
    let mut places: Vec<_> = rows.iter().map(|row| (row.nat, row.turn)).collect();
    places.dedup();
    for (nat, turn) in places {
        let outcome = |pair: &&Pair| {
            let row = rows.iter().find(|row| (row.nat, row.turn, row.pair) == (nat, turn, **pair));
            row.map_or_else(String::new, Row::outcome)
        };
        lines.push([name(nat), name(turn)].into_iter().chain(pairs.iter().map(outcome)).collect());
    }
    table(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::peers::Measured;

    fn end(at: f64, result: std::result::Result<Kind, Option<&str>>) -> End {
        let measured = |path| Measured {
            path,
            local: String::new(),
            remote: String::new(),
            sent: 1,
            answered: 1,
            rtt_ms: vec![1.0],
        };
        let gave_up = |code: Option<&str>| (code.map(str::to_owned), "why".to_owned());
        End { entered: 1_000.0, at, result: result.map(measured).map_err(gave_up) }
    }

    #[test]
    fn the_whole_matrix_is_expected_to_be_as_the_networks_allow() {
        let mut counts = [0; 5];
        for &nat in Nat::value_variants() {
            for &pair in Pair::value_variants() {
                for &turn in Turn::value_variants() {
                    counts[match expected(nat, pair, turn) {
                        Expected::Path(Kind::Host) => 0,
                        Expected::Path(Kind::Srflx) | Expected::Direct => 1,
                        Expected::Path(Kind::Relay) => 2,
                        Expected::Path(Kind::Websocket) => 3,
                        Expected::Code(_) => 4,
                    }] += 1;
                    let symmetric = matches!(nat, Nat::SymmetricOne | Nat::SymmetricBoth);
                    let expected = expected(nat, pair, turn);
                    let relayed = matches!(expected, Expected::Path(Kind::Relay | Kind::Websocket));
                    assert!(turn != Turn::None || !relayed, "nobody is there who relays");
                    let by_turn = expected == Expected::Path(Kind::Relay);
                    assert!(!symmetric || turn == Turn::None || by_turn, "TURN is for these");
                }
            }
        }
        assert_eq!(counts, [3, 15, 13, 5, 9]);
    }

    #[test]
    fn of_a_path_the_less_direct_name_counts_and_the_later_time() {
        let ends = [end(1_500.0, Ok(Kind::Host)), end(1_750.0, Ok(Kind::Srflx))];
        let row = Row::of(Nat::Cone, Pair::NativeWeb, Turn::None, &ends);
        assert_eq!((row.connected, row.path, row.seconds, &row.error_code), (true, Some(Kind::Srflx), 0.75, &None));
        assert_eq!(row.fault(), None);
        assert!(Row { nat: Nat::SymmetricOne, ..row.clone() }.fault().is_some_and(|fault| fault.contains("N0010")));
        assert!(Row { seconds: 8.1, ..row }.fault().is_some_and(|fault| fault.contains("later")));
    }

    #[test]
    fn both_are_to_be_told_the_same_code() {
        let row = |one, other| {
            Row::of(Nat::UdpBlocked, Pair::NativeNative, Turn::None, &[end(7_000.0, one), end(8_000.0, other)])
        };
        let told = row(Err(Some("N0010")), Err(Some("N0010")));
        assert_eq!((told.connected, told.path, told.seconds, told.fault()), (false, None, 7.0, None));
        for (one, other, code) in [
            (Err(Some("N0010")), Err(None), "N0010/none"),
            (Err(Some("N0011")), Err(Some("N0011")), "N0011"),
            (Ok(Kind::Host), Err(Some("N0010")), "connected/N0010"),
        ] {
            let row = row(one, other);
            assert_eq!((row.connected, row.error_code.as_deref()), (false, Some(code)));
            assert!(row.fault().is_some(), "{row:?}");
        }
    }

    #[test]
    fn no_row_is_expected_to_have_no_verdict() {
        let row = Row::without_verdict(Nat::UdpBlocked, Pair::WebWeb, Turn::None);
        assert!(row.fault().is_some_and(|fault| fault.contains("no_verdict")));
    }

    #[test]
    fn a_table_has_a_line_for_each_network() {
        let ends = [end(1_500.0, Ok(Kind::Host)), end(1_500.0, Ok(Kind::Host))];
        let rows = [Pair::NativeNative, Pair::WebWeb].map(|pair| Row::of(Nat::Open, pair, Turn::None, &ends));
        let table = overview(&rows);
        assert_eq!(table.lines().count(), 3);
        assert!(table.ends_with("| open | none | host 0.5 s    | host 0.5 s |"), "{table}");
    }
}
