//! What goes to the peer: the line, the offers, and chunks of several blobs in turn.

use core::time::Duration;
use std::collections::VecDeque;

use super::{
    Blob, BlobId, BulkConfig, Digest, Fact, Failure, MAX_MESSAGE, MIN_CHUNK, Offer, Refusal, Unsendable,
    blob::Hasher,
    machine::{Said, since_progress},
    window::Window,
    wire::{CHUNK_HEADER, End, Message},
};

/// How many bytes are read for a digest before something else has its turn.
const HASHED_AT_ONCE: usize = 256 * 1024;

/// The blobs of this side.
#[derive(Debug)]
pub(super) struct Outgoing {
    line: VecDeque<(u64, Blob)>,
    /// Offered, or under way.
    live: Vec<Item>,
    /// Of `live`, whose turn it is.
    turn: usize,
    /// The number of the next offer on the wire.
    next: u64,
    pub(super) window: Window,
    /// How many may be live, here and, as far as it has said so, there.
    most: usize,
    queue: usize,
}

#[derive(Debug)]
struct Item {
    /// The game's number.
    number: u64,
    /// That of the offer.
    wire: u64,
    blob: Blob,
    size: u64,
    stage: Stage,
    progress: Duration,
}

#[derive(Debug)]
enum Stage {
    /// So much of it is read for its digest.
    Hashing(Hasher, u64),
    Offered,
    /// Offered again, since the lane began anew: the peer knows how far it is.
    Again,
    Sending {
        sent: u64,
        arrived: u64,
        limit: u64,
    },
}

impl Outgoing {
    pub(super) fn new(now: Duration, config: &BulkConfig) -> Self {
        Self {
            line: VecDeque::new(),
            live: Vec::new(),
            turn: 0,
            next: 0,
            window: Window::new(now, config.window),
            most: config.outgoing.max(1),
            queue: config.queue,
        }
    }

    /// Sends a blob when it is its turn.
    pub(super) fn send(&mut self, now: Duration, number: u64, blob: Blob, said: &mut Said) {
        let refused = if self.line.len() + self.live.len() >= self.queue {
            Err(Unsendable::QueueFull { limit: self.queue })
        } else {
            blob.check()
        };
        match refused {
            Ok(()) => self.line.push_back((number, blob)),
            Err(why) => said.failed(BlobId::Out(number), why.into()),
        }
        self.advance(now, said);
    }

    /// Has the next in line offered, and reads on for digests.
    pub(super) fn advance(&mut self, now: Duration, said: &mut Said) {
        while self.live.len() < self.most
            && let Some((number, blob)) = self.line.pop_front()
        {
            let stage = Stage::Hashing(Hasher::default(), 0);
            let size = blob.size();
            let mut item = Item { number, wire: 0, blob, size, stage, progress: now };
            if let Some(digest) = item.blob.digest {
                item.offer(&mut self.next, digest, said);
            }
            self.live.push(item);
        }
        self.hash(said);
    }

    /// Reads a part of what is to be offered.
    fn hash(&mut self, said: &mut Said) {
        let Some(at) = self.live.iter().position(Item::is_hashing) else { return };
        let Some(item) = self.live.get_mut(at) else { return };
        match item.hash() {
            Ok(None) => {}
            Ok(Some(digest)) => item.offer(&mut self.next, digest, said),
            Err(why) => {
                let number = item.number;
                self.remove(at);
                said.failed(BlobId::Out(number), Failure::Unreadable(why));
            }
        }
    }

    /// Whether something is read for a digest, which takes as much time as there is.
    pub(super) fn is_hashing(&self) -> bool {
        self.live.iter().any(Item::is_hashing)
    }

    /// The next chunk, if there is room for one.
    pub(super) fn chunk(&mut self, now: Duration, said: &mut Said) -> Option<Message> {
        for _ in 0..self.live.len() {
            let at = self.turn % self.live.len().max(1);
            let Some(item) = self.live.get_mut(at) else { break };
            let left = item.left();
            let (Stage::Sending { sent, .. }, true) = (&mut item.stage, left > 0) else {
                self.turn += 1;
                continue;
            };
            let most = self.window.room(now, MAX_MESSAGE - CHUNK_HEADER)?;
            match item.blob.content.read(*sent, most.min(left)) {
                Ok(bytes) => {
                    *sent += bytes.len() as u64;
                    self.window.sent(now, item.wire, *sent, bytes.len());
                    self.turn += 1;
                    return Some(Message::Chunk { number: item.wire, bytes });
                }
                Err(why) => {
                    let (number, wire) = (item.number, item.wire);
                    self.end(now, at);
                    said.say(Message::Withdraw { number: wire, unreadable: true });
                    said.failed(BlobId::Out(number), Failure::Unreadable(why));
                }
            }
        }
        None
    }

    /// Whether a chunk waits for time to pass, and for nothing else.
    pub(super) fn wants_to_send(&self) -> bool {
        self.live.iter().any(|item| item.left() > 0)
    }

    /// The peer takes a blob.
    pub(super) fn accepted(
        &mut self,
        now: Duration,
        wire: u64,
        offset: u64,
        limit: u64,
        said: &mut Said,
    ) -> Result<(), &'static str> {
        let Some(item) = self.live_item(wire, "a blob is accepted that was not offered")? else { return Ok(()) };
        if !matches!(item.stage, Stage::Offered | Stage::Again) {
            return Err("a blob is accepted twice");
        }
        if offset > item.size || limit < offset {
            return Err("a blob is accepted beyond its end");
        }
        item.stage = Stage::Sending { sent: offset, arrived: offset, limit };
        item.progress = now;
        said.fact(Fact::Progress { blob: BlobId::Out(item.number), bytes: offset, size: item.size });
        Ok(())
    }

    /// So much of it has arrived.
    pub(super) fn reported(
        &mut self,
        now: Duration,
        wire: u64,
        received: u64,
        up_to: u64,
        said: &mut Said,
    ) -> Result<(), &'static str> {
        let Some(item) = self.live_item(wire, "a blob has arrived that was not offered")? else { return Ok(()) };
        let Stage::Sending { sent, arrived, limit } = &mut item.stage else {
            return Err("a blob has arrived that was not accepted");
        };
        if received > *sent || received < *arrived {
            return Err("more or less of a blob has arrived than was sent");
        }
        *arrived = received;
        *limit = up_to.max(*limit);
        if since_progress(now, &mut item.progress) {
            said.fact(Fact::Progress { blob: BlobId::Out(item.number), bytes: received, size: item.size });
        }
        self.window.arrived(now, wire, received);
        Ok(())
    }

    /// The peer wants no more of it.
    pub(super) fn ended(&mut self, now: Duration, wire: u64, end: End, said: &mut Said) -> Result<(), &'static str> {
        let before = self.live.len();
        let Some(item) = self.live_item(wire, "a blob ends that was not offered")? else { return Ok(()) };
        let blob = BlobId::Out(item.number);
        match (end, &item.stage) {
            (End::Refused(Refusal::TooMany { limit }), Stage::Offered | Stage::Again) if limit > 0 && before > 1 => {
                // It has room for fewer than are offered: then it is offered again, later.
                return self.stand_back(now, wire, limit, said);
            }
            (_, Stage::Again) => {}
            (End::Received | End::Damaged, Stage::Sending { sent, .. }) if *sent == item.size => {}
            (End::Received | End::Damaged, _) => return Err("a blob is said to have come before it was sent"),
            (End::Refused(_), Stage::Offered) | (End::Cancelled, _) => {}
            (End::Refused(_), _) => return Err("a blob is refused that was accepted"),
        }
        match end {
            End::Received => said.fact(Fact::Sent { number: item.number }),
            End::Damaged => said.failed(blob, Failure::Damaged),
            End::Cancelled => said.failed(blob, Failure::CancelledByPeer),
            End::Refused(refusal) => said.failed(blob, refusal.into()),
        }
        self.end_wire(now, wire);
        self.advance(now, said);
        Ok(())
    }

    fn stand_back(&mut self, now: Duration, wire: u64, limit: u64, said: &mut Said) -> Result<(), &'static str> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.most = self.most.min(limit).min(self.live.len() - 1).max(1);
        let Some(at) = self.live.iter().position(|item| item.wire == wire && !item.is_hashing()) else { return Ok(()) };
        let item = self.end(now, at);
        self.line.push_front((item.number, item.blob));
        self.advance(now, said);
        Ok(())
    }

    /// The game wants no more of it sent.
    pub(super) fn cancel(&mut self, now: Duration, number: u64, said: &mut Said) {
        if let Some(at) = self.line.iter().position(|(of, _)| *of == number) {
            self.line.remove(at);
        } else if let Some(at) = self.live.iter().position(|item| item.number == number) {
            let hashing = self.live.get(at).is_some_and(Item::is_hashing);
            let item = self.end(now, at);
            if !hashing {
                said.say(Message::Withdraw { number: item.wire, unreadable: false });
            }
        } else {
            return;
        }
        said.failed(BlobId::Out(number), Failure::Cancelled);
        self.advance(now, said);
    }

    /// What was said is lost, and what was heard may not be all: everything is offered again.
    pub(super) fn anew(&mut self, now: Duration, said: &mut Said) {
        for item in self.live.iter_mut().filter(|item| !item.is_hashing()) {
            self.window.forget(now, item.wire);
            item.stage = Stage::Again;
            if let Some(offer) = item.offered() {
                said.say(Message::Again(offer));
            }
        }
        said.say(Message::Rest { number: self.next });
    }

    /// The link is over.
    pub(super) fn close(&mut self, said: &mut Said) {
        let numbers = self.live.drain(..).map(|item| item.number).chain(self.line.drain(..).map(|(number, _)| number));
        for number in numbers.collect::<Vec<_>>() {
            said.failed(BlobId::Out(number), Failure::Disconnected);
        }
    }

    /// The blob with this number on the wire; none if it has ended here.
    fn live_item(&mut self, wire: u64, never: &'static str) -> Result<Option<&mut Item>, &'static str> {
        if wire >= self.next {
            return Err(never);
        }
        Ok(self.live.iter_mut().find(|item| item.wire == wire && !item.is_hashing()))
    }

    fn end_wire(&mut self, now: Duration, wire: u64) {
        if let Some(at) = self.live.iter().position(|item| item.wire == wire && !item.is_hashing()) {
            self.end(now, at);
        }
    }

    fn end(&mut self, now: Duration, at: usize) -> Item {
        let item = self.remove(at);
        if !item.is_hashing() {
            self.window.forget(now, item.wire);
        }
        item
    }

    fn remove(&mut self, at: usize) -> Item {
        // Those behind it keep their turn.
        if self.turn % self.live.len().max(1) > at {
            self.turn = (self.turn % self.live.len()) - 1;
        }
        self.live.remove(at)
    }
}

impl Item {
    const fn is_hashing(&self) -> bool {
        matches!(self.stage, Stage::Hashing(..))
    }

    /// How many bytes may be sent now.
    fn left(&self) -> usize {
        let Stage::Sending { sent, limit, .. } = self.stage else { return 0 };
        let left = limit.min(self.size).saturating_sub(sent);
        // What the limit leaves may be too small for a chunk: there is soon room for more.
        let enough = left >= MIN_CHUNK as u64 || sent + left == self.size;
        if enough { usize::try_from(left).unwrap_or(usize::MAX) } else { 0 }
    }

    /// Reads a part; returns the digest once all of it was read.
    fn hash(&mut self) -> Result<Option<Digest>, String> {
        let Stage::Hashing(hasher, read) = &mut self.stage else { return Ok(None) };
        let mut left = HASHED_AT_ONCE;
        while *read < self.size && left > 0 {
            let bytes = self.blob.content.read(*read, left)?;
            hasher.take(&bytes);
            *read += bytes.len() as u64;
            left -= bytes.len();
        }
        Ok((*read >= self.size).then(|| core::mem::take(hasher).finish()))
    }

    fn offer(&mut self, next: &mut u64, digest: Digest, said: &mut Said) {
        (self.wire, self.stage) = (*next, Stage::Offered);
        *next += 1;
        // It is not read again, if it has to be offered once more.
        self.blob.digest = Some(digest);
        if let Some(offer) = self.offered() {
            said.say(Message::Offer(offer));
        }
    }

    /// What was said of it to the peer, once its digest is known.
    fn offered(&self) -> Option<Offer> {
        let Blob { name, metadata, digest, .. } = self.blob.clone();
        Some(Offer { number: self.wire, name, size: self.size, digest: digest?, metadata })
    }
}
