//! What of a peer's blobs goes between the game, their machine and the socket?

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use coplay_proto::{
    Lane, PeerId,
    bulk::{Blob, BlobId, Bulk, BulkConfig, Fact, Failure, Input, Offer, Output, Refusal, Shelf, ShelfConfig},
};

use super::links::Pressure;
use crate::{Path, PathKind, SendError, Socket};

/// How much waits in the socket before it is given more: what a fast path takes between two turns. What is under way is
/// bounded by the machine's window; this is for what a socket has that does not get rid of anything.
const BUFFERED: usize = 256 * 1024;
/// The most messages that a peer is sent in one turn, so that none keeps the others waiting.
const TURN: usize = 32;
/// How soon a socket is asked again that took no more.
const RETRY: Duration = Duration::from_millis(5);
/// How many bytes of blobs a second go by a relay of the signaling server: it takes 128 KiB a second of each peer in all,
/// and that is for play.
const RELAYED: u32 = 16 * 1024;

/// What the game wants with a blob.
#[derive(Debug)]
pub(super) enum BlobCommand {
    Send(u64, Blob),
    Accept { number: u64, stream: bool },
    Refuse(u64, Refusal),
    Cancel(BlobId),
}

impl BlobCommand {
    /// What the game is told if the link is over by now.
    pub(super) fn unsent(self) -> Option<Fact> {
        match self {
            Self::Send(number, _) => Some(Fact::Failed { blob: BlobId::Out(number), failure: Failure::Disconnected }),
            _ => None,
        }
    }
}

/// The beginnings of blobs whose link broke: see [`Shelf`]. Its clones are the same shelf.
#[derive(Clone, Debug, Default)]
pub struct BlobShelf(Arc<Mutex<Shelf>>);

impl BlobShelf {
    /// An empty one with these limits.
    pub fn new(config: ShelfConfig) -> Self {
        Self(Arc::new(Mutex::new(Shelf::new(config))))
    }

    /// Does something with it. Nobody does so for long.
    fn with<T>(&self, work: impl FnOnce(&mut Shelf) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The blobs of one peer.
pub(super) struct Blobs {
    bulk: Bulk,
    shelf: BlobShelf,
    /// What is larger comes in chunks.
    max_whole: u64,
    /// The offers that the game has not answered: as many as the machine lets through.
    offers: Vec<Offer>,
    /// What the socket did not take.
    unsent: Option<Bytes>,
    /// When it is tried again.
    retry: Option<Duration>,
}

impl Blobs {
    pub(super) fn new(now: Duration, config: BulkConfig, shelf: BlobShelf) -> Self {
        let max_whole = config.max_whole;
        Self { bulk: Bulk::new(now, config), shelf, max_whole, offers: Vec::new(), unsent: None, retry: None }
    }

    pub(super) fn command(&mut self, now: Duration, command: BlobCommand) {
        let input = match command {
            BlobCommand::Send(number, blob) => Input::Send(number, blob),
            BlobCommand::Accept { number, stream } => {
                let Some(offer) = self.answered(number) else { return };
                let stream = stream || offer.size > self.max_whole;
                let kept = self.shelf.with(|shelf| shelf.take(now, &offer, stream));
                Input::Accept { number, stream, kept }
            }
            BlobCommand::Refuse(number, refusal) => {
                self.answered(number);
                Input::Refuse(number, refusal)
            }
            BlobCommand::Cancel(blob) => {
                if let BlobId::In(number) = blob {
                    self.answered(number);
                }
                Input::Cancel(blob)
            }
        };
        self.bulk.handle(now, input);
    }

    fn answered(&mut self, number: u64) -> Option<Offer> {
        let at = self.offers.iter().position(|offer| offer.number == number)?;
        Some(self.offers.swap_remove(at))
    }

    /// The reliable lane begins anew, and what was on its way is lost.
    pub(super) fn anew(&mut self, now: Duration) {
        self.unsent = None;
        self.bulk.handle(now, Input::Anew);
    }

    /// Takes what came on the reliable lane. The error is what is wrong with it.
    pub(super) fn received(&mut self, now: Duration, bytes: Bytes) -> Result<(), &'static str> {
        self.bulk.handle(now, Input::Received(bytes));
        self.bulk.malformed().map_or(Ok(()), Err)
    }

    pub(super) fn taken(&mut self, now: Duration, facts: usize) {
        self.bulk.handle(now, Input::Taken(facts));
    }

    pub(super) fn elapse(&mut self, now: Duration) {
        if self.bulk.deadline().is_some_and(|deadline| deadline <= now) {
            self.bulk.handle(now, Input::Elapsed);
        }
    }

    /// The peer is reached by this path, and was by that one.
    pub(super) fn reached(&mut self, now: Duration, before: Option<&Path>, path: &Path) {
        let way = |path: &Path| (path.kind, path.local.clone(), path.remote.clone());
        if before.map(way) != Some(way(path)) {
            self.bulk.handle(now, Input::Path((path.kind == PathKind::WebSocket).then_some(RELAYED)));
        }
    }

    /// Sends what is to be sent, as far as the socket takes it. Returns whether there may be more.
    pub(super) fn transmit(&mut self, now: Duration, peer: PeerId, socket: &mut dyn Socket) -> bool {
        self.retry = None;
        for _ in 0..TURN {
            if socket.buffered(peer) > BUFFERED {
                self.retry = Some(now + RETRY);
                return false;
            }
            let Some(bytes) = self.unsent.take().or_else(|| self.bulk.transmit(now)) else { return false };
            match socket.send(peer, Lane::Reliable, bytes.clone()) {
                Ok(()) => {}
                Err(SendError::Full) => {
                    self.unsent = Some(bytes);
                    self.retry = Some(now + RETRY);
                    return false;
                }
                // The socket is about to say that the connection is over.
                Err(SendError::UnknownPeer | SendError::TooLarge { .. }) => return false,
            }
        }
        true
    }

    pub(super) fn poll(&mut self) -> Option<Fact> {
        loop {
            match self.bulk.poll()? {
                Output::Fact(fact) => {
                    match &fact {
                        Fact::Offered(offer) => self.offers.push(offer.clone()),
                        Fact::Failed { blob: BlobId::In(number), .. } => _ = self.answered(*number),
                        _ => {}
                    }
                    return Some(fact);
                }
                Output::Keep(_) => {}
            }
        }
    }

    /// The link is over: how the blobs end. What is here of them is kept; but not if the game has not heard all of it, and does
    /// not listen any more.
    pub(super) fn close(&mut self, now: Duration, listens: bool) -> Vec<Fact> {
        self.bulk.handle(now, Input::Closed);
        let mut facts = Vec::new();
        while let Some(output) = self.bulk.poll() {
            match output {
                Output::Fact(fact) => facts.push(fact),
                Output::Keep(kept) if listens || !kept.waits() => self.shelf.with(|shelf| shelf.put(now, kept)),
                Output::Keep(_) => {}
            }
        }
        facts
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.bulk.deadline().into_iter().chain(self.retry).min()
    }
}

impl Pressure {
    /// The game is told this.
    pub(super) fn told(&self, fact: &Fact) {
        if fact.is_to_be_taken() {
            self.facts_taken.fetch_add(1, Ordering::Relaxed);
        } else if fact.is_last() {
            // One that came too late for its link is told of after that, and not counted for the next.
            let less = |blobs: usize| Some(blobs.saturating_sub(1));
            let _ = self.blobs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
