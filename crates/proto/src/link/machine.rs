//! What a link does with what happens: the turn from inputs to datagrams and events.

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;

use crate::{Channel, Lane, rng::Rng};

use super::{
    CloseReason, FIRST_RATE, Figures, Input, LinkConfig, LinkEvent, MAX_DATAGRAM, MAX_MESSAGE, MAX_STATE,
    MESSAGE_ACK_DELAY, Output, Quality, Refused, STATE_ACK_DELAY,
    incoming::{Admission, Incoming},
    outgoing::{Filled, Outgoing},
    pacer::Pacer,
    receipts::{News, Sending, Sent},
    received::{Arrival, Received},
    wire::{self, Datagram, Ends, Part},
};

/// How long a datagram waits for company before it is acked that brings only messages that have come before.
const COPY_ACK_DELAY: Duration = Duration::from_millis(25);
/// The same for a keep-alive: another one can bring that ack.
const KEEP_ALIVE_ACK_DELAY: Duration = Duration::from_millis(200);
/// How often figures are reported, and how often at the most when the budget changes.
const FIGURES_INTERVAL: Duration = Duration::from_millis(250);
const BUDGET_INTERVAL: Duration = Duration::from_millis(20);
/// How long what was not acked before a goodbye is still repeated, and waited for.
const LINGER: Duration = Duration::from_secs(1);
/// How often a goodbye is said, unless the peer acks it before.
const GOODBYES: u32 = 5;
/// The least and the most time between two goodbyes; between them it is half a round trip.
const GOODBYE_INTERVAL: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));
/// A call that comes so much later than asked for says that this side was asleep, and not that the peer was silent.
const OVERSLEPT: Duration = Duration::from_millis(500);
/// The most frames that wait for [`Link::poll`] to be drained.
const MAX_STATES: usize = 16;

/// The connection to one peer: datagrams in, frames and messages out, and the other way around.
///
/// ```
/// use std::time::Duration;
/// use coplay_proto::{Channel, link::{Input, Link, LinkConfig, LinkEvent, Output}};
///
/// let mut now = Duration::ZERO;
/// let mut one = Link::new(now, LinkConfig::default(), 1);
/// let mut other = Link::new(now, LinkConfig::default(), 2);
/// one.handle(now, Input::Message(Channel::Events, "hello".into()))?;
/// while let Some(output) = one.poll() {
///     if let Output::Transmit(lane, bytes) = output {
///         now += Duration::from_millis(20);
///         other.handle(now, Input::Received(lane, bytes))?;
///     }
/// }
/// let heard = std::iter::from_fn(|| other.poll())
///     .any(|output| output == Output::Event(LinkEvent::Message(Channel::Events, "hello".into())));
/// assert!(heard);
/// # Ok::<(), coplay_proto::link::Refused>(())
/// ```
///
/// After each [`handle`](Self::handle), or after all of those of a turn, drain [`poll`](Self::poll), and call again at
/// [`deadline`](Self::deadline) at the latest. Datagrams are packed when `poll` is drained, so that what is handed over
/// in one turn shares them.
#[derive(Debug)]
pub struct Link {
    config: LinkConfig,
    now: Duration,
    stage: Stage,
    /// When something came from the peer.
    heard: Duration,
    unresponsive: bool,
    received: Received,
    sent: Sent,
    pacer: Pacer,
    incoming: Incoming,
    outgoing: Outgoing,
    /// Frames to be sent.
    states: VecDeque<Bytes>,
    /// When something that wants an ack is to be sent, if nothing is until then.
    keep_alive: Duration,
    /// We refuse fragments, and the peer is to be told when to go on.
    refusing: bool,
    /// The peer refuses fragments: when to try again.
    refused: Option<Duration>,
    /// What became of fragments: kept for its memory.
    news: News,
    outputs: VecDeque<Output>,
    /// When figures were reported, and which budget and quality.
    reported: (Duration, u32, Quality),
    bytes_sent: u64,
    bytes_received: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// We say goodbye, and have said it so often.
    Closing {
        said: u32,
        arrived: bool,
        again: Duration,
        until: Duration,
    },
    /// The peer said goodbye, and its messages end there.
    Leaving {
        ends: Ends,
        until: Duration,
    },
    Closed,
}

impl Link {
    /// A link to a peer that can be reached from now on. The seed decides the first sequence number.
    pub fn new(now: Duration, config: LinkConfig, seed: u64) -> Self {
        Self {
            now,
            stage: Stage::Open,
            heard: now,
            unresponsive: false,
            received: Received::default(),
            sent: Sent::new((1 << 16) + Rng::new(seed).below(1 << 16)),
            pacer: Pacer::new(now),
            incoming: Incoming::new(config.receive_queue.max(MAX_MESSAGE)),
            outgoing: Outgoing::new(config.send_queue.max(MAX_MESSAGE)),
            states: VecDeque::new(),
            keep_alive: now,
            refusing: false,
            refused: None,
            news: News::default(),
            outputs: VecDeque::new(),
            reported: (now, FIRST_RATE, Quality::Good),
            bytes_sent: 0,
            bytes_received: 0,
            config,
        }
    }

    /// Takes in what happened. Only [`Input::State`] and [`Input::Message`] can be refused.
    ///
    /// `now` is the same clock for all calls; a time before that of the last call counts as that.
    pub fn handle(&mut self, now: Duration, input: Input) -> Result<(), Refused> {
        self.wake(now);
        let taken = match input {
            Input::Received(lane, bytes) => {
                self.receive(lane, bytes);
                Ok(())
            }
            Input::State(bytes) => self.state(bytes),
            Input::Message(channel, bytes) => self.message(channel, bytes),
            Input::Consumed(bytes) => {
                self.consumed(bytes);
                Ok(())
            }
            Input::Close => {
                self.say_goodbye();
                Ok(())
            }
            Input::Elapsed => Ok(()),
        };
        self.elapse();
        taken
    }

    /// The next thing to do; none if nothing is to be done before the next call of [`Self::handle`].
    pub fn poll(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.pack();
        }
        self.outputs.pop_front()
    }

    /// When [`Self::handle`] is to be called, with [`Input::Elapsed`] if nothing else has happened. Meant to be asked
    /// once [`Self::poll`] is drained. None once the link is closed.
    pub fn deadline(&self) -> Option<Duration> {
        let stage = match self.stage {
            Stage::Open => self.keep_alive,
            Stage::Closing { again, until, .. } => again.min(until),
            Stage::Leaving { until, .. } => until,
            Stage::Closed => return None,
        };
        let grace = self.heard + self.config.grace;
        let silence = if self.unresponsive { grace } else { grace.min(self.heard + self.config.unresponsive) };
        let refused = self.refused.filter(|_| self.outgoing.next_size().is_some());
        let others = [self.received.due(), self.sent.deadline(), refused, self.outgoing.copy_due(), self.pace_due()];
        Some(others.into_iter().flatten().fold(stage.min(silence), Duration::min))
    }

    /// What was measured so far.
    pub fn figures(&self) -> Figures {
        let Sent { round_trip, outcomes, rate, .. } = &self.sent;
        Figures {
            rtt: round_trip.smoothed().unwrap_or_default(),
            jitter: round_trip.deviation(),
            queueing: rate.queueing(),
            loss: outcomes.share(),
            loss_received: self.received.lost(),
            bytes_sent: self.bytes_sent,
            bytes_received: self.bytes_received,
            rate: rate.bytes() as u32,
            budget: self.sent.budget(self.now),
            waiting: u32::try_from(self.outgoing.bytes()).unwrap_or(u32::MAX),
            ..Figures::default()
        }
        .judged(self.unresponsive, self.reported.2)
    }

    /// Bytes of the messages that the peer has not acked yet.
    pub const fn queued(&self) -> usize {
        self.outgoing.bytes()
    }

    /// Whether the link is over. What it said before can still be polled.
    pub const fn is_closed(&self) -> bool {
        matches!(self.stage, Stage::Closed)
    }

    /// What came from outside.
    fn receive(&mut self, lane: Lane, bytes: Bytes) {
        if self.is_closed() {
            return;
        }
        self.bytes_received += bytes.len() as u64;
        match lane {
            Lane::Unreliable => {
                // DTLS has seen to it that the bytes are the peer's, so what is wrong with them is wrong with the peer.
                if let Err(what) = self.datagram(bytes) {
                    self.close(CloseReason::Malformed(what));
                }
            }
            // The reliable lane is that of `bulk`. All that it says here is that the peer is there.
            Lane::Reliable => self.hear(),
        }
    }

    fn datagram(&mut self, bytes: Bytes) -> Result<(), &'static str> {
        let (header, parts) = wire::parse(bytes)?;
        if let Some(ack) = header.ack {
            self.sent.acknowledge(self.now, &ack, &mut self.news)?;
            self.refused = ack.full.then(|| self.refused.unwrap_or(self.now + self.config.keep_alive));
            self.sent.held = ack.full;
            self.settle();
        }
        self.hear();
        let sequence = self.received.expand(header.sequence);
        let arrival = self.received.arrive(self.now, sequence);
        if arrival == Arrival::Old {
            return Ok(());
        }
        let mut accepted = true;
        let mut delay = if arrival == Arrival::Next { KEEP_ALIVE_ACK_DELAY } else { Duration::ZERO };
        for part in parts {
            match part? {
                Part::Goodbye(ends) => {
                    delay = Duration::ZERO;
                    self.take_leave(ends);
                }
                // What is sent once is not acked for its own sake.
                Part::Unreliable(bytes) => {
                    delay = delay.min(STATE_ACK_DELAY);
                    let listens = !matches!(self.stage, Stage::Closing { .. });
                    if listens && self.incoming.admit_unreliable(bytes.len()) {
                        self.event(LinkEvent::Message(Channel::Unreliable, bytes));
                    }
                }
                // Who has said goodbye listens to nothing more.
                _ if matches!(self.stage, Stage::Closing { .. }) => accepted = false,
                Part::State(bytes) => {
                    delay = delay.min(STATE_ACK_DELAY);
                    self.event(LinkEvent::State(bytes));
                }
                Part::Fragment { channel, number, index, count, bytes } => {
                    match self.incoming.admit(channel, number, index, count, bytes)? {
                        Admission::Taken { in_order: true } => delay = delay.min(MESSAGE_ACK_DELAY),
                        Admission::Taken { in_order: false } => delay = Duration::ZERO,
                        Admission::Known => delay = delay.min(COPY_ACK_DELAY),
                        Admission::Refused => {
                            accepted = false;
                            delay = Duration::ZERO;
                        }
                    }
                    self.deliver();
                }
            }
        }
        if accepted {
            self.received.accept(sequence);
        } else {
            self.refusing |= self.incoming.is_full();
        }
        if header.eliciting {
            self.received.owe(self.now, self.now + delay);
            if self.received.is_urgent() {
                self.transmit(None, false);
            }
        }
        self.part();
        Ok(())
    }

    fn hear(&mut self) {
        self.heard = self.now;
        if core::mem::take(&mut self.unresponsive) {
            self.event(LinkEvent::Responsive);
        }
    }

    fn deliver(&mut self) {
        while let Some((channel, bytes)) = self.incoming.deliver() {
            self.event(LinkEvent::Message(channel, bytes));
        }
    }

    fn event(&mut self, event: LinkEvent) {
        self.outputs.push_back(Output::Event(event));
    }

    /// What came from the session.
    fn state(&mut self, bytes: Bytes) -> Result<(), Refused> {
        if bytes.len() > MAX_STATE {
            return Err(Refused::TooLarge { size: bytes.len(), limit: MAX_STATE });
        }
        if !self.is_open() {
            return Err(Refused::Closed);
        }
        if self.states.len() >= MAX_STATES {
            self.pack();
        }
        self.states.push_back(bytes);
        Ok(())
    }

    fn message(&mut self, channel: Channel, bytes: Bytes) -> Result<(), Refused> {
        if self.is_open() { self.outgoing.push(self.now, channel, bytes) } else { Err(Refused::Closed) }
    }

    fn consumed(&mut self, bytes: usize) {
        self.incoming.take(bytes);
        if !self.is_open() {
            return;
        }
        self.deliver();
        if self.refusing && self.incoming.has_room_again() {
            self.refusing = false;
            self.received.owe(self.now, self.now);
        }
        self.part();
    }

    /// Whether neither side has closed, as far as the session knows.
    const fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open | Stage::Leaving { .. })
    }

    /// Time has passed. If nobody called for long, that is no silence of the peer: it was not listened to.
    fn wake(&mut self, now: Duration) {
        if now.saturating_sub(self.now) > OVERSLEPT
            && let Some(late) = self.deadline().and_then(|deadline| now.checked_sub(deadline))
            && late > OVERSLEPT
        {
            self.heard = now.min(self.heard + late);
        }
        self.now = self.now.max(now);
        self.outgoing.expire(self.now);
        self.pacer.refill(self.now, &self.sent.rate);
    }

    fn elapse(&mut self) {
        if self.is_closed() {
            return;
        }
        self.sent.elapse(self.now, &mut self.news);
        self.settle();
        match self.stage {
            Stage::Closing { said, arrived, again, until } => {
                let told = arrived || said >= GOODBYES && again <= self.now;
                if told && self.outgoing.is_empty() || until <= self.now {
                    return self.close(CloseReason::Local);
                }
            }
            Stage::Leaving { until, .. } if until <= self.now => return self.close(CloseReason::Goodbye),
            _ => {}
        }
        if self.heard + self.config.grace <= self.now {
            return self.close(CloseReason::Silent(self.config.grace));
        }
        if self.heard + self.config.unresponsive <= self.now && !self.unresponsive {
            self.unresponsive = true;
            self.event(LinkEvent::Unresponsive);
        }
        self.report();
    }

    /// Tells of figures, if it is time to.
    fn report(&mut self) {
        let (at, told, _) = self.reported;
        let budget = self.sent.budget(self.now);
        let wait = if budget.abs_diff(told) > told / 16 { BUDGET_INTERVAL } else { FIGURES_INTERVAL };
        if at + wait <= self.now {
            let figures = self.figures();
            self.reported = (self.now, figures.budget, figures.quality);
            self.event(LinkEvent::Figures(figures));
        }
    }

    /// Takes in what became of datagrams.
    fn settle(&mut self) {
        self.news.arrived.drain(..).for_each(|fragment| self.outgoing.arrived(fragment));
        self.news.lost.drain(..).for_each(|fragment| self.outgoing.lost(fragment));
        if core::mem::take(&mut self.news.goodbye)
            && let Stage::Closing { arrived, .. } = &mut self.stage
        {
            *arrived = true;
        }
    }

    fn say_goodbye(&mut self) {
        if self.is_open() {
            self.stage = Stage::Closing { said: 0, arrived: false, again: self.now, until: self.now + LINGER };
        }
    }

    /// The peer has said goodbye.
    fn take_leave(&mut self, ends: Ends) {
        match self.stage {
            Stage::Open => self.stage = Stage::Leaving { ends, until: self.now + LINGER },
            // Both have: neither waits for the other.
            Stage::Closing { ref mut until, .. } => *until = self.now,
            Stage::Leaving { .. } | Stage::Closed => {}
        }
    }

    /// Closes once the peer has said goodbye and all that it had sent before is delivered.
    fn part(&mut self) {
        if let Stage::Leaving { ends, .. } = self.stage
            && self.incoming.has_reached(&ends)
        {
            self.close(CloseReason::Goodbye);
        }
    }

    fn close(&mut self, reason: CloseReason) {
        if self.is_closed() {
            return;
        }
        self.stage = Stage::Closed;
        match reason {
            // The peer waits to hear that its goodbye has come.
            CloseReason::Goodbye | CloseReason::Local => {
                if self.received.due().is_some() {
                    self.transmit(None, false);
                }
            }
            // Whatever is wrong there, it need not wait for us.
            CloseReason::Silent(_) | CloseReason::Failed(_) | CloseReason::NoPath(_) | CloseReason::Malformed(_) => {
                self.transmit(None, true);
            }
        }
        self.states.clear();
        self.event(LinkEvent::Closed(reason));
    }

    /// Packs all that may be sent now into datagrams.
    fn pack(&mut self) {
        if self.is_closed() {
            return;
        }
        if self.sent.is_unheard() {
            self.states.clear();
        }
        while let Some(state) = self.states.pop_front() {
            self.transmit(Some(state), self.is_goodbye_due());
        }
        while self.outgoing.next_size().is_some_and(|size| size <= self.fragment_room()) {
            self.transmit(None, self.is_goodbye_due());
        }
        while self.outgoing.has_copy(self.now, self.may_copy()) {
            self.transmit(None, self.is_goodbye_due());
        }
        self.sent.rate.press(self.pace_due().is_some());
        if self.is_goodbye_due() {
            self.transmit(None, true);
        }
        if self.received.due().is_some_and(|due| due <= self.now) || self.is_keep_alive_due(self.now) {
            self.transmit(None, false);
        }
        if self.refused.is_some_and(|again| again <= self.now) {
            self.refused = Some(self.now + self.config.keep_alive);
        }
    }

    /// Sends one datagram with this, what is to be acked, and all fragments that fit.
    fn transmit(&mut self, state: Option<Bytes>, goodbye: bool) {
        let ack = self.received.ack(self.now, self.refusing);
        let mut datagram = Datagram::new(self.sent.next() as u16, ack);
        if let Some(state) = state {
            datagram.state(&state);
        }
        // Where there is no room for it beside a frame, it goes with the next datagram.
        let goodbye = goodbye && datagram.goodbye(&self.outgoing.ends());
        if goodbye {
            self.goodbye_said();
        }
        let redundancy = self.sent.redundancy().filter(|_| self.is_roomy());
        let filled = self.outgoing.fill(self.now, &mut datagram, self.fragment_room(), redundancy);
        let Filled { bytes, fragments, copies } = filled;
        if bytes > 0 && self.refused.is_some() {
            self.refused = Some(self.now + self.config.keep_alive);
        }
        // What goes out anyway saves a keep-alive that is soon due.
        if self.is_keep_alive_due(self.now + self.config.keep_alive / 2) {
            datagram.elicit();
        }
        let eliciting = datagram.is_eliciting();
        if eliciting {
            self.keep_alive = self.now + self.config.keep_alive;
        }
        let datagram = datagram.finish();
        let size = datagram.len();
        self.pacer.sent(bytes, size.saturating_sub(bytes));
        self.sent.push(self.now, Sending { eliciting, goodbye, size, bytes, fragments, copies });
        self.bytes_sent += size as u64;
        self.outputs.push_back(Output::Transmit(Lane::Unreliable, datagram));
    }

    /// How many bytes of fragments may be sent now.
    fn fragment_room(&self) -> usize {
        let room = self.sent.window.room().min(self.pacer.room());
        match self.refused {
            _ if self.is_closed() || self.sent.is_unheard() => 0,
            None => room,
            // One datagram now and then finds out whether the peer takes any again, should its word be lost.
            Some(again) if again <= self.now => room.min(MAX_DATAGRAM),
            Some(_) => 0,
        }
    }

    /// Whether the path has room for what need not be.
    fn is_roomy(&self) -> bool {
        self.refused.is_none() && self.sent.window.is_roomy() && self.fragment_room() >= MAX_DATAGRAM
    }

    /// Whether copies may go by themselves.
    fn may_copy(&self) -> bool {
        self.is_roomy() && self.outgoing.next_size().is_none() && self.sent.redundancy().is_some()
    }

    /// When the rate lets the next fragment go, if it is for that alone that it waits.
    fn pace_due(&self) -> Option<Duration> {
        let size = self.outgoing.next_size()?;
        let waits = !self.is_closed() && self.refused.is_none() && size <= self.sent.window.room();
        (waits && size > self.pacer.room()).then(|| self.pacer.deadline(size, &self.sent.rate))
    }

    fn is_keep_alive_due(&self, at: Duration) -> bool {
        matches!(self.stage, Stage::Open) && self.keep_alive <= at
    }

    fn is_goodbye_due(&self) -> bool {
        matches!(self.stage, Stage::Closing { again, .. } if again <= self.now)
    }

    fn goodbye_said(&mut self) {
        let (least, most) = GOODBYE_INTERVAL;
        let interval = self.sent.round_trip.limit() / 2;
        if let Stage::Closing { said, again, .. } = &mut self.stage {
            *said += 1;
            *again = self.now + interval.clamp(least, most);
        }
    }
}
