//! How does the page's socket connect with a peer by `matchbox_socket`?
//!
//! In the browser matchbox never closes a connection, bounds nothing, and panics on signals that the browser will not have,
//! which would be the end of the whole page's program. So the connection that it makes is held here as well ([`made`]): to
//! be closed, and to see what waits in it; and what the peer signals is tried on another one first ([`rehearsal`]).

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use coplay_proto::{
    Lane,
    signal::{IceServer, Signal},
};
use wasm_bindgen_futures::spawn_local;
use web_sys::{RtcDataChannelState, RtcPeerConnectionState};

use self::{
    made::Made,
    rehearsal::{Rehearsal, usable},
};
use super::{
    inbox::{Happening, Inbox},
    lanes::{Enters, MAX_BUFFERED_RELIABLE, MAX_BUFFERED_UNRELIABLE, Waiting},
    page,
    path::Pair,
    peer::LINGER,
};
use crate::{
    Path, SendError,
    matchbox::{Link, News},
    switchboard::{Attempt, Input},
};

mod made;
mod rehearsal;

/// One attempt to connect with a peer, and the connection that comes of it.
pub(super) struct Peer {
    pub(super) attempt: Attempt,
    pub(super) pair: Option<Pair>,
    running: Rc<Running>,
    rehearsal: Rehearsal,
    /// What came ahead of its turn: see [`Self::hold`].
    held: Vec<(Lane, Bytes)>,
    bytes_sent: u64,
    bytes_received: u64,
}

/// What the task has that polls the link.
struct Running {
    link: RefCell<Link>,
    made: RefCell<Option<Made>>,
    open: Cell<bool>,
    /// Nothing that comes of it is told any more.
    closed: Cell<bool>,
    waiting: Waiting,
}

impl Peer {
    /// Makes the connection; and its offer, if that is ours to make.
    pub(super) fn start(
        inbox: &Rc<Inbox>,
        attempt: Attempt,
        ice_servers: &[IceServer],
        offer: bool,
    ) -> Result<Self, String> {
        let rehearsal = Rehearsal::new().map_err(|thrown| page::why(&thrown))?;
        let running = Rc::new(Running {
            link: RefCell::new(Link::open(attempt.peer, &usable(ice_servers), offer)),
            made: RefCell::default(),
            open: Cell::new(false),
            closed: Cell::new(false),
            waiting: Waiting::default(),
        });
        run(inbox, attempt, &running);
        Ok(Self { attempt, pair: None, running, rehearsal, held: Vec::new(), bytes_sent: 0, bytes_received: 0 })
    }

    /// Hands the peer's description to matchbox, if the browser takes it.
    pub(super) fn apply(&self, inbox: &Rc<Inbox>, signal: &Signal) {
        let (attempt, inbox) = (self.attempt, Rc::downgrade(inbox));
        let (running, description) = (Rc::downgrade(&self.running), signal.clone());
        let fits = move || {
            if let Some(running) = running.upgrade() {
                running.link.borrow().tell(description);
            }
        };
        self.rehearsal.describe(signal, fits, move |why| {
            if let Some(inbox) = inbox.upgrade() {
                inbox.push(Happening::Switchboard(Input::Refused(attempt, why)));
            }
        });
    }

    /// The same with a candidate. One that cannot be used is passed over.
    pub(super) fn add(&self, candidate: &str) {
        let (running, json) = (Rc::downgrade(&self.running), candidate.to_owned());
        self.rehearsal.candidate(self.attempt.peer, candidate, move || {
            if let Some(running) = running.upgrade() {
                running.link.borrow().tell(Signal::IceCandidate(json));
            }
        });
    }

    /// Whether both channels are open.
    pub(super) fn is_open(&self) -> bool {
        self.running.open.get()
    }

    pub(super) fn send(&mut self, lane: Lane, bytes: &Bytes) -> Result<(), SendError> {
        let made = self.running.made.borrow();
        let channel = made.as_ref().and_then(|made| made.channel(lane)).ok_or(SendError::UnknownPeer)?;
        if channel.ready_state() != RtcDataChannelState::Open {
            return Err(SendError::UnknownPeer);
        }
        let most = match lane {
            Lane::Unreliable => MAX_BUFFERED_UNRELIABLE,
            Lane::Reliable => MAX_BUFFERED_RELIABLE,
        };
        let mut link = self.running.link.borrow_mut();
        if channel.buffered_amount() as usize + link.handed() + bytes.len() > most {
            return Err(SendError::Full);
        }
        link.send(lane, bytes.clone());
        self.bytes_sent += bytes.len() as u64;
        Ok(())
    }

    /// Counts a datagram that was taken out of the inbox.
    pub(super) fn received(&mut self, bytes: &[u8]) {
        self.running.waiting.leaves(bytes.len());
        self.bytes_received += bytes.len() as u64;
    }

    /// Keeps a datagram until what was said before by the relay has come. It counts as waiting, which bounds it.
    pub(super) fn hold(&mut self, lane: Lane, bytes: Bytes) {
        self.held.push((lane, bytes));
    }

    /// What was held.
    pub(super) fn early(&mut self) -> Vec<(Lane, Bytes)> {
        let held = std::mem::take(&mut self.held);
        for (_, bytes) in &held {
            self.received(bytes);
        }
        held
    }

    pub(super) fn traffic(&self) -> (u64, u64) {
        (self.bytes_sent, self.bytes_received)
    }

    /// Counts on from where the relay was.
    pub(super) fn go_on_from(&mut self, sent: u64, received: u64) {
        self.bytes_sent += sent;
        self.bytes_received += received;
    }

    pub(super) fn path(&self) -> Option<Path> {
        Some(self.pair.as_ref()?.path(self.bytes_sent, self.bytes_received))
    }

    /// Asks the browser for the path; [`Happening::Pair`] follows. matchbox does not notice when a connection is lost: that
    /// is looked for here as well.
    pub(super) fn measure(&self, inbox: &Rc<Inbox>) {
        let made = self.running.made.borrow();
        let Some(made) = made.as_ref() else { return };
        let (attempt, told) = (self.attempt, Rc::downgrade(inbox));
        let lost = made.connection.connection_state() == RtcPeerConnectionState::Failed;
        page::settled(
            &made.connection.get_stats(),
            move |report| {
                let Some(inbox) = told.upgrade() else { return };
                if lost {
                    let why = "no pair of addresses works any more".into();
                    inbox.push(Happening::Switchboard(Input::Failed(attempt, why)));
                } else if let Some(pair) = Pair::of(&report) {
                    inbox.push(Happening::Pair(attempt, pair));
                }
            },
            |_| {},
        );
    }

    /// Closes the connection: nothing comes from it any more, and what was sent still goes out.
    pub(super) fn close(self) {
        self.running.closed.set(true);
        // What was handed over goes to the browser now. What still came is void.
        let mut nobody = Context::from_waker(Waker::noop());
        while let Poll::Ready(news) = self.running.poll(&mut nobody) {
            if matches!(news, News::Closed | News::Failed(_)) {
                break;
            }
        }
        if let Some(made) = self.running.made.borrow().as_ref() {
            made.end();
        }
        page::later(LINGER, move || drop(self));
    }
}

impl Running {
    /// Polls the link; until there is a connection, with an eye on whether it makes one.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<News> {
        let mut link = self.link.borrow_mut();
        if self.made.borrow().is_some() {
            return link.poll(cx);
        }
        let (news, made) = made::during(|| link.poll(cx));
        *self.made.borrow_mut() = made;
        news
    }

    /// What the page's socket is told.
    fn happening(&self, attempt: Attempt, news: News) -> Option<Happening> {
        let input = match news {
            News::Signal(_) if self.made.borrow().is_none() => {
                Input::Failed(attempt, "this page does not let see the connection that matchbox makes".into())
            }
            News::Signal(Signal::IceCandidate(json)) => Input::LocalCandidate(attempt, json),
            News::Signal(description) => Input::LocalDescription(attempt, description),
            News::Open => {
                self.open.set(true);
                return Some(Happening::LaneOpen(attempt));
            }
            News::Received(lane, bytes) => return self.received(attempt, lane, bytes),
            News::Closed => Input::Closed(attempt),
            News::Failed(why) => Input::Failed(attempt, why),
        };
        Some(Happening::Switchboard(input))
    }

    /// As with our own channels.
    fn received(&self, attempt: Attempt, lane: Lane, bytes: Bytes) -> Option<Happening> {
        match self.waiting.enters(lane, bytes.len()) {
            Enters::Yes => Some(Happening::Received(attempt, lane, bytes)),
            Enters::Lost => None,
            Enters::Overrun(why) => Some(Happening::Switchboard(Input::Overrun(attempt, why))),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Before matchbox forgets what it waits for: a closed connection tells it nothing, and it would panic.
        if let Some(made) = self.made.get_mut() {
            made.close();
        }
    }
}

/// Polls the link whenever matchbox has something to do, until the peer is dropped.
fn run(inbox: &Rc<Inbox>, attempt: Attempt, running: &Rc<Running>) {
    let (inbox, running) = (Rc::downgrade(inbox), Rc::downgrade(running));
    spawn_local(poll_fn(move |cx| {
        loop {
            let Some((inbox, running)) = inbox.upgrade().zip(running.upgrade()) else { return Poll::Ready(()) };
            if running.closed.get() {
                return Poll::Ready(());
            }
            let Poll::Ready(news) = running.poll(cx) else { return Poll::Pending };
            let happening = running.happening(attempt, news);
            // Whoever is told may close this peer.
            drop(running);
            if let Some(happening) = happening {
                inbox.push(happening);
            }
        }
    }));
}
