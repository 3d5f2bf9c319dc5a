//! Two links, a conditioned path each way, and a clock that jumps from one thing that happens to the next.

use std::time::Duration;

use bytes::Bytes;
use coplay_proto::{
    Channel, Lane,
    conditioner::{Conditioner, Conditions},
    link::{CloseReason, Input, Link, LinkConfig, LinkEvent, Output, Refused},
};
use proptest::test_runner::{Config as ProptestConfig, RngSeed};

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// So many cases, the same ones each time: a link may fail to get something through a path that is bad enough.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() }
}

/// A path that takes so many ms each way, and is otherwise perfect.
pub(crate) const fn delayed(latency: u64) -> Conditions {
    Conditions { latency: ms(latency), ..Conditions::PERFECT }
}

pub(crate) struct Pair {
    pub(crate) now: Duration,
    pub(crate) links: [Link; 2],
    /// To the other one.
    pub(crate) paths: [Conditioner<(Lane, Bytes)>; 2],
    /// What each link said, and when.
    pub(crate) events: [Vec<(Duration, LinkEvent)>; 2],
    /// What each link sent, and when.
    pub(crate) sent: [Vec<(Duration, Bytes)>; 2],
    /// Whether what arrives is taken at once.
    pub(crate) consumes: bool,
}

impl Pair {
    pub(crate) fn new(conditions: Conditions, seed: u64) -> Self {
        Self::with(LinkConfig::default(), conditions, seed)
    }

    pub(crate) fn with(config: LinkConfig, conditions: Conditions, seed: u64) -> Self {
        let link = |seed| Link::new(Duration::ZERO, config.clone(), seed);
        let mut pair = Self {
            now: Duration::ZERO,
            links: [link(seed), link(!seed)],
            paths: [Conditioner::new(conditions, seed ^ 1), Conditioner::new(conditions, seed ^ 2)],
            events: [Vec::new(), Vec::new()],
            sent: [Vec::new(), Vec::new()],
            consumes: true,
        };
        pair.drain();
        pair
    }

    /// Hands something to a link. The link is drained when time goes on.
    pub(crate) fn give(&mut self, side: usize, input: Input) -> Result<(), Refused> {
        self.links[side].handle(self.now, input)
    }

    pub(crate) fn message(&mut self, side: usize, channel: Channel, bytes: impl Into<Bytes>) {
        self.give(side, Input::Message(channel, bytes.into())).expect("the queue has room");
    }

    pub(crate) fn state(&mut self, side: usize, bytes: impl Into<Bytes>) {
        self.give(side, Input::State(bytes.into())).expect("the link is open");
    }

    pub(crate) fn close(&mut self, side: usize) {
        self.give(side, Input::Close).expect("only what is to be sent is refused");
    }

    /// Lets time go on by so much.
    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        let mut at_once = 0;
        loop {
            self.drain();
            let deadlines = self.links.iter().map(Link::deadline).chain(self.paths.iter().map(Conditioner::deadline));
            let Some(next) = deadlines.flatten().min().filter(|next| *next <= until) else { break };
            at_once = if next > self.now { 0 } else { at_once + 1 };
            assert!(at_once < 10_000, "the links never come to rest at {next:?}");
            self.now = self.now.max(next);
            for side in [0, 1] {
                while let Some((lane, bytes)) = self.paths[1 - side].pop(self.now) {
                    self.give(side, Input::Received(lane, bytes)).expect("only what is to be sent is refused");
                }
                if self.links[side].deadline().is_some_and(|deadline| deadline <= self.now) {
                    self.give(side, Input::Elapsed).expect("only what is to be sent is refused");
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

    /// The messages that a side got, in this channel.
    pub(crate) fn messages(&self, side: usize, channel: Channel) -> Vec<Bytes> {
        self.events[side]
            .iter()
            .filter_map(|(_, event)| match event {
                LinkEvent::Message(on, bytes) if *on == channel => Some(bytes.clone()),
                _ => None,
            })
            .collect()
    }

    /// When and why a side closed.
    pub(crate) fn closed(&self, side: usize) -> Option<(Duration, CloseReason)> {
        self.events[side].iter().find_map(|(at, event)| match event {
            LinkEvent::Closed(reason) => Some((*at, reason.clone())),
            _ => None,
        })
    }

    /// When a side said this for the first time.
    pub(crate) fn said(&self, side: usize, what: &LinkEvent) -> Option<Duration> {
        self.events[side].iter().find(|(_, event)| event == what).map(|(at, _)| *at)
    }

    fn drain(&mut self) {
        for side in [0, 1] {
            while let Some(output) = self.links[side].poll() {
                match output {
                    Output::Transmit(lane, bytes) => {
                        assert!(bytes.len() <= coplay_proto::link::MAX_DATAGRAM);
                        self.sent[side].push((self.now, bytes.clone()));
                        let size = bytes.len();
                        self.paths[side].push(self.now, (lane, bytes), size);
                    }
                    Output::Event(event) => {
                        if let LinkEvent::Message(_, bytes) = &event
                            && self.consumes
                        {
                            let size = bytes.len();
                            self.give(side, Input::Consumed(size)).expect("only what is to be sent is refused");
                        }
                        self.events[side].push((self.now, event));
                    }
                }
            }
        }
    }
}
