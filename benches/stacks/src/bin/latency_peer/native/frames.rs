//! How a game has its round trips: a message is handed over in a frame, and the answer taken in a frame.

use std::{
    sync::mpsc::{Receiver, TryRecvError},
    thread,
    time::{Duration, Instant},
};

use coplay_proto::rng::Rng;

use super::{Order, opened, tell};
use crate::{
    events::{self, Events},
    message,
};

/// Of a game with a display.
pub(super) const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 60);
/// Of one without: what there is to do in a frame, in which the machine is free for others.
pub(super) const UNCAPPED: Duration = Duration::from_micros(100);
/// Who has heard nothing for so long has frames of a display, so that another's turn is not disturbed.
const IDLE: Duration = Duration::from_millis(500);

/// Sends all back, in frames of this length.
pub(super) fn echo(room: &str, length: Duration) -> Result<(), String> {
    let mut events = Events::meet(room);
    let (mut open, mut heard) = (false, Instant::now());
    loop {
        if events::echo(&mut events)? {
            heard = Instant::now();
        }
        if events.is_open() && !open {
            open = true;
            opened();
        }
        thread::sleep(if heard.elapsed() > IDLE { FRAME } else { length });
    }
}

/// Sends what is ordered, in frames of this length, and takes the time.
pub(super) fn ask(room: &str, length: Duration, orders: &Receiver<Order>) -> Result<(), String> {
    let mut events = Events::meet(room);
    let (mut open, mut asking, mut rng, mut number) = (false, None::<Asking>, Rng::new(1), 0);
    loop {
        let mut shift = Duration::ZERO;
        for bytes in events.begin()? {
            if let Some(asking) = &mut asking
                && let Some(sent) = asking.sent.take_if(|_| message::number(&bytes) == Some(number))
            {
                asking.times.push(sent.elapsed());
                // So frames of the two sides are apart by another time in each round trip.
                shift = FRAME.mul_f64(rng.unit());
            }
        }
        if events.is_open() && !open {
            open = true;
            opened();
        }
        if let Some(Asking { order, times, .. }) = asking.take_if(|asking| asking.is_done()) {
            tell(order.number, &times, 0);
        }
        if asking.is_none() {
            asking = match orders.try_recv() {
                Ok(order) => Some(Asking { order, times: Vec::new(), sent: None }),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => return Ok(()),
            };
        }
        // The first frame after an answer is a later one.
        if let Some(asking) = asking.as_mut().filter(|asking| shift.is_zero() && asking.sent.is_none()) {
            number += 1;
            asking.sent = Some(Instant::now());
            events.send(message::write(number, asking.order.bytes))?;
        }
        events.end();
        thread::sleep(shift + if asking.is_some() { length } else { FRAME });
    }
}

struct Asking {
    order: Order,
    times: Vec<Duration>,
    /// When the message was sent that is not answered.
    sent: Option<Instant>,
}

impl Asking {
    const fn is_done(&self) -> bool {
        self.times.len() >= self.order.count as usize
    }
}
