//! What a peer of `cargo xtask crossplay` and the desk that watches over it say to each other: JSON over HTTP.
//!
//! A peer posts each stage that it has reached to `/reached/NAME`; the answer comes when everyone may go on, and says
//! how. xtask includes this file too, so it stands on serde alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// How a peer is told who it is: the names of its parameters, `--NAME VALUE` or `?NAME=VALUE`.
pub mod parameter {
    /// What to call the peer.
    pub const NAME: &str = "name";
    /// `HOST:PORT` of the desk. Not for pages, which came from there.
    pub const DESK: &str = "desk";
    /// URL of the signaling server.
    pub const SIGNALING: &str = "signaling";
    /// The room to meet in.
    pub const ROOM: &str = "room";
    /// `host` or `mesh`.
    pub const TOPOLOGY: &str = "topology";
    /// What makes the connections: `webrtc` (our own) or `matchbox`.
    pub const TRANSPORT: &str = "transport";
    /// How many peers meet, this one included.
    pub const PEERS: &str = "peers";
}

/// How many entities each player keeps moving.
pub const ENTITIES: usize = 50;

/// A stage that a peer has reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reached {
    /// The program runs. It waits for [`Order::Join`].
    Loaded,
    /// It is in the room.
    Joined,
    /// It plays with everyone.
    Connected {
        /// Its id.
        me: String,
    },
    /// It has stopped changing things and sending events.
    Stopped {
        /// What it has sent.
        sent: Sent,
    },
    /// It has heard nothing new for a while.
    Quiet(Box<Findings>),
    /// It cannot go on.
    Failed(String),
}

/// What a peer is to do next.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order {
    /// Go into the room.
    Join,
    /// Wait until everyone is there.
    Meet,
    /// Play.
    Play {
        /// For how long.
        seconds: u32,
    },
    /// Wait until nothing moves.
    Settle {
        /// What each peer has sent.
        sent: BTreeMap<String, Sent>,
    },
    /// Leave the room and end.
    Leave,
}

/// The events that a peer has sent to everyone.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Sent {
    /// How many.
    pub beats: u32,
    /// How many of them each of the others is to answer.
    pub asked: u32,
}

impl Sent {
    /// How many events were sent because of them: they themselves, and the answers of so many others.
    pub fn total(&self, others: u32) -> u32 {
        self.beats + self.asked * others
    }

    /// How many are to arrive because of them, at so many others and back from them.
    pub fn expected(&self, others: u32) -> u32 {
        (self.beats + self.asked) * others
    }
}

/// What a peer has seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Findings {
    /// The events that came, by their senders' ids.
    pub received: BTreeMap<String, Received>,
    /// Round trips of events, by the id of the peer that answered.
    pub event_rtt: BTreeMap<String, Histogram>,
    /// How old the state of others was when it was seen here.
    pub state_age: Histogram,
    /// Every shared entity with each component's name and encoded value.
    pub world: BTreeMap<String, BTreeMap<String, String>>,
    /// Whether it grew quiet, or the peer gave up waiting.
    pub quiet: bool,
}

/// The events that came from one peer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Received {
    /// Sent to everyone.
    pub beats: Sequence,
    /// Sent to this peer.
    pub echoes: Sequence,
}

/// Numbers that are to come once each and in order, from 0.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sequence {
    /// How many different ones have come.
    pub delivered: u32,
    /// How many came again.
    pub duplicated: u32,
    /// How many came after a later one.
    pub out_of_order: u32,
    next: u32,
    missing: BTreeSet<u32>,
}

impl Sequence {
    /// Takes note of a number that has come.
    pub fn came(&mut self, number: u32) {
        if number >= self.next {
            self.missing.extend(self.next..number);
            self.next = number.saturating_add(1);
            self.delivered += 1;
        } else if self.missing.remove(&number) {
            self.delivered += 1;
            self.out_of_order += 1;
        } else {
            self.duplicated += 1;
        }
    }
}

/// How often something lasted how long, in steps of 0.1 ms.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Histogram(BTreeMap<u32, u32>);

impl Histogram {
    /// Takes note of a time. A negative one, which two clocks can make, counts as 0.
    pub fn add(&mut self, millis: f64) {
        *self.0.entry((millis * 10.0).clamp(0.0, 1e9).round() as u32).or_default() += 1;
    }

    /// Takes over what another one noted.
    pub fn merge(&mut self, other: &Self) {
        for (&step, &count) in &other.0 {
            *self.0.entry(step).or_default() += count;
        }
    }

    /// The time in ms that this share of all, 0 to 1, did not exceed. None if there is none.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let all: u32 = self.0.values().sum();
        let wanted = (f64::from(all) * share).ceil().max(1.0) as u32;
        let mut seen = 0;
        self.0.iter().find_map(|(&step, &count)| {
            seen += count;
            (seen >= wanted).then(|| f64::from(step) / 10.0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_tells_late_from_twice_from_never() {
        let mut sequence = Sequence::default();
        for number in [0, 1, 4, 2, 2, 5] {
            sequence.came(number);
        }
        assert_eq!((sequence.delivered, sequence.duplicated, sequence.out_of_order), (5, 1, 1));
    }

    #[test]
    fn quantiles_come_from_the_times_noted() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for millis in 1..=100 {
            histogram.add(f64::from(millis));
        }
        assert_eq!((histogram.quantile(0.5), histogram.quantile(0.99)), (Some(50.0), Some(99.0)));
    }
}
