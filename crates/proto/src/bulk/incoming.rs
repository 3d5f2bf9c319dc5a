//! What comes from the peer: offers within limits, chunks in their order, and whether the whole is what was offered.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::{
    BlobId, BulkConfig, Fact, Failure, Kept, MAX_MESSAGE, MIN_CHUNK, Offer, Refusal,
    blob::Hasher,
    machine::{Said, since_progress},
    shelf::Key,
    wire::{End, Message},
};

/// How many ends are remembered: of more blobs than a peer has under way.
const ENDS: usize = 256;
/// What is first set aside for a blob. What an offer says of its size is only believed as far as bytes come.
const FIRST_RESERVED: usize = 64 * 1024;

/// The blobs of the peer.
#[derive(Debug)]
pub(super) struct Incoming {
    config: BulkConfig,
    /// By their number. Each until its end was taken by the game.
    items: BTreeMap<u64, Item>,
    /// The least number that the next offer may have.
    next: u64,
    /// The facts that the game has not taken yet, in their order.
    untaken: VecDeque<Untaken>,
    /// How those ended that ended last: the peer asks if it has not heard of it.
    ends: VecDeque<(u64, End)>,
    /// Since the lane began anew, until the peer has said what there is: of which blobs nothing was said yet. Nothing is
    /// said of them either, for that would cross what the peer says.
    unsure: Option<BTreeSet<u64>>,
}

#[derive(Debug)]
enum Item {
    Offered(Offer),
    Receiving(Receiving),
    Ended,
}

#[derive(Debug)]
struct Receiving {
    key: Key,
    size: u64,
    hasher: Hasher,
    received: u64,
    /// It, unless it comes in chunks.
    bytes: Option<Vec<u8>>,
    /// How much of it does not wait for the game.
    taken: u64,
    /// How far the peer may send.
    limit: u64,
    /// The peer is to be told what is here.
    owed: bool,
    progress: Duration,
}

#[derive(Debug)]
struct Untaken {
    number: u64,
    bytes: u64,
    last: bool,
}

impl Incoming {
    pub(super) fn new(config: BulkConfig) -> Self {
        let config = BulkConfig { receive_window: config.receive_window.max(MAX_MESSAGE), ..config };
        Self { config, items: BTreeMap::new(), next: 0, untaken: VecDeque::new(), ends: VecDeque::new(), unsure: None }
    }

    /// The peer would send a blob.
    pub(super) fn offered(&mut self, offer: Offer, said: &mut Said) -> Result<(), &'static str> {
        let number = offer.number;
        if number < self.next {
            return Err("a blob is offered twice");
        }
        self.next = number.checked_add(1).ok_or("a blob has a number that none has")?;
        let (most, limit) = (self.config.max_incoming, self.config.max_size);
        let refusal = if self.items.len() >= most {
            Refusal::TooMany { limit: most as u64 }
        } else if offer.size > limit {
            Refusal::TooLarge { limit }
        } else {
            self.items.insert(number, Item::Offered(offer.clone()));
            self.fact(Fact::Offered(offer), said);
            return Ok(());
        };
        self.say_end(number, End::Refused(refusal), said);
        Ok(())
    }

    /// The game takes it.
    pub(super) fn accept(&mut self, now: Duration, number: u64, stream: bool, kept: Option<Kept>, said: &mut Said) {
        let Some(Item::Offered(offer)) = self.items.get(&number) else { return };
        let key = Key::from(offer);
        let (size, stream) = (offer.size, stream || offer.size > self.config.max_whole);
        // What was kept of another blob, or in another way, does not help.
        let kept = kept.filter(|kept| kept.key == key && kept.bytes.is_none() == stream);
        let (hasher, received, bytes) = match kept {
            Some(kept) => (kept.hasher, kept.received, kept.bytes),
            None => (Hasher::default(), 0, (!stream).then(Vec::new)),
        };
        let mut receiving =
            Receiving { key, size, hasher, received, bytes, taken: received, limit: 0, owed: false, progress: now };
        receiving.limit = receiving.far(self.config.receive_window);
        if !self.is_unsure(number) {
            said.say(Message::Accept { number, offset: received, limit: receiving.limit });
        }
        said.fact(Fact::Progress { blob: BlobId::In(number), bytes: received, size });
        self.items.insert(number, Item::Receiving(receiving));
        self.finish(number, said);
    }

    /// The game does not take it, or no more of it.
    pub(super) fn cancel(&mut self, number: u64, refusal: Refusal, said: &mut Said) {
        let end = match self.items.get(&number) {
            Some(Item::Offered(_)) => End::Refused(refusal),
            Some(Item::Receiving(_)) => End::Cancelled,
            Some(Item::Ended) | None => return,
        };
        self.say_end(number, end, said);
        self.end(number, Fact::Failed { blob: BlobId::In(number), failure: Failure::Cancelled }, said);
    }

    /// The next bytes of a blob.
    pub(super) fn chunk(
        &mut self,
        now: Duration,
        number: u64,
        chunk: Bytes,
        said: &mut Said,
    ) -> Result<(), &'static str> {
        if number >= self.next {
            return Err("a chunk is of a blob that was not offered");
        }
        let receiving = match self.items.get_mut(&number) {
            Some(Item::Receiving(receiving)) => receiving,
            Some(Item::Offered(_)) => return Err("a chunk is of a blob that was not accepted"),
            // It has not heard yet that this is over.
            Some(Item::Ended) | None => return Ok(()),
        };
        let offset = receiving.received;
        let end = offset + chunk.len() as u64;
        if end > receiving.size {
            return Err("a blob is longer than it was said to be");
        }
        if end > receiving.limit {
            return Err("more of a blob comes than may");
        }
        // Each costs more than its bytes until the game has taken it.
        if chunk.len() < MIN_CHUNK && end < receiving.size {
            return Err("a chunk is smaller than any may be but the last");
        }
        receiving.hasher.take(&chunk);
        (receiving.received, receiving.owed) = (end, true);
        let stream = match &mut receiving.bytes {
            Some(bytes) => {
                let rest = usize::try_from(receiving.size).unwrap_or(usize::MAX) - bytes.len();
                if bytes.capacity() - bytes.len() < chunk.len() {
                    bytes.reserve_exact(bytes.len().max(FIRST_RESERVED).min(rest));
                }
                bytes.extend_from_slice(&chunk);
                receiving.taken = end;
                false
            }
            None => true,
        };
        let (bytes, size) = (end, receiving.size);
        if bytes < size && since_progress(now, &mut receiving.progress) {
            said.fact(Fact::Progress { blob: BlobId::In(number), bytes, size });
        }
        if stream {
            self.fact(Fact::Chunk { number, offset, bytes: chunk }, said);
        }
        self.finish(number, said);
        Ok(())
    }

    /// The peer sends no more of it.
    pub(super) fn withdrawn(&mut self, number: u64, unreadable: bool, said: &mut Said) -> Result<(), &'static str> {
        if number >= self.next {
            return Err("a blob is withdrawn that was not offered");
        }
        if let Some(Item::Offered(_) | Item::Receiving(_)) = self.items.get(&number) {
            let failure = match unreadable {
                true => Failure::Unreadable("the peer does not say why".into()),
                false => Failure::CancelledByPeer,
            };
            self.end(number, Fact::Failed { blob: BlobId::In(number), failure }, said);
        }
        Ok(())
    }

    /// The game has taken so many facts.
    pub(super) fn taken(&mut self, facts: usize) {
        for Untaken { number, bytes, last } in self.untaken.drain(..facts.min(self.untaken.len())) {
            if last {
                self.items.remove(&number);
            } else if let Some(Item::Receiving(receiving)) = self.items.get_mut(&number) {
                receiving.taken += bytes;
                let far = receiving.far(self.config.receive_window);
                // Not for each little bit.
                let more = far.saturating_sub(receiving.limit);
                receiving.owed |= more >= self.config.receive_window as u64 / 4 || more > 0 && far == receiving.size;
            }
        }
    }

    /// What the peer is to be told of what is here.
    pub(super) fn report(&mut self) -> Option<Message> {
        let window = self.config.receive_window;
        let unsure = self.unsure.as_ref();
        let sure = |number: &u64| unsure.is_none_or(|unsure| !unsure.contains(number));
        self.items.iter_mut().filter(|(number, _)| sure(number)).find_map(|(&number, item)| {
            let Item::Receiving(receiving) = item else { return None };
            core::mem::take(&mut receiving.owed).then(|| {
                receiving.limit = receiving.far(window).max(receiving.limit);
                Message::Report { number, received: receiving.received, limit: receiving.limit }
            })
        })
    }

    /// What was said is lost, and what was heard may not be all.
    pub(super) fn anew(&mut self) {
        let open = self.items.iter().filter(|(_, item)| !matches!(item, Item::Ended)).map(|(&number, _)| number);
        self.unsure = Some(open.collect());
    }

    /// The peer says that there is still this one, which it offered before.
    pub(super) fn offered_again(&mut self, offer: Offer, said: &mut Said) -> Result<(), &'static str> {
        let number = offer.number;
        // It may be that here, nothing of the link had come before.
        if number >= self.next {
            return self.offered(offer, said);
        }
        let Some(unsure) = &mut self.unsure else { return Err("a blob is offered again though nothing was lost") };
        unsure.remove(&number);
        let window = self.config.receive_window;
        match self.items.get_mut(&number) {
            Some(Item::Offered(known)) if *known == offer => {}
            Some(Item::Receiving(receiving)) if receiving.key == Key::from(&offer) => {
                receiving.limit = receiving.far(window).max(receiving.limit);
                receiving.owed = false;
                let (offset, limit) = (receiving.received, receiving.limit);
                said.say(Message::Accept { number, offset, limit });
            }
            Some(Item::Offered(_) | Item::Receiving(_)) => return Err("a blob is offered again as another"),
            Some(Item::Ended) | None => {
                let known = self.ends.iter().find(|(of, _)| *of == number).map(|(_, end)| *end);
                said.say(Message::End { number, end: known.unwrap_or(End::Cancelled) });
            }
        }
        Ok(())
    }

    /// The peer has said again what there is below this number.
    pub(super) fn rest(&mut self, number: u64, said: &mut Said) {
        let unsure = self.unsure.take().into_iter().flatten();
        for gone in unsure.filter(|gone| *gone < number) {
            // It may have ended here meanwhile.
            if let Some(Item::Offered(_) | Item::Receiving(_)) = self.items.get(&gone) {
                self.end(gone, Fact::Failed { blob: BlobId::In(gone), failure: Failure::CancelledByPeer }, said);
            }
        }
    }

    fn is_unsure(&self, number: u64) -> bool {
        self.unsure.as_ref().is_some_and(|unsure| unsure.contains(&number))
    }

    fn say_end(&mut self, number: u64, end: End, said: &mut Said) {
        if self.ends.len() >= ENDS {
            self.ends.pop_front();
        }
        self.ends.push_back((number, end));
        said.say(Message::End { number, end });
    }

    /// The link is over.
    pub(super) fn close(&mut self, said: &mut Said) {
        let numbers: Vec<u64> = self.items.keys().copied().collect();
        for number in numbers {
            let Some(item) = self.items.insert(number, Item::Ended) else { continue };
            if let Item::Receiving(Receiving { key, hasher, received, bytes, taken, .. }) = item {
                if received > 0 {
                    said.keep(Kept { key, hasher, received, bytes, waits: taken < received });
                }
            } else if let Item::Ended = item {
                continue;
            }
            self.fact(Fact::Failed { blob: BlobId::In(number), failure: Failure::Disconnected }, said);
        }
    }

    /// Sees whether a blob is what it was said to be, once all of it is here.
    fn finish(&mut self, number: u64, said: &mut Said) {
        let Some(Item::Receiving(receiving)) = self.items.get_mut(&number) else { return };
        if receiving.received < receiving.size {
            return;
        }
        let right = core::mem::take(&mut receiving.hasher).finish() == receiving.key.digest();
        let bytes = receiving.bytes.take().map(Bytes::from);
        let (end, fact) = match right {
            true => (End::Received, Fact::Received { number, bytes }),
            false => (End::Damaged, Fact::Failed { blob: BlobId::In(number), failure: Failure::Damaged }),
        };
        self.say_end(number, end, said);
        self.end(number, fact, said);
    }

    fn end(&mut self, number: u64, last: Fact, said: &mut Said) {
        self.items.insert(number, Item::Ended);
        self.fact(last, said);
    }

    /// Tells the game, which is to take it.
    fn fact(&mut self, fact: Fact, said: &mut Said) {
        if let BlobId::In(number) = fact.blob() {
            let bytes = match &fact {
                Fact::Chunk { bytes, .. } => bytes.len() as u64,
                _ => 0,
            };
            self.untaken.push_back(Untaken { number, bytes, last: fact.is_last() });
        }
        said.fact(fact);
    }
}

impl Receiving {
    /// How far the peer may send.
    fn far(&self, window: usize) -> u64 {
        self.size.min(self.taken.saturating_add(window as u64))
    }
}
