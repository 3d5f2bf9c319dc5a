//! What does relaying add to the round trip of a small message?

use std::time::Duration;

use serde::Serialize;

use super::{
    build_peers, document,
    netns::{self, Net, Router},
    peers::{self, Kind, Manner},
    quantile,
    servers::{Servers, Turn},
    write,
};
use crate::{
    interrupt,
    run::{Result, Steps, make_dir, say, table, target},
};

/// How often each way is taken, in turn with the others, so that whatever else the machine does befalls all of them.
const ROUNDS: u32 = 5;
/// Messages of one round, and how far apart in ms.
const PINGS: u32 = 600;
const EVERY: u32 = 5;
/// For one round. It takes 4 s, unless the machine has much else to do.
const LIMIT: Duration = Duration::from_secs(60);
/// Of the messages, so many have to be answered. Nothing is lost on the way.
const ANSWERED: f64 = 0.99;

/// What `bench relay` is asked for.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write the table into docs/TURN.md.
    #[arg(long)]
    docs: bool,
}

/// By which way messages go. All between the same two native peers, at addresses without NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    Direct,
    /// By a relay of the embedded TURN server, on the side of one of the two.
    Turn,
    /// By signaling.
    Websocket,
}

const WAYS: [Way; 3] = [Way::Direct, Way::Turn, Way::Websocket];

impl Way {
    /// What ICE has to have chosen.
    const fn kind(self) -> Kind {
        match self {
            Self::Direct => Kind::Host,
            Self::Turn => Kind::Relay,
            Self::Websocket => Kind::Websocket,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Turn => "turn",
            Self::Websocket => "websocket",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Row {
    path: Way,
    rtt_p50_ms: f64,
    rtt_p99_ms: f64,
}

/// Measures every way; an error if a connection took another one.
pub(crate) fn bench(options: &Options) -> Result {
    let mut steps = Steps::new(3);
    steps.next("looking for what it takes");
    netns::ready()?;
    steps.next("building signaling and the native peer (first time about 5 minutes)");
    let programs = build_peers()?;
    steps.next(&format!("{ROUNDS} rounds of {PINGS} messages each way"));
    interrupt::listen()?;
    let place = target()?.join("bench").join("relay");
    let net = Net::new(Router::None, Router::None, &place)?;
    let _servers = Servers::start(&net, Turn::Embedded, &programs, None, &place)?;
    let mut times = WAYS.map(|way| (way, Vec::new()));
    for round in 1..=ROUNDS {
        for (way, times) in &mut times {
            let place = place.join(way.name());
            make_dir(&place)?;
            let answers = Manner { web: false, relay: false, websocket: *way == Way::Websocket, pings: 0, every: 0 };
            let asks = Manner { relay: *way == Way::Turn, pings: PINGS, every: EVERY, ..answers };
            let room = format!("{}-{round}", way.name());
            let [_, end] = peers::meet(&net, &programs, &place, &room, [answers, asks], LIMIT)?;
            let measured = end.result.map_err(|(_, reason)| format!("{}: {reason}", way.name()))?;
            if measured.path != way.kind() {
                return Err(format!("{}: went from {} to {}", way.name(), measured.local, measured.remote));
            }
            if f64::from(measured.answered) < ANSWERED * f64::from(measured.sent) {
                return Err(format!("{}: {} of {} were answered", way.name(), measured.answered, measured.sent));
            }
            times.extend(measured.rtt_ms);
        }
    }
    let rows = times.map(|(path, mut times)| {
        times.sort_unstable_by(f64::total_cmp);
        Row { path, rtt_p50_ms: quantile(&times, 0.5), rtt_p99_ms: quantile(&times, 0.99) }
    });
    println!("{}", overview(&rows));
    write("relay", &rows)?;
    if options.docs {
        document("relay", &overview(&rows))?;
    }
    say("every connection took its way");
    Ok(())
}

fn overview(rows: &[Row]) -> String {
    let heading = ["path", "RTT p50, ms", "RTT p99, ms"].map(str::to_owned).to_vec();
    let line = |row: &Row| {
        vec![row.path.name().to_owned(), format!("{:.2}", row.rtt_p50_ms), format!("{:.2}", row.rtt_p99_ms)]
    };
    table(&std::iter::once(heading).chain(rows.iter().map(line)).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_named_as_the_ways() {
        let row = Row { path: Way::Turn, rtt_p50_ms: 1.0, rtt_p99_ms: 2.0 };
        let json = serde_json::to_value(row).expect("JSON");
        assert_eq!(json["path"], Way::Turn.name());
    }
}
