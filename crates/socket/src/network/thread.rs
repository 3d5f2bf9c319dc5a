//! How do links run by themselves on native? On a thread that sleeps until bytes arrive, the game commands, or time is up.

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::Thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};

use super::{
    NetworkEvent,
    links::{Command, Links, Outward},
};
use crate::{SocketError, clock};

/// The most commands that wait for the thread. Frames beyond are lost; messages wait on this side until there is room: how
/// many for a peer, its send queue says, and whether that is full has nothing to do with what others are sent.
const COMMANDS: usize = 4096;
/// What there is room for besides, so that a frame never keeps out the command to disconnect.
const DISCONNECTS: usize = 256;
/// The most events that wait for the game; others wait with the links.
const EVENTS: usize = 4096;
/// The thread does not sleep shorter than that.
const SHORTEST_SLEEP: Duration = Duration::from_micros(500);
/// How long goodbyes may take, once the game dropped its end.
const CLOSING: Duration = Duration::from_secs(1);

/// The game's end of the thread. The thread says goodbye and ends when this is dropped.
pub(super) struct Running {
    ends: Option<Ends>,
    /// Commands that there was no room for, in their order.
    held: VecDeque<Command>,
    thread: Option<Thread>,
    /// Closed when the thread ends.
    ended: Receiver<()>,
    /// The thread has events that there was no room for.
    stalled: Arc<AtomicBool>,
    /// Something was handed over that the thread was not woken for.
    handed: bool,
}

struct Ends {
    commands: Sender<Command>,
    events: Receiver<Outward>,
}

impl Running {
    pub(super) fn start(mut links: Links) -> Self {
        let (commands, taken) = crossbeam_channel::bounded(COMMANDS + DISCONNECTS);
        let (given, events) = crossbeam_channel::bounded(EVENTS);
        let (ending, ended) = crossbeam_channel::bounded(0);
        let stalled = Arc::new(AtomicBool::new(false));
        let own = Own { commands: taken, events: given.clone(), stalled: stalled.clone() };
        let sleeper = Arc::new(OnceLock::new());
        let woken = sleeper.clone();
        links.set_waker(Arc::new(move || {
            if let Some(thread) = woken.get() {
                Thread::unpark(thread);
            }
        }));
        let started = std::thread::Builder::new().name("coplay-link".into()).spawn(move || {
            let _ = sleeper.set(std::thread::current());
            own.run(links);
            drop::<Sender<()>>(ending);
        });
        let thread = match started {
            Ok(started) => Some(started.thread().clone()),
            Err(error) => {
                let reason = format!("no thread can be started: {error}");
                let failed = NetworkEvent::Failed(SocketError::Unavailable { reason });
                let _ = given.try_send(Outward::Event(failed));
                None
            }
        };
        Self { ends: Some(Ends { commands, events }), held: VecDeque::new(), thread, ended, stalled, handed: false }
    }

    pub(super) fn turn(&mut self) {
        self.hand_over();
        // What is still held is handed over when this is called again.
        self.handed = !self.held.is_empty();
        self.wake();
    }

    /// Hands over what was held, as far as there is room.
    fn hand_over(&mut self) {
        let Some(Ends { commands, .. }) = &self.ends else { return };
        while commands.len() < COMMANDS
            && let Some(command) = self.held.pop_front()
        {
            if let Err(TrySendError::Full(command)) = commands.try_send(command) {
                return self.held.push_front(command);
            }
        }
    }

    pub(super) fn poll(&mut self) -> Option<Outward> {
        let event = self.ends.as_ref()?.events.try_recv().ok();
        if event.is_none() && (self.stalled.swap(false, Ordering::SeqCst) || self.handed) {
            self.turn();
        }
        event
    }

    pub(super) fn command(&mut self, command: Command) -> Result<(), Command> {
        self.hand_over();
        let Some(Ends { commands, .. }) = &self.ends else { return Err(command) };
        self.handed = true;
        let full = commands.len() >= COMMANDS;
        match &command {
            Command::State(..) if full => return Err(command),
            Command::Message(..) | Command::Blob(..) | Command::Disconnect(_) if !self.held.is_empty() => {
                self.held.push_back(command);
                return Ok(());
            }
            Command::Message(..) | Command::Blob(..) if full => {
                self.held.push_back(command);
                self.wake();
                return Ok(());
            }
            _ => {}
        }
        match commands.try_send(command) {
            Ok(()) => Ok(()),
            // The thread never was: the game was told.
            Err(TrySendError::Disconnected(_)) => Ok(()),
            Err(TrySendError::Full(command)) => Err(command),
        }
    }

    /// Ends the thread and waits for it.
    pub(super) fn close(&mut self, within: Duration) {
        self.hand_over();
        self.ends = None;
        self.wake();
        let _ = self.ended.recv_timeout(within);
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.hand_over();
        self.ends = None;
        self.wake();
    }
}

/// The thread's end.
struct Own {
    commands: Receiver<Command>,
    events: Sender<Outward>,
    stalled: Arc<AtomicBool>,
}

impl Own {
    fn run(self, mut links: Links) {
        loop {
            let now = clock::now();
            let open = self.obey(&mut links, now);
            let more = links.turn(now);
            self.pass_on(&mut links);
            if !open {
                break;
            }
            if !more {
                sleep(&links, now, None);
            }
        }
        let end = clock::now() + CLOSING;
        links.close(clock::now());
        while !links.is_empty() && clock::now() < end {
            let now = clock::now();
            links.turn(now);
            while links.poll().is_some() {}
            if !links.is_empty() {
                sleep(&links, now, Some(end));
            }
        }
    }

    /// Does what the game commands. Returns false once it has dropped its end.
    fn obey(&self, links: &mut Links, now: Duration) -> bool {
        for _ in 0..COMMANDS {
            match self.commands.try_recv() {
                Ok(command) => links.command(now, command),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        true
    }

    fn pass_on(&self, links: &mut Links) {
        while let Some(event) = links.poll() {
            if let Err(TrySendError::Full(event)) = self.events.try_send(event) {
                links.put_back(event);
                self.stalled.store(true, Ordering::SeqCst);
                // The game may have emptied it meanwhile, and not have seen that.
                if !self.events.is_empty() || !self.stalled.swap(false, Ordering::SeqCst) {
                    return;
                }
            }
        }
    }
}

fn sleep(links: &Links, now: Duration, end: Option<Duration>) {
    match links.deadline().into_iter().chain(end).min() {
        Some(deadline) => std::thread::park_timeout(deadline.saturating_sub(now).max(SHORTEST_SLEEP)),
        None => std::thread::park(),
    }
}
