//! Who plays with whom in a quick match? One task for the whole server, that acts on what happens and never looks around
//! by the clock.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use coplay_proto::signal::{
    SignalError,
    lobby::{Credentials, Listing, MatchStatus, QuickMatch},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use self::matcher::{Matcher, Output};
use crate::{
    ask::Ask,
    registry::{Caller, Place, Registry},
    room::{Entry, Join},
};

mod matcher;
pub(crate) mod waiting;

/// The way to the task.
#[derive(Debug)]
pub(crate) struct Queue {
    // Unbounded, because a departure must never be lost; there are few for each ticket, and tickets are counted.
    commands: mpsc::UnboundedSender<Command>,
    next: AtomicU64,
}

#[derive(Debug)]
enum Command {
    Enter(u64, Box<Arrival>),
    Alive { ticket: u64, trial: u64 },
    Leave(u64),
}

#[derive(Debug)]
struct Arrival {
    wanted: Arc<QuickMatch>,
    join: Join,
    told: watch::Sender<Told>,
}

/// What a waiting peer is told, the newest only.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Told {
    status: Option<MatchStatus>,
    /// The last trial that it is to prove for that it is there. From 1.
    trial: u64,
}

/// A peer's place in the queue. It leaves by dropping this.
#[derive(Debug)]
pub(crate) struct Ticket {
    number: u64,
    commands: mpsc::UnboundedSender<Command>,
    /// Until it is in the queue.
    arrival: Option<Box<Arrival>>,
    told: watch::Receiver<Told>,
    answer: oneshot::Receiver<Result<Entry, SignalError>>,
}

impl Queue {
    /// Starts the task. It ends when the queue is dropped and all tickets are.
    pub(crate) fn open(registry: Weak<Registry>, proof: Duration) -> Self {
        let (commands, inbox) = mpsc::unbounded_channel();
        tokio::spawn(run(inbox, registry, Matcher::new(proof)));
        Self { commands, next: AtomicU64::new(0) }
    }

    /// A ticket for a peer that is to wait.
    pub(crate) fn ticket(
        &self,
        registry: &Registry,
        wanted: QuickMatch,
        credentials: Credentials,
        caller: &Caller<'_>,
        place: Place,
    ) -> Ticket {
        let ask = Ask {
            topology: Some(wanted.topology),
            max: Some(wanted.size),
            listing: Listing { game: wanted.game.clone(), version: wanted.version.clone(), ..Listing::default() },
            credentials,
            ..Ask::default()
        };
        let (join, answer) = registry.newcomer(Arc::new(ask), caller, place);
        let (tell, told) = watch::channel(Told::default());
        let arrival = Some(Box::new(Arrival { wanted: Arc::new(wanted), join, told: tell }));
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Ticket { number, commands: self.commands.clone(), arrival, told, answer }
    }
}

impl Ticket {
    fn enter(&mut self) {
        if let Some(arrival) = self.arrival.take() {
            let _ = self.commands.send(Command::Enter(self.number, arrival));
        }
    }

    /// The peer is there.
    fn alive(&self, trial: u64) {
        let _ = self.commands.send(Command::Alive { ticket: self.number, trial });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.arrival.is_none() {
            let _ = self.commands.send(Command::Leave(self.number));
        }
    }
}

async fn run(mut commands: mpsc::UnboundedReceiver<Command>, registry: Weak<Registry>, mut matcher: Matcher) {
    let mut arrivals: HashMap<u64, Box<Arrival>> = HashMap::new();
    loop {
        let deadline = matcher.deadline();
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Enter(ticket, arrival)) => {
                    let wanted = arrival.wanted.clone();
                    arrivals.insert(ticket, arrival);
                    matcher.enter(Instant::now(), ticket, wanted);
                }
                Some(Command::Alive { ticket, trial }) => matcher.alive(ticket, trial),
                Some(Command::Leave(ticket)) => {
                    matcher.leave(Instant::now(), ticket);
                    arrivals.remove(&ticket);
                }
                None => return,
            },
            () = async { match deadline { Some(due) => sleep_until(due).await, None => std::future::pending().await } } => {
                matcher.elapsed(Instant::now());
            }
        }
        while let Some(output) = matcher.poll() {
            match output {
                Output::Waiting { ticket, status } => {
                    if let Some(arrival) = arrivals.get(&ticket) {
                        arrival.told.send_modify(|told| told.status = Some(status));
                    }
                }
                Output::Prove { ticket, trial } => {
                    if let Some(arrival) = arrivals.get(&ticket) {
                        arrival.told.send_modify(|told| told.trial = trial);
                    }
                }
                Output::Match(tickets) => {
                    let joins = tickets.iter().filter_map(|ticket| Some(arrivals.remove(ticket)?.join)).collect();
                    if let Some(registry) = registry.upgrade() {
                        registry.open_for(joins);
                    }
                }
                // It is told by the end of its reply.
                Output::Dismiss(ticket) => drop(arrivals.remove(&ticket)),
            }
        }
    }
}
