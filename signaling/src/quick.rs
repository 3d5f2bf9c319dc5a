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

pub(crate) use self::backfill::{Backfill, Fill};
use self::matcher::{Matcher, Output};
use crate::{
    ask::Ask,
    registry::{Caller, Place, Registry},
    room::{self, Entry, Join},
};

mod backfill;
mod matcher;
pub(crate) mod waiting;

/// The way to the task.
#[derive(Debug)]
pub(crate) struct Queue {
    // Unbounded, because a departure must never be lost; there are few for each ticket, and for each who comes or goes in
    // the room of a match, and all of these are counted.
    commands: mpsc::UnboundedSender<Command>,
    next: AtomicU64,
}

#[derive(Debug)]
enum Command {
    Enter(u64, Box<Arrival>),
    Alive {
        ticket: u64,
        trial: u64,
    },
    Leave(u64),
    /// So many seats of a match may be given to others, by this door.
    Vacant {
        room: u64,
        wanted: Arc<QuickMatch>,
        free: u32,
        door: Option<mpsc::Sender<room::Command>>,
    },
    /// A room did not take this one: it had no seat (any more), or `unwelcome` says that it is about who came.
    Back {
        ticket: u64,
        join: Box<Join>,
        unwelcome: bool,
    },
}

#[derive(Debug)]
struct Arrival {
    wanted: Arc<QuickMatch>,
    /// `None` while it is on the way to a seat.
    join: Option<Box<Join>>,
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
        let hall = Hall {
            registry,
            // It must not keep the channel open.
            commands: commands.downgrade(),
            matcher: Matcher::new(proof),
            arrivals: HashMap::new(),
            doors: HashMap::new(),
            last_room: 0,
        };
        tokio::spawn(hall.run(inbox));
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
        let arrival = Some(Box::new(Arrival { wanted: Arc::new(wanted), join: Some(Box::new(join)), told: tell }));
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

/// What the task knows.
struct Hall {
    registry: Weak<Registry>,
    commands: mpsc::WeakUnboundedSender<Command>,
    matcher: Matcher,
    arrivals: HashMap<u64, Box<Arrival>>,
    /// The rooms that have seats to give away: as many as there are rooms, at the most.
    doors: HashMap<u64, mpsc::Sender<room::Command>>,
    last_room: u64,
}

impl Hall {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        loop {
            let deadline = self.matcher.deadline();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command, Instant::now()),
                    None => return,
                },
                () = async { match deadline { Some(due) => sleep_until(due).await, None => std::future::pending().await } } => {
                    self.matcher.elapsed(Instant::now());
                }
            }
            while let Some(output) = self.matcher.poll() {
                self.act(output);
            }
        }
    }

    fn obey(&mut self, command: Command, now: Instant) {
        match command {
            Command::Enter(ticket, arrival) => {
                let wanted = arrival.wanted.clone();
                self.arrivals.insert(ticket, arrival);
                self.matcher.enter(now, ticket, wanted);
            }
            Command::Alive { ticket, trial } => self.matcher.alive(ticket, trial),
            Command::Leave(ticket) => {
                self.matcher.leave(now, ticket);
                self.arrivals.remove(&ticket);
            }
            Command::Vacant { room, wanted, free, door } => {
                match door {
                    Some(door) => self.doors.insert(room, door),
                    None => self.doors.remove(&room),
                };
                self.matcher.vacant(now, room, wanted, free);
            }
            Command::Back { ticket, join, unwelcome } => {
                // Who left meanwhile is not known any more.
                if let Some(arrival) = self.arrivals.get_mut(&ticket) {
                    arrival.join = Some(join);
                    self.matcher.back(now, ticket, arrival.wanted.clone(), unwelcome);
                }
            }
        }
    }

    fn act(&mut self, output: Output) {
        match output {
            Output::Waiting { ticket, status } => {
                if let Some(arrival) = self.arrivals.get(&ticket) {
                    arrival.told.send_modify(|told| told.status = Some(status));
                }
            }
            Output::Prove { ticket, trial } => {
                if let Some(arrival) = self.arrivals.get(&ticket) {
                    arrival.told.send_modify(|told| told.trial = trial);
                }
            }
            Output::Match(tickets) => {
                let arrivals = tickets.iter().filter_map(|ticket| self.arrivals.remove(ticket));
                let (wanted, joins): (Vec<_>, Vec<_>) =
                    arrivals.filter_map(|arrival| Some((arrival.wanted, *arrival.join?))).unzip();
                if let (Some(registry), Some(wanted)) = (self.registry.upgrade(), wanted.into_iter().next()) {
                    self.last_room += 1;
                    registry.open_for(joins, Backfill::new(self.last_room, wanted, self.commands.clone()));
                }
            }
            Output::Fill { ticket, room } => {
                let Some(arrival) = self.arrivals.get_mut(&ticket) else { return };
                let Some(join) = arrival.join.take() else { return };
                // It comes back if the room is not there any more.
                let fill = Fill::new(ticket, join, self.commands.clone());
                if let Some(door) = self.doors.get(&room).cloned() {
                    // A room that has much to do holds up nobody else here.
                    tokio::spawn(async move {
                        let _ = door.send(room::Command::Fill(Box::new(fill))).await;
                    });
                }
            }
            // It is told by the end of its reply.
            Output::Dismiss(ticket) => drop(self.arrivals.remove(&ticket)),
        }
    }
}
