//! What does a game do in a frame? It takes what came, and hands over what is due.

use bytes::Bytes;
use coplay_bench_stacks::program::time_of_day;
use coplay_proto::rng::Rng;
use serde::Deserialize;
use serde_json::json;

use crate::{message::Message, say, tally::Tally};

/// What state that is sent beside the messages begins with, so that it is no message. When it was sent follows, in ms since
/// 1970.
const STATE: u8 = 0xff;
const STATE_TIME: std::ops::Range<usize> = 1..9;

/// Of bulk, the most bytes of one message: what every WebRTC implementation passes on in one piece.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) const CHUNK: usize = 16 * 1024;

/// Whether something is bulk, where that has no channel of its own: it is larger than all else.
pub(crate) const fn is_bulk(bytes: &[u8]) -> bool {
    bytes.len() > 4 * 1024
}

/// One connection to one peer, as a game sees it.
pub(crate) trait Connection {
    /// A frame begins: whether the peer can be reached, or why it never will again.
    fn begin(&mut self) -> Result<bool, String>;
    /// The next that came.
    fn receive(&mut self) -> Option<Bytes>;
    /// Hands something over.
    fn send(&mut self, bytes: Bytes, way: Way);
    /// A frame ends: what was handed over goes out.
    fn end(&mut self) {}
    /// Sends so many bytes, [`CHUNK`] by [`CHUNK`], beside all else: where the stack can. Side A does, which is no page.
    #[cfg(not(target_arch = "wasm32"))]
    fn bulk(&mut self, bytes: u64) {
        let _ = bytes;
    }
    /// Bytes of such that came so far.
    fn bulk_came(&self) -> u64 {
        0
    }
}

/// How something goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Way {
    /// Exactly once and in order: what is measured.
    #[default]
    Reliably,
    /// Once, and it may be lost, where the stack has such: as state, or to know what one send costs.
    Once,
}

/// What every connection is to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Order {
    /// What this is counted under. Each phase has a number of its own.
    pub(crate) phase: u16,
    /// How many messages.
    pub(crate) count: u32,
    /// How many frames apart.
    pub(crate) every: u32,
    pub(crate) way: Way,
}

/// What side A is told. A page, which is side B, is told by the connection alone.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Told {
    /// An order, and who is to follow it: side A itself, or side B.
    Send {
        #[serde(flatten)]
        order: Order,
        by_a: bool,
    },
    /// Side A is to send so many bytes.
    Bulk { bulk: u64 },
}

/// A connection, and what is done with it.
pub(crate) struct Game {
    connection: Box<dyn Connection>,
    rng: Rng,
    state: usize,
    is_open: bool,
    over: bool,
    sending: Option<Sending>,
    /// What is to be told to the peer as soon as it can be reached.
    telling: Option<Order>,
    /// What the peer's next message is numbered, and in which phase.
    expected: (u16, u32),
    /// When the newest state of the peer was sent.
    newest: Option<f64>,
    /// How much bulk had come when that was last told.
    bulk: u64,
}

struct Sending {
    order: Order,
    /// The number of the next.
    next: u32,
    /// In how many frames that is due.
    wait: u32,
}

impl Game {
    pub(crate) fn new(connection: Box<dyn Connection>, state: usize, seed: u64) -> Self {
        Self {
            connection,
            rng: Rng::new(seed),
            state,
            is_open: false,
            over: false,
            sending: None,
            telling: None,
            expected: (0, 0),
            newest: None,
            bulk: 0,
        }
    }

    /// Follows an order from now on, or has the peer follow it.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn obey(&mut self, told: Told) {
        match told {
            Told::Send { order, by_a: true } => self.start(order),
            Told::Send { order, by_a: false } => self.telling = Some(order),
            Told::Bulk { bulk } => {
                say(&json!({ "event": "bulk_begun", "at": time_of_day() }));
                self.connection.bulk(bulk);
            }
        }
    }

    /// Whether the peer can be reached.
    pub(crate) const fn is_open(&self) -> bool {
        self.is_open && !self.over
    }

    /// What is done in one frame.
    pub(crate) fn frame(&mut self, tally: &mut Tally) {
        if self.over {
            return;
        }
        match self.connection.begin() {
            Ok(open) => self.is_open = open,
            Err(reason) => {
                self.over = true;
                return say(&json!({ "event": "closed", "reason": reason }));
            }
        }
        while let Some(bytes) = self.connection.receive() {
            match Message::read(&bytes) {
                Some(Message::Data { phase, number, sent }) => {
                    tally.took(phase, time_of_day() - sent);
                    self.expect(phase, number, tally);
                }
                Some(Message::Order(order)) => self.start(order),
                None => self.newest = newer(self.newest, &bytes),
            }
        }
        let bulk = self.connection.bulk_came();
        if bulk != std::mem::replace(&mut self.bulk, bulk) {
            say(&json!({ "event": "bulk", "at": time_of_day(), "bytes": bulk }));
        }
        if let Some(sent) = self.newest {
            tally.age(time_of_day() - sent);
        }
        if self.is_open {
            self.send(tally);
        }
        self.connection.end();
    }

    fn start(&mut self, order: Order) {
        // Connections do not send in step.
        let wait = self.rng.below(u64::from(order.every)) as u32;
        self.sending = Some(Sending { order, next: 0, wait });
    }

    fn send(&mut self, tally: &mut Tally) {
        if let Some(order) = self.telling.take() {
            self.connection.send(Message::Order(order).write(), Way::Reliably);
        }
        if let Some(sending) = &mut self.sending {
            if sending.wait == 0 {
                let (phase, number) = (sending.order.phase, sending.next);
                let message = Message::Data { phase, number, sent: time_of_day() };
                self.connection.send(message.write(), sending.order.way);
                tally.sent(phase);
                sending.next += 1;
                sending.wait = sending.order.every;
            }
            sending.wait -= 1;
            if sending.next >= sending.order.count {
                self.sending = None;
            }
        }
        if self.state > 0 {
            let mut state = vec![STATE; self.state];
            if let Some(time) = state.get_mut(STATE_TIME) {
                time.copy_from_slice(&time_of_day().to_le_bytes());
            }
            self.connection.send(state.into(), Way::Once);
        }
    }

    /// Whether it is the one that is next.
    fn expect(&mut self, phase: u16, number: u32, tally: &mut Tally) {
        let expected = if self.expected.0 == phase { self.expected.1 } else { 0 };
        if number < expected {
            tally.twice(phase);
        } else {
            if number > expected {
                tally.skipped(phase, number - expected);
            }
            self.expected = (phase, number + 1);
        }
    }
}

/// When the newer of two states was sent: of the one that is known, and of what came.
fn newer(known: Option<f64>, came: &[u8]) -> Option<f64> {
    let time = came.get(STATE_TIME).filter(|_| came.first() == Some(&STATE));
    let sent = time.and_then(|time| time.try_into().ok()).map(f64::from_le_bytes);
    known.into_iter().chain(sent).reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::VecDeque, rc::Rc};

    use super::*;

    /// What was sent, each with its way.
    type Queue = Rc<RefCell<VecDeque<(Bytes, Way)>>>;

    struct Pipe {
        to: Queue,
        from: Queue,
    }

    impl Connection for Pipe {
        fn begin(&mut self) -> Result<bool, String> {
            Ok(true)
        }

        fn receive(&mut self) -> Option<Bytes> {
            self.from.borrow_mut().pop_front().map(|(bytes, _)| bytes)
        }

        fn send(&mut self, bytes: Bytes, way: Way) {
            self.to.borrow_mut().push_back((bytes, way));
        }
    }

    fn pair(state: usize) -> ([Game; 2], [Queue; 2]) {
        let queues = [Queue::default(), Queue::default()];
        let [one, other] = queues.clone();
        let pipe = |to: &Queue, from: &Queue| Box::new(Pipe { to: to.clone(), from: from.clone() });
        ([Game::new(pipe(&one, &other), state, 1), Game::new(pipe(&other, &one), state, 2)], queues)
    }

    #[test]
    fn each_side_sends_when_told_and_the_other_takes_it() {
        for by_a in [true, false] {
            let ([mut a, mut b], _) = pair(0);
            let (mut of_a, mut of_b) = (Tally::default(), Tally::default());
            a.obey(Told::Send { order: Order { phase: 3, count: 10, every: 12, way: Way::Reliably }, by_a });
            for _ in 0..140 {
                a.frame(&mut of_a);
                b.frame(&mut of_b);
            }
            let [mut sender, mut taker] = if by_a { [of_a, of_b] } else { [of_b, of_a] };
            assert_eq!((sender.phase(3).sent, sender.phase(3).times.len()), (10, 0));
            assert_eq!((taker.phase(3).sent, taker.phase(3).times.len()), (0, 10));
            assert_eq!((taker.phase(3).twice, taker.phase(3).skipped), (0, 0));
        }
    }

    #[test]
    fn orders_are_understood() {
        let send = serde_json::from_str(r#"{"phase":3,"count":10,"every":12,"way":"once","by_a":true}"#);
        let order = Order { phase: 3, count: 10, every: 12, way: Way::Once };
        assert_eq!(send.ok(), Some(Told::Send { order, by_a: true }));
        assert_eq!(serde_json::from_str(r#"{"bulk":64}"#).ok(), Some(Told::Bulk { bulk: 64 }));
    }

    #[test]
    fn messages_are_as_many_frames_apart_as_said() {
        let ([mut a, _], [sent, _]) = pair(0);
        let mut tally = Tally::default();
        a.obey(Told::Send { order: Order { phase: 1, count: 100, every: 3, way: Way::Reliably }, by_a: true });
        let frames: Vec<_> = (0..400)
            .filter(|_| {
                a.frame(&mut tally);
                sent.borrow_mut().pop_front().is_some()
            })
            .collect();
        assert_eq!(frames.len(), 100);
        assert!(frames.iter().zip(frames.iter().skip(1)).all(|(one, next)| next - one == 3));
    }

    #[test]
    fn what_comes_twice_or_not_is_told() {
        let ([mut a, _], [_, coming]) = pair(0);
        let mut tally = Tally::default();
        for number in [0, 1, 1, 4, 2, 5] {
            let message = Message::Data { phase: 1, number, sent: 0.0 };
            coming.borrow_mut().push_back((message.write(), Way::Reliably));
        }
        a.frame(&mut tally);
        assert_eq!((tally.phase(1).twice, tally.phase(1).skipped), (2, 2));
    }

    #[test]
    fn state_goes_once_each_frame_and_is_no_message() {
        let ([mut a, mut b], [sent, _]) = pair(500);
        let mut tally = Tally::new(true);
        a.frame(&mut tally);
        let sizes: Vec<_> = sent.borrow().iter().map(|(bytes, way)| (bytes.len(), *way)).collect();
        assert_eq!(sizes, [(500, Way::Once)]);
        b.frame(&mut tally);
        assert!(tally.is_empty());
        // It was sent just now, and nothing newer came.
        assert_eq!(tally.ages().len(), 1);
        b.frame(&mut tally);
        assert!(matches!(tally.ages(), [first, second] if first <= second && *second < 60_000.0));
        assert_eq!(newer(Some(5.0), &[STATE]), Some(5.0));
        assert_eq!(newer(None, &[0; 64]), None);
    }
}
