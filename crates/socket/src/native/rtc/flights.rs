//! Which records of a DTLS handshake are handed on? Those of a whole flight, in order, each once.
//!
//! `rtc-dtls` 0.21 stops its timer at the first record of a flight, so that with the rest lost, or one that comes twice, both
//! sides wait for each other (one of six handshakes where 5 % are lost); it keeps what it cannot read yet without bound, and
//! puts fragments together by recursion. So it gets none of that to see: what comes is put together here (RFC 6347, sections
//! 4.2.2 to 4.2.4), within bounds, and handed on when there is all of what it waits for. What comes again says that our last
//! flight was lost.

use std::collections::BTreeMap;

/// Content types of records.
pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;

/// Handshake messages that end a flight.
const CLIENT_HELLO: u8 = 1;
const HELLO_VERIFY_REQUEST: u8 = 3;
const SERVER_HELLO_DONE: u8 = 14;
const CERTIFICATE_VERIFY: u8 = 15;

/// Bytes of the header of a record, and of a handshake message within.
const RECORD: usize = 13;
const MESSAGE: usize = 12;
/// The longest handshake message: a certificate, or the greeting of a browser that knows many algorithms.
const MAX_MESSAGE: usize = 12 * 1024;
/// How many messages ahead of the next one are kept.
const MAX_AHEAD: u16 = 8;
/// The most pieces of one message.
const MAX_PIECES: usize = 32;
/// The most encrypted records that are kept until they can be read, and of those with handshake messages the most that are handed
/// on at all: there is one, which may come again.
const MAX_EARLY: usize = 8;
const MAX_ENCRYPTED: usize = 12;

/// What to do about a datagram that came.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Hand these on, as datagrams.
    pub(super) datagrams: Vec<Vec<u8>>,
    /// The peer repeats what was answered already: our last flight is lost, and to be sent again.
    pub(super) repeats: bool,
}

/// The handshake as it comes in.
pub(super) struct Flights {
    client: bool,
    /// Of the message that is to be handed on next.
    next: u16,
    pieces: BTreeMap<u16, Pieces>,
    /// That the peer encrypts from here on.
    cipher: bool,
    /// Encrypted handshake records, in the order of arrival.
    finished: Vec<Vec<u8>>,
    /// How many there were.
    encrypted: usize,
    /// Other encrypted records that came too early.
    early: Vec<Vec<u8>>,
    /// The first greeting, which is answered again if it comes again.
    greeting: Option<Vec<u8>>,
    /// The numbers of the records handed on.
    records: u64,
    /// Client: the server has said all that it says in the clear.
    answered: bool,
    /// The last flight was handed on.
    last: bool,
    done: bool,
}

/// What is there of a handshake message.
struct Pieces {
    kind: u8,
    bytes: Vec<u8>,
    /// By their beginning, where they end.
    there: BTreeMap<usize, usize>,
}

/// One record of a datagram, with its header.
pub(super) struct Record<'a> {
    pub(super) content: u8,
    pub(super) epoch: u16,
    pub(super) bytes: &'a [u8],
}

/// The records of a datagram, up to one that cannot be read.
pub(super) fn records(datagram: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let header = rest.first_chunk::<RECORD>()?;
        let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
        let (bytes, after) = rest.split_at_checked(RECORD + length)?;
        rest = after;
        Some(Record { content: header[0], epoch: u16::from_be_bytes([header[3], header[4]]), bytes })
    })
}

impl Flights {
    pub(super) fn new(client: bool) -> Self {
        Self {
            client,
            next: 0,
            pieces: BTreeMap::new(),
            cipher: false,
            finished: Vec::new(),
            encrypted: 0,
            early: Vec::new(),
            greeting: None,
            records: 0,
            answered: false,
            last: false,
            done: false,
        }
    }

    /// Takes in a datagram while the handshake goes on, or a handshake record after it.
    pub(super) fn take(&mut self, datagram: &[u8]) -> Verdict {
        let mut verdict = Verdict::default();
        for record in records(datagram) {
            match (record.content, record.epoch) {
                (HANDSHAKE, 0) => self.message(&record.bytes[RECORD..], &mut verdict),
                (CHANGE_CIPHER_SPEC, 0) => self.cipher = true,
                // In the clear until there are keys: the peer says why it gives up.
                (ALERT, 0) if !self.done => verdict.datagrams.push(record.bytes.to_vec()),
                (HANDSHAKE, 1..) if self.encrypted >= MAX_ENCRYPTED || (self.done && self.client) => {}
                (HANDSHAKE, _) if self.done || self.last => {
                    self.encrypted += 1;
                    // It repeats its last flight, so it lacks ours; the machine knows what to do. Or what came for it first
                    // was not authentic.
                    verdict.datagrams.push(record.bytes.to_vec());
                    return verdict;
                }
                (HANDSHAKE, _) => {
                    self.encrypted += 1;
                    keep(&mut self.finished, record.bytes);
                }
                (_, 0) => {}
                _ if self.done => {}
                _ => {
                    // The peer is done and this side is not: the flight between the two was lost.
                    verdict.repeats |= self.client;
                    keep(&mut self.early, record.bytes);
                }
            }
        }
        if !self.done
            && let Some(datagram) = self.flight()
        {
            verdict.datagrams.push(datagram);
            verdict.repeats = false;
        }
        verdict
    }

    /// The handshake is done: what came too early can be read now.
    pub(super) fn finish(&mut self) -> Vec<Vec<u8>> {
        self.done = true;
        self.pieces.clear();
        self.finished.clear();
        self.greeting = None;
        std::mem::take(&mut self.early)
    }

    /// Takes in the content of a record: messages, or pieces of them.
    fn message(&mut self, mut content: &[u8], verdict: &mut Verdict) {
        if self.done {
            return;
        }
        while let Some(header) = content.first_chunk::<MESSAGE>() {
            let u24 = |at: usize| {
                usize::from(header[at]) << 16 | usize::from(header[at + 1]) << 8 | usize::from(header[at + 2])
            };
            let (length, number) = (u24(1), u16::from_be_bytes([header[4], header[5]]));
            let (offset, size) = (u24(6), u24(9));
            let Some((piece, rest)) = content[MESSAGE..].split_at_checked(size) else { return };
            content = rest;
            if number < self.next {
                verdict.repeats = true;
                if number == 0 && !self.client && self.next == 1 {
                    // Our request to say it again with a cookie was lost: it is made anew from the greeting.
                    let greeting = self.greeting.clone();
                    verdict.datagrams = greeting.map(|greeting| self.record(&greeting)).into_iter().collect();
                }
                continue;
            }
            let fits = length <= MAX_MESSAGE && offset + size <= length && number - self.next < MAX_AHEAD;
            if !fits {
                continue;
            }
            let pieces = self.pieces.entry(number).or_insert_with(|| Pieces::new(header[0], length));
            pieces.add(header[0], length, offset, piece);
        }
    }

    /// All of what is waited for, if it is there.
    fn flight(&mut self) -> Option<Vec<u8>> {
        let mut last = self.next;
        let mut encrypted = false;
        loop {
            let pieces = self.pieces.get(&last);
            match pieces.filter(|pieces| pieces.is_whole()).map(|pieces| pieces.kind) {
                Some(HELLO_VERIFY_REQUEST | SERVER_HELLO_DONE) if self.client => break,
                Some(CLIENT_HELLO) if !self.client => break,
                Some(CERTIFICATE_VERIFY) if !self.client => {
                    encrypted = true;
                    break;
                }
                Some(_) => last += 1,
                // Of the last flight to a client, all is encrypted.
                None if self.client && last == self.next && self.answered => {
                    encrypted = true;
                    break;
                }
                None => return None,
            }
        }
        if encrypted && (self.last || !self.cipher || self.finished.is_empty()) {
            return None;
        }
        let mut datagram = Vec::new();
        while self.next <= last
            && let Some(pieces) = self.pieces.remove(&self.next)
        {
            self.answered |= pieces.kind == SERVER_HELLO_DONE;
            let message = pieces.message(self.next);
            datagram.extend(self.record(&message));
            if self.next == 0 && !self.client {
                self.greeting = Some(message);
            }
            self.next += 1;
        }
        if encrypted {
            self.last = true;
            datagram.extend(self.wrap(CHANGE_CIPHER_SPEC, &[1]));
            // All of them: one that somebody else put there is not authentic, and passed over.
            for finished in self.finished.drain(..) {
                datagram.extend(finished);
            }
        }
        Some(datagram)
    }

    fn record(&mut self, message: &[u8]) -> Vec<u8> {
        self.wrap(HANDSHAKE, message)
    }

    /// A record in the clear. They are numbered anew, so that none counts as seen.
    fn wrap(&mut self, content: u8, bytes: &[u8]) -> Vec<u8> {
        let mut record = vec![content, 0xfe, 0xfd, 0, 0];
        record.extend(&self.records.to_be_bytes()[2..]);
        self.records += 1;
        record.extend(u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
        record.extend(bytes);
        record
    }
}

impl Pieces {
    fn new(kind: u8, length: usize) -> Self {
        Self { kind, bytes: vec![0; length], there: BTreeMap::new() }
    }

    fn add(&mut self, kind: u8, length: usize, offset: usize, piece: &[u8]) {
        let same = self.kind == kind && self.bytes.len() == length;
        if !same || self.there.len() >= MAX_PIECES {
            return;
        }
        if let Some(place) = self.bytes.get_mut(offset..offset + piece.len()) {
            place.copy_from_slice(piece);
            let end = self.there.entry(offset).or_default();
            *end = (*end).max(offset + piece.len());
        }
    }

    fn is_whole(&self) -> bool {
        let mut end = 0;
        for (&from, &to) in &self.there {
            if from > end {
                return false;
            }
            end = end.max(to);
        }
        end == self.bytes.len() && !self.there.is_empty()
    }

    /// As one piece.
    fn message(&self, number: u16) -> Vec<u8> {
        let length = self.bytes.len().to_be_bytes();
        let length = &length[length.len() - 3..];
        let mut message = vec![self.kind];
        message.extend(length);
        message.extend(number.to_be_bytes());
        message.extend([0; 3]);
        message.extend(length);
        message.extend(&self.bytes);
        message
    }
}

fn keep(records: &mut Vec<Vec<u8>>, record: &[u8]) {
    if records.len() < MAX_EARLY {
        records.push(record.to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record in the clear, with a piece of a message.
    fn piece(kind: u8, number: u16, length: usize, offset: usize, bytes: &[u8]) -> Vec<u8> {
        let u24 = |number: usize| (number as u32).to_be_bytes()[1..].to_vec();
        let mut message = vec![kind];
        message.extend(u24(length));
        message.extend(number.to_be_bytes());
        message.extend(u24(offset));
        message.extend(u24(bytes.len()));
        message.extend(bytes);
        record(HANDSHAKE, 0, &message)
    }

    fn whole(kind: u8, number: u16, bytes: &[u8]) -> Vec<u8> {
        piece(kind, number, bytes.len(), 0, bytes)
    }

    fn record(content: u8, epoch: u16, bytes: &[u8]) -> Vec<u8> {
        let mut record = vec![content, 0xfe, 0xfd];
        record.extend(epoch.to_be_bytes());
        record.extend([0; 6]);
        record.extend((bytes.len() as u16).to_be_bytes());
        record.extend(bytes);
        record
    }

    /// What is handed on: the kind of each message, or of another record.
    fn kinds(verdict: &Verdict) -> Vec<u8> {
        let all = verdict.datagrams.iter().flat_map(|datagram| records(datagram));
        all.map(|record| match (record.content, record.epoch) {
            (HANDSHAKE, 0) => record.bytes[RECORD],
            (content, _) => content + 100,
        })
        .collect()
    }

    const SERVER_HELLO: u8 = 2;
    const CERTIFICATE: u8 = 11;
    const CLIENT_KEY: u8 = 16;

    #[test]
    fn a_flight_is_handed_on_when_all_of_it_is_there_in_whatever_order_it_came() {
        let mut flights = Flights::new(true);
        assert_eq!(kinds(&flights.take(&whole(HELLO_VERIFY_REQUEST, 0, b"cookie"))), [HELLO_VERIFY_REQUEST]);
        let datagrams = [
            whole(SERVER_HELLO_DONE, 3, b""),
            piece(CERTIFICATE, 2, 6, 3, b"def"),
            whole(SERVER_HELLO, 1, b"hello"),
            piece(CERTIFICATE, 2, 6, 2, b"cde"),
        ];
        for datagram in &datagrams {
            assert_eq!(flights.take(datagram), Verdict::default());
        }
        let verdict = flights.take(&piece(CERTIFICATE, 2, 6, 0, b"ab"));
        assert_eq!(kinds(&verdict), [SERVER_HELLO, CERTIFICATE, SERVER_HELLO_DONE]);
        assert!(verdict.datagrams[0].windows(6).any(|window| window == b"abcdef"));
        let again = flights.take(&datagrams[2]);
        assert!(again.repeats && again.datagrams.is_empty(), "our answer to it was lost");
    }

    #[test]
    fn a_server_waits_for_the_certificate_and_for_what_is_encrypted() {
        let mut flights = Flights::new(false);
        assert_eq!(kinds(&flights.take(&whole(CLIENT_HELLO, 0, b"hello"))), [CLIENT_HELLO]);
        let again = flights.take(&whole(CLIENT_HELLO, 0, b"hello"));
        assert_eq!(kinds(&again), [CLIENT_HELLO], "the request for a cookie was lost, and has no timer");
        assert_eq!(kinds(&flights.take(&whole(CLIENT_HELLO, 1, b"cookie"))), [CLIENT_HELLO]);
        let again = flights.take(&whole(CLIENT_HELLO, 1, b"cookie"));
        assert!(again.repeats && again.datagrams.is_empty());
        let mut last = record(CHANGE_CIPHER_SPEC, 0, &[1]);
        last.extend(record(HANDSHAKE, 1, b"finished"));
        assert_eq!(flights.take(&last), Verdict::default());
        assert_eq!(flights.take(&whole(CERTIFICATE, 2, b"certificate")), Verdict::default());
        assert_eq!(flights.take(&whole(CERTIFICATE_VERIFY, 4, b"signed")), Verdict::default());
        let verdict = flights.take(&whole(CLIENT_KEY, 3, b"key"));
        let all = [CERTIFICATE, CLIENT_KEY, CERTIFICATE_VERIFY, CHANGE_CIPHER_SPEC + 100, HANDSHAKE + 100];
        assert_eq!(kinds(&verdict), all);
        flights.finish();
        for _ in 1..MAX_ENCRYPTED {
            assert_eq!(kinds(&flights.take(&last)), [HANDSHAKE + 100], "our last flight was lost");
        }
        assert_eq!(flights.take(&last), Verdict::default(), "nobody loses so many");
        assert_eq!(flights.take(&whole(CLIENT_KEY, 3, b"key")), Verdict::default());
    }

    #[test]
    fn what_comes_before_it_can_be_read_is_kept_and_says_that_something_was_lost() {
        let mut flights = Flights::new(true);
        for number in 0..20 {
            let verdict = flights.take(&record(APPLICATION_DATA, 1, &[number]));
            assert!(verdict.repeats && verdict.datagrams.is_empty());
        }
        let early = flights.finish();
        assert_eq!(early.len(), MAX_EARLY);
        assert_eq!(early[0].last(), Some(&0));
    }

    #[test]
    fn nothing_that_is_claimed_makes_it_keep_more_than_its_bounds() {
        let mut flights = Flights::new(false);
        for number in 0..=u16::MAX {
            flights.take(&piece(CERTIFICATE, number, 0xff_ffff, 0, b"x"));
            flights.take(&piece(CERTIFICATE, number, MAX_MESSAGE, usize::from(number), b"x"));
            flights.take(&piece(CERTIFICATE, 3, MAX_MESSAGE, usize::from(number) * 2, b"x"));
        }
        assert!(flights.pieces.len() <= usize::from(MAX_AHEAD));
        assert!(flights.pieces.values().all(|pieces| pieces.there.len() <= MAX_PIECES));
        for length in 0..30 {
            for first in 0..=u8::MAX {
                flights.take(&vec![first; length]);
                flights.take(&piece(first, 0, 1, 0, b"x")[..12.min(length)]);
            }
        }
    }
}
