//! What a machine does with what happens: the turn from inputs to messages and facts.

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    BlobId, BulkConfig, Fact, Failure, Input, Kept, Output, Refusal, incoming::Incoming, outgoing::Outgoing,
    wire::Message,
};

/// How often the progress of a blob is told at the most.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// The most answers that wait to be sent. One who asks for more without listening is no coplay peer.
const MAX_ANSWERS: usize = 1024;

/// The blobs of one peer, in both directions: see [`super`].
///
/// After each [`handle`](Self::handle), or after all of those of a turn, drain [`poll`](Self::poll), and then
/// [`transmit`](Self::transmit) as far as the socket has room; call again at [`deadline`](Self::deadline) at the latest. What
/// is transmitted must arrive once and in order, or not at all: then [`Input::Anew`] is due on both sides, or
/// [`Input::Closed`] if the link is over.
#[derive(Debug)]
pub struct Bulk {
    now: Duration,
    incoming: Incoming,
    outgoing: Outgoing,
    said: Said,
    closed: bool,
    malformed: Option<&'static str>,
}

/// What is to be sent and told.
#[derive(Debug, Default)]
pub(super) struct Said {
    messages: VecDeque<Message>,
    outputs: VecDeque<Output>,
}

impl Said {
    pub(super) fn say(&mut self, message: Message) {
        self.messages.push_back(message);
    }

    pub(super) fn fact(&mut self, fact: Fact) {
        self.outputs.push_back(Output::Fact(fact));
    }

    pub(super) fn failed(&mut self, blob: BlobId, failure: Failure) {
        self.fact(Fact::Failed { blob, failure });
    }

    pub(super) fn keep(&mut self, kept: Kept) {
        self.outputs.push_back(Output::Keep(kept));
    }
}

/// Whether progress is to be told again.
pub(super) fn since_progress(now: Duration, last: &mut Duration) -> bool {
    let due = *last + PROGRESS_INTERVAL <= now;
    if due {
        *last = now;
    }
    due
}

impl Bulk {
    /// A machine for a peer that can be reached from now on.
    pub fn new(now: Duration, config: BulkConfig) -> Self {
        Self {
            now,
            outgoing: Outgoing::new(now, &config),
            incoming: Incoming::new(config),
            said: Said::default(),
            closed: false,
            malformed: None,
        }
    }

    /// Takes in what happened.
    ///
    /// `now` is the same clock for all calls; a time before that of the last call counts as that.
    pub fn handle(&mut self, now: Duration, input: Input) {
        self.now = self.now.max(now);
        let (now, said) = (self.now, &mut self.said);
        if self.closed {
            if let Input::Send(number, _) = input {
                said.failed(BlobId::Out(number), Failure::Disconnected);
            }
            return;
        }
        match input {
            Input::Received(bytes) => {
                if let Err(what) = self.receive(bytes) {
                    self.malformed = Some(what);
                    self.close();
                }
            }
            Input::Send(number, blob) => self.outgoing.send(now, number, blob, said),
            Input::Accept { number, stream, kept } => self.incoming.accept(now, number, stream, kept, said),
            Input::Refuse(number, refusal) => self.incoming.cancel(number, refusal, said),
            Input::Cancel(BlobId::In(number)) => self.incoming.cancel(number, Refusal::Unwanted, said),
            Input::Cancel(BlobId::Out(number)) => self.outgoing.cancel(now, number, said),
            Input::Taken(facts) => self.incoming.taken(facts),
            Input::Path(pace) => self.outgoing.window.renew(now, pace),
            Input::Anew => {
                said.messages.clear();
                self.outgoing.anew(now, said);
                self.incoming.anew();
            }
            Input::Closed => self.close(),
            Input::Elapsed => self.outgoing.advance(now, said),
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.said.outputs.pop_front()
    }

    /// The next message to be sent on the reliable lane, at most [`super::MAX_MESSAGE`] bytes: call it only while that has room, and
    /// drain [`Self::poll`] afterwards. None if there is none for now.
    pub fn transmit(&mut self, now: Duration) -> Option<Bytes> {
        self.now = self.now.max(now);
        if self.closed {
            return None;
        }
        if let Some(message) = self.said.messages.pop_front().or_else(|| self.incoming.report()) {
            return Some(message.write());
        }
        let chunk = self.outgoing.chunk(self.now, &mut self.said).or_else(|| self.said.messages.pop_front())?;
        Some(chunk.write())
    }

    /// What the peer sent that no coplay peer sends, if it did. The link is to be closed then; the machine is.
    pub const fn malformed(&self) -> Option<&'static str> {
        self.malformed
    }

    /// When [`Self::handle`] is to be called, with [`Input::Elapsed`] if nothing else has happened, and
    /// [`Self::transmit`] after it. None if that is only when something happens.
    pub fn deadline(&self) -> Option<Duration> {
        if self.closed {
            return None;
        }
        let hashing = self.outgoing.is_hashing().then_some(self.now);
        let paced = self.outgoing.window.deadline().filter(|_| self.outgoing.wants_to_send());
        hashing.into_iter().chain(paced).min()
    }

    /// How many bytes of blobs are under way to the peer.
    pub const fn under_way(&self) -> usize {
        self.outgoing.window.under_way()
    }

    fn receive(&mut self, bytes: Bytes) -> Result<(), &'static str> {
        if bytes.len() > super::MAX_MESSAGE {
            return Err("a message about blobs is longer than any may be");
        }
        let (now, said) = (self.now, &mut self.said);
        match Message::read(bytes)? {
            Message::Offer(offer) => self.incoming.offered(offer, said),
            Message::Chunk { number, bytes } => self.incoming.chunk(now, number, bytes, said),
            Message::Withdraw { number, unreadable } => self.incoming.withdrawn(number, unreadable, said),
            Message::Again(offer) => self.incoming.offered_again(offer, said),
            Message::Rest { number } => {
                self.incoming.rest(number, said);
                Ok(())
            }
            Message::Accept { number, offset, limit } => self.outgoing.accepted(now, number, offset, limit, said),
            Message::Report { number, received, limit } => self.outgoing.reported(now, number, received, limit, said),
            Message::End { number, end } => self.outgoing.ended(now, number, end, said),
        }?;
        if self.said.messages.len() > MAX_ANSWERS {
            return Err("more is asked for than is listened to");
        }
        Ok(())
    }

    fn close(&mut self) {
        self.closed = true;
        self.said.messages.clear();
        self.outgoing.close(&mut self.said);
        self.incoming.close(&mut self.said);
    }
}
