//! Two machines, a path each way that nothing is lost on, and a clock that jumps from one thing that happens to the next.

use std::time::Duration;

use bytes::Bytes;
use coplay_proto::{
    bulk::{Blob, BlobId, Bulk, BulkConfig, Fact, Failure, Input, MAX_MESSAGE, Offer, Output, Shelf},
    conditioner::{Conditioner, Conditions},
    rng::Rng,
};
use proptest::test_runner::{Config as ProptestConfig, RngSeed};

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// So many cases, the same ones each time.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() }
}

/// Bytes that say where they belong.
pub(crate) fn content(size: usize, seed: u64) -> Bytes {
    let mut rng = Rng::new(seed);
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        bytes.extend(rng.next_u64().to_le_bytes());
    }
    bytes.truncate(size);
    bytes.into()
}

/// What a side does with what it is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Whole,
    Stream,
    /// The test answers.
    Ask,
}

/// What goes over a path: messages of the machines, and what goes beside them.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    Bulk(Bytes),
    Ping(Duration),
}

/// One side.
pub(crate) struct Side {
    pub(crate) bulk: Bulk,
    pub(crate) shelf: Shelf,
    pub(crate) policy: Policy,
    /// Whether its game takes what it is told at once.
    pub(crate) takes: bool,
    pub(crate) untaken: usize,
    /// What its game was told, and when.
    pub(crate) facts: Vec<(Duration, Fact)>,
    pub(crate) malformed: Option<&'static str>,
    /// What it sent.
    pub(crate) sent: Vec<(Duration, Bytes)>,
    /// How long what goes beside took to get here.
    pub(crate) pings: Vec<Duration>,
}

pub(crate) struct Pair {
    pub(crate) now: Duration,
    pub(crate) sides: [Side; 2],
    /// To the other one.
    pub(crate) paths: [Conditioner<Packet>; 2],
    conditions: Conditions,
    config: BulkConfig,
    numbers: u64,
    pub(crate) connected: bool,
}

impl Pair {
    pub(crate) fn new(conditions: Conditions) -> Self {
        Self::with(conditions, BulkConfig::default())
    }

    pub(crate) fn with(conditions: Conditions, config: BulkConfig) -> Self {
        // Nothing is lost, however much waits.
        let conditions = Conditions { queue: u32::MAX as usize, ..conditions };
        let side = || Side {
            bulk: Bulk::new(Duration::ZERO, config.clone()),
            shelf: Shelf::default(),
            policy: Policy::Whole,
            takes: true,
            untaken: 0,
            facts: Vec::new(),
            malformed: None,
            sent: Vec::new(),
            pings: Vec::new(),
        };
        Self {
            now: Duration::ZERO,
            sides: [side(), side()],
            paths: [Conditioner::new(conditions, 1), Conditioner::new(conditions, 2)],
            conditions,
            config,
            numbers: 0,
            connected: true,
        }
    }

    /// Hands something to a machine.
    pub(crate) fn give(&mut self, side: usize, input: Input) {
        self.sides[side].bulk.handle(self.now, input);
        self.drain();
    }

    /// Has a side send a blob; returns its number.
    pub(crate) fn send(&mut self, side: usize, blob: Blob) -> u64 {
        self.numbers += 1;
        self.give(side, Input::Send(self.numbers, blob));
        self.numbers
    }

    pub(crate) fn accept(&mut self, side: usize, offer: &Offer, stream: bool) {
        let kept = self.sides[side].shelf.take(self.now, offer, stream);
        self.give(side, Input::Accept { number: offer.number, stream, kept });
    }

    /// The game takes so many of the facts that wait.
    pub(crate) fn take(&mut self, side: usize, facts: usize) {
        let facts = facts.min(self.sides[side].untaken);
        self.sides[side].untaken -= facts;
        self.give(side, Input::Taken(facts));
    }

    /// Changes the path, in both directions.
    pub(crate) fn set(&mut self, conditions: Conditions) {
        self.conditions = Conditions { queue: u32::MAX as usize, ..conditions };
        self.paths.iter_mut().for_each(|path| path.set(self.conditions));
    }

    /// The link breaks: what is on its way is lost.
    pub(crate) fn disconnect(&mut self) {
        self.connected = false;
        self.paths = [3, 4].map(|seed| Conditioner::new(self.conditions, seed));
        for side in [0, 1] {
            self.give(side, Input::Closed);
        }
    }

    /// Another connection takes the place of the one that there is: what is on its way is lost.
    pub(crate) fn replace(&mut self) {
        self.lose();
        for side in &mut self.sides {
            side.bulk.handle(self.now, Input::Anew);
        }
        self.drain();
    }

    /// What is on its way is lost.
    pub(crate) fn lose(&mut self) {
        self.paths = [5, 6].map(|seed| Conditioner::new(self.conditions, seed));
    }

    pub(crate) fn connect(&mut self) {
        self.connected = true;
        for side in &mut self.sides {
            side.bulk = Bulk::new(self.now, self.config.clone());
            side.untaken = 0;
        }
    }

    /// Lets time go on by so much.
    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        let mut at_once = 0;
        loop {
            self.drain();
            let deadlines = self.sides.iter().map(|side| side.bulk.deadline());
            let deadlines = deadlines.chain(self.paths.iter().map(Conditioner::deadline));
            let Some(next) = deadlines.flatten().min().filter(|next| *next <= until) else { break };
            at_once = if next > self.now { 0 } else { at_once + 1 };
            assert!(at_once < 10_000, "the machines never come to rest at {next:?}");
            self.now = self.now.max(next);
            for side in [0, 1] {
                while let Some(packet) = self.paths[1 - side].pop(self.now) {
                    match packet {
                        Packet::Bulk(bytes) => self.sides[side].bulk.handle(self.now, Input::Received(bytes)),
                        Packet::Ping(at) => self.sides[side].pings.push(self.now - at),
                    }
                }
                if self.sides[side].bulk.deadline().is_some_and(|deadline| deadline <= self.now) {
                    self.sides[side].bulk.handle(self.now, Input::Elapsed);
                }
            }
        }
        self.now = until;
    }

    /// Lets time go on until this holds, at the most so long; whether it does.
    pub(crate) fn run_until(&mut self, time: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let until = self.now + time;
        while !done(self) && self.now < until {
            self.run(ms(1));
        }
        done(self)
    }

    fn drain(&mut self) {
        for side in [0, 1] {
            // What a machine is told in answer may lead to more.
            loop {
                let now = self.now;
                let Side { bulk, shelf, policy, takes, untaken, facts, malformed, sent, .. } = &mut self.sides[side];
                *malformed = bulk.malformed();
                if let Some(output) = bulk.poll() {
                    match output {
                        Output::Fact(fact) => {
                            if fact.is_to_be_taken() {
                                *untaken += 1;
                            }
                            if *takes {
                                bulk.handle(now, Input::Taken(std::mem::take(untaken)));
                            }
                            if let (Fact::Offered(offer), Policy::Whole | Policy::Stream) = (&fact, *policy) {
                                let stream = *policy == Policy::Stream;
                                let kept = shelf.take(now, offer, stream);
                                bulk.handle(now, Input::Accept { number: offer.number, stream, kept });
                            }
                            facts.push((now, fact));
                        }
                        Output::Keep(kept) => shelf.put(now, kept),
                    }
                } else if let Some(bytes) = bulk.transmit(now) {
                    assert!(bytes.len() <= MAX_MESSAGE);
                    sent.push((now, bytes.clone()));
                    let size = bytes.len();
                    self.paths[side].push(now, Packet::Bulk(bytes), size);
                } else {
                    break;
                }
            }
        }
    }

    /// What a side was told of a blob.
    pub(crate) fn told(&self, side: usize, blob: BlobId) -> Vec<&Fact> {
        self.sides[side].facts.iter().map(|(_, fact)| fact).filter(|fact| fact.blob() == blob).collect()
    }

    /// The end of a blob on a side, and when it was.
    pub(crate) fn end(&self, side: usize, blob: BlobId) -> Option<(Duration, &Fact)> {
        let of = |(at, fact): &'_ (Duration, Fact)| (fact.blob() == blob && fact.is_last()).then_some(*at);
        let facts = &self.sides[side].facts;
        facts.iter().find_map(|fact| of(fact).map(|at| (at, &fact.1)))
    }

    /// Why a blob failed on a side.
    pub(crate) fn failure(&self, side: usize, blob: BlobId) -> Option<Failure> {
        match self.end(side, blob) {
            Some((_, Fact::Failed { failure, .. })) => Some(failure.clone()),
            _ => None,
        }
    }

    pub(crate) fn is_sent(&self, side: usize, number: u64) -> bool {
        matches!(self.end(side, BlobId::Out(number)), Some((_, Fact::Sent { .. })))
    }

    /// The whole blobs that a side got, in the order in which they came.
    pub(crate) fn received(&self, side: usize) -> Vec<Bytes> {
        let whole = |(_, fact): &(Duration, Fact)| match fact {
            Fact::Received { bytes, .. } => bytes.clone(),
            _ => None,
        };
        self.sides[side].facts.iter().filter_map(whole).collect()
    }

    /// The chunks that a side got of a blob, put together; each must be where the one before it ended.
    pub(crate) fn chunks(&self, side: usize, number: u64) -> (u64, Vec<u8>) {
        let (mut from, mut all) = (None, Vec::new());
        for fact in self.told(side, BlobId::In(number)) {
            if let Fact::Chunk { offset, bytes, .. } = fact {
                let from = *from.get_or_insert(*offset);
                assert_eq!(*offset, from + all.len() as u64);
                all.extend_from_slice(bytes);
            }
        }
        (from.unwrap_or(0), all)
    }

    /// The offers that a side was told of.
    pub(crate) fn offers(&self, side: usize) -> Vec<Offer> {
        let offer = |(_, fact): &(Duration, Fact)| match fact {
            Fact::Offered(offer) => Some(offer.clone()),
            _ => None,
        };
        self.sides[side].facts.iter().filter_map(offer).collect()
    }

    /// How many bytes a side has sent, headers included.
    pub(crate) fn bytes_sent(&self, side: usize) -> usize {
        self.sides[side].sent.iter().map(|(_, bytes)| bytes.len()).sum()
    }
}
