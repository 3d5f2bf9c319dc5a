//! What a match comes to: figures for people and for `--json`, and whether it was as it must be.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{
    matches::Played,
    wire::{ENTITIES, Histogram},
};
use crate::run::Result;

/// All matches.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) runs: Vec<Run>,
}

/// One match. Times are in ms unless they say otherwise.
#[derive(Serialize)]
pub(super) struct Run {
    topology: &'static str,
    host_kind: Option<&'static str>,
    transport: &'static str,
    peers: usize,
    converged: bool,
    entities: usize,
    events_sent: u32,
    events_expected: u32,
    events_delivered: u32,
    events_duplicated: u32,
    events_out_of_order: u32,
    event_rtt_ms: BTreeMap<&'static str, Times>,
    state_age_ms: Times,
    seconds_to_all_connected: f64,
    /// Resident memory of each peer while it played, at equal distances, browsers with all their processes.
    memory_mb: BTreeMap<String, Vec<f64>>,
    /// What is wrong with it.
    #[serde(skip)]
    faults: Vec<String>,
}

#[derive(Clone, Copy, Serialize)]
struct Times {
    p50: Option<f64>,
    p99: Option<f64>,
}

impl From<&Histogram> for Times {
    fn from(times: &Histogram) -> Self {
        Self { p50: times.quantile(0.5), p99: times.quantile(0.99) }
    }
}

impl Run {
    pub(super) fn of(
        topology: &'static str,
        host_kind: Option<&'static str>,
        transport: &'static str,
        seconds_to_all_connected: f64,
        played: &[Played],
    ) -> Self {
        let others = played.len() as u32 - 1;
        let received = || played.iter().flat_map(|peer| peer.findings.received.values());
        let sequences = || received().flat_map(|from| [&from.beats, &from.echoes]);
        let mut rtt: BTreeMap<_, _> =
            ["native_native", "native_web", "web_web"].map(|pair| (pair, Histogram::default())).into();
        let mut age = Histogram::default();
        for peer in played {
            age.merge(&peer.findings.state_age);
            for (answered, times) in &peer.findings.event_rtt {
                let other = played.iter().find(|other| other.id == *answered).is_some_and(|other| other.web);
                let pair = match (peer.web, other) {
                    (false, false) => "native_native",
                    (true, true) => "web_web",
                    _ => "native_web",
                };
                rtt.entry(pair).or_default().merge(times);
            }
        }
        let mut run = Self {
            topology,
            host_kind,
            transport,
            peers: played.len(),
            converged: true,
            entities: played.first().map_or(0, |peer| peer.findings.world.len()),
            events_sent: played.iter().map(|peer| peer.sent.total(others)).sum(),
            events_expected: played.iter().map(|peer| peer.sent.expected(others)).sum(),
            events_delivered: sequences().map(|events| events.delivered).sum(),
            events_duplicated: sequences().map(|events| events.duplicated).sum(),
            events_out_of_order: sequences().map(|events| events.out_of_order).sum(),
            event_rtt_ms: rtt.iter().map(|(&pair, times)| (pair, times.into())).collect(),
            state_age_ms: (&age).into(),
            seconds_to_all_connected: (seconds_to_all_connected * 1000.0).round() / 1000.0,
            memory_mb: BTreeMap::new(),
            faults: Vec::new(),
        };
        run.faults = run.faults_of(played);
        run
    }

    pub(super) fn with_memory(mut self, memory: BTreeMap<String, Vec<f64>>) -> Self {
        self.memory_mb = memory;
        self
    }

    /// By peer.
    pub(super) const fn memory(&self) -> &BTreeMap<String, Vec<f64>> {
        &self.memory_mb
    }

    fn faults_of(&mut self, played: &[Played]) -> Vec<String> {
        let mut faults: Vec<_> = played.windows(2).filter_map(|pair| difference(&pair[0], &pair[1])).collect();
        self.converged = faults.is_empty();
        let noisy = played.iter().filter(|peer| !peer.findings.quiet);
        faults.extend(noisy.map(|peer| format!("{} never grew quiet", peer.name)));
        let entities = ENTITIES * self.peers;
        if self.entities != entities {
            faults.push(format!("{} entities where {entities} are to be", self.entities));
        }
        if self.events_delivered != self.events_expected {
            faults.push(format!("{} of {} events were delivered", self.events_delivered, self.events_expected));
        }
        if self.events_expected == 0 {
            faults.push("no event was sent".to_owned());
        }
        if self.events_duplicated > 0 {
            faults.push(format!("{} events came twice", self.events_duplicated));
        }
        if self.events_out_of_order > 0 {
            faults.push(format!("{} events came out of order", self.events_out_of_order));
        }
        faults
    }

    fn title(&self) -> String {
        self.host_kind.map_or_else(|| self.topology.to_owned(), |host| format!("{host} {}", self.topology))
    }
}

/// The first thing in which the worlds of two peers differ.
fn difference(one: &Played, other: &Played) -> Option<String> {
    let (left, right) = (&one.findings.world, &other.findings.world);
    let entities: BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let entity = entities.into_iter().find(|entity| left.get(*entity) != right.get(*entity))?;
    let (a, b) = (left.get(entity), right.get(entity));
    let component = |(a, b): (&BTreeMap<String, String>, &BTreeMap<String, String>)| {
        let names: BTreeSet<_> = a.keys().chain(b.keys()).collect();
        let name = names.into_iter().find(|name| a.get(*name) != b.get(*name))?;
        Some(format!("{name} is {:?} and {:?}", a.get(name), b.get(name)))
    };
    let what = match a.zip(b) {
        Some(both) => component(both).unwrap_or_default(),
        None if a.is_some() => format!("only {} has it", one.name),
        None => format!("only {} has it", other.name),
    };
    Some(format!("{} and {} differ in {entity}: {what}", one.name, other.name))
}

impl Report {
    /// An error that names everything that is not as it must be.
    pub(super) fn verdict(&self) -> Result {
        let faults: Vec<_> = self
            .runs
            .iter()
            .flat_map(|run| run.faults.iter().map(|fault| format!("{}: {fault}", run.title())))
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
    }

    /// The figures as a table.
    pub(super) fn table(&self) -> String {
        let pair = |times: &Times| match (times.p50, times.p99) {
            (Some(p50), Some(p99)) => format!("{p50:.1}/{p99:.1}"),
            _ => "-".to_owned(),
        };
        let mut rows = vec![
            ["match", "peers", "connected s", "converged", "entities", "events", "twice", "out of order"]
                .into_iter()
                .chain(["RTT native-native ms", "native-web", "web-web", "state age ms"])
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        ];
        for run in &self.runs {
            let rtt = ["native_native", "native_web", "web_web"]
                .map(|kind| run.event_rtt_ms.get(kind).map_or_else(String::new, pair));
            let [native, mixed, web] = rtt;
            rows.push(vec![
                run.title(),
                run.peers.to_string(),
                format!("{:.2}", run.seconds_to_all_connected),
                if run.converged { "yes" } else { "NO" }.to_owned(),
                run.entities.to_string(),
                format!("{}/{}", run.events_delivered, run.events_expected),
                run.events_duplicated.to_string(),
                run.events_out_of_order.to_string(),
                native,
                mixed,
                web,
                pair(&run.state_age_ms),
            ]);
        }
        crate::run::table(&rows) + "\n(times: p50/p99)"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crossplay::wire::{Findings, Received, Sent};

    fn world(value: &str) -> BTreeMap<String, BTreeMap<String, String>> {
        let entity = |number| (format!("0.0#{number}"), BTreeMap::from([("Pos".to_owned(), value.to_owned())]));
        (0..2 * ENTITIES).map(entity).collect()
    }

    /// A peer that sent one event, and has heard that of the other.
    fn peer(id: &str, other: &str) -> Played {
        let mut received = Received::default();
        received.beats.came(0);
        let received = BTreeMap::from([(other.to_owned(), received)]);
        Played {
            name: id.to_owned(),
            id: id.to_owned(),
            web: false,
            sent: Sent { beats: 1, asked: 0 },
            findings: Findings { received, world: world("00ff"), quiet: true, ..Findings::default() },
        }
    }

    fn faults(change: impl FnOnce(&mut [Played; 2])) -> String {
        let mut played = [peer("a", "b"), peer("b", "a")];
        change(&mut played);
        Run::of("mesh", None, "webrtc", 1.0, &played).faults.join("; ")
    }

    #[test]
    fn a_match_in_which_all_is_well_has_no_faults() {
        assert_eq!(faults(|_| {}), "");
    }

    #[test]
    fn the_first_bit_in_which_two_worlds_differ_is_named() {
        let differ = |[_, other]: &mut [Played; 2]| {
            other.findings.world.entry("0.0#1".to_owned()).or_default().insert("Pos".to_owned(), "00fe".to_owned());
        };
        assert_eq!(faults(differ), r#"a and b differ in 0.0#1: Pos is Some("00ff") and Some("00fe")"#);
        let lacks = |[_, other]: &mut [Played; 2]| drop(other.findings.world.remove("0.0#3"));
        assert_eq!(faults(lacks), "a and b differ in 0.0#3: only a has it");
    }

    #[test]
    fn events_that_are_lost_or_come_twice_are_faults() {
        let twice = |[one, _]: &mut [Played; 2]| one.findings.received.values_mut().for_each(|from| from.beats.came(0));
        assert_eq!(faults(twice), "1 events came twice");
        let lost = |[one, _]: &mut [Played; 2]| one.findings.received.clear();
        assert_eq!(faults(lost), "1 of 2 events were delivered");
    }
}
