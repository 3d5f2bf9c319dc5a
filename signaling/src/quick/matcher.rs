//! Who waits for the same match, and are those that are to meet really there? Pure: tickets and time in, orders out.
//!
//! As soon as enough wait for the same, the first of them are on trial: each has to prove that it is there, which takes
//! no time for who was heard just now. If all do, they are matched. If one does not, it is dismissed, and the others are
//! the first in the queue again.
//!
//! A match that lost somebody before it began has a seat to give away. Who comes next, or waits already, gets that before
//! anything else, and proves the same.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use coplay_proto::signal::lobby::{MatchStatus, QuickMatch};
use tokio::time::Instant;

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(crate) enum Output {
    /// Tell a ticket how many wait.
    Waiting { ticket: u64, status: MatchStatus },
    /// Have a ticket prove that it is there: [`Matcher::alive`] with the same trial.
    Prove { ticket: u64, trial: u64 },
    /// These meet. They are forgotten here.
    Match(Vec<u64>),
    /// This one is to have a seat in a room that has some to give away. It is forgotten here, unless it comes
    /// [`back`](Matcher::back).
    Fill { ticket: u64, room: u64 },
    /// This one is not there. It is forgotten here.
    Dismiss(u64),
}

/// See the top of the file. Everything in it belongs to a ticket, or to a room that is there.
#[derive(Debug)]
pub(crate) struct Matcher {
    /// How long a proof may take.
    proof: Duration,
    queues: HashMap<Arc<QuickMatch>, VecDeque<u64>>,
    tickets: HashMap<u64, Ticket>,
    trials: HashMap<u64, Trial>,
    /// How many seats rooms have to give away, the oldest room first. A room stays while its last seat is handed out.
    vacancies: HashMap<Arc<QuickMatch>, BTreeMap<u64, u32>>,
    last_trial: u64,
    out: VecDeque<Output>,
}

#[derive(Debug)]
struct Ticket {
    wanted: Arc<QuickMatch>,
    trial: Option<u64>,
    /// A room would not have it: it waits for a match of its own.
    unwelcome: bool,
}

#[derive(Debug)]
struct Trial {
    wanted: Arc<QuickMatch>,
    tickets: Vec<u64>,
    unproven: HashSet<u64>,
    until: Instant,
    /// Whose seat is at stake, if it is no new match.
    room: Option<u64>,
}

impl Matcher {
    pub(crate) fn new(proof: Duration) -> Self {
        Self {
            proof,
            queues: HashMap::new(),
            tickets: HashMap::new(),
            trials: HashMap::new(),
            vacancies: HashMap::new(),
            last_trial: 0,
            out: VecDeque::new(),
        }
    }

    /// One more waits.
    pub(crate) fn enter(&mut self, now: Instant, ticket: u64, wanted: Arc<QuickMatch>) {
        self.tickets.insert(ticket, Ticket { wanted: wanted.clone(), trial: None, unwelcome: false });
        self.queues.entry(wanted.clone()).or_default().push_back(ticket);
        self.fill(now, &wanted);
    }

    /// One for whom there was no seat after all is the first in the queue again.
    pub(crate) fn back(&mut self, now: Instant, ticket: u64, wanted: Arc<QuickMatch>, unwelcome: bool) {
        self.tickets.insert(ticket, Ticket { wanted: wanted.clone(), trial: None, unwelcome });
        self.queues.entry(wanted.clone()).or_default().push_front(ticket);
        self.fill(now, &wanted);
    }

    /// A room has so many seats to give away, whatever it had before.
    pub(crate) fn vacant(&mut self, now: Instant, room: u64, wanted: Arc<QuickMatch>, free: u32) {
        if free > 0 {
            self.vacancies.entry(wanted.clone()).or_default().insert(room, free);
            self.fill(now, &wanted);
        } else if let Some(rooms) = self.vacancies.get_mut(&wanted) {
            rooms.remove(&room);
            if rooms.is_empty() {
                self.vacancies.remove(&wanted);
            }
        }
    }

    /// One waits no more.
    pub(crate) fn leave(&mut self, now: Instant, ticket: u64) {
        let Some(Ticket { wanted, trial, .. }) = self.tickets.remove(&ticket) else { return };
        match trial {
            Some(trial) => self.dissolve(now, trial),
            None => {
                if let Some(queue) = self.queues.get_mut(&wanted) {
                    queue.retain(|other| *other != ticket);
                }
                self.fill(now, &wanted);
            }
        }
    }

    /// One has proved that it is there.
    pub(crate) fn alive(&mut self, ticket: u64, trial: u64) {
        let Some(proving) = self.trials.get_mut(&trial) else { return };
        proving.unproven.remove(&ticket);
        if proving.unproven.is_empty()
            && let Some(Trial { tickets, room, .. }) = self.trials.remove(&trial)
        {
            for ticket in &tickets {
                self.tickets.remove(ticket);
            }
            match (room, tickets.as_slice()) {
                (Some(room), [ticket]) => self.out.push_back(Output::Fill { ticket: *ticket, room }),
                _ => self.out.push_back(Output::Match(tickets)),
            }
        }
    }

    /// Time has passed; due at [`Self::deadline`].
    pub(crate) fn elapsed(&mut self, now: Instant) {
        let mut due: Vec<u64> =
            self.trials.iter().filter(|(_, trial)| trial.until <= now).map(|(number, _)| *number).collect();
        due.sort_unstable();
        for number in due {
            for ticket in self.trials.get(&number).iter().flat_map(|trial| &trial.unproven) {
                self.tickets.remove(ticket);
                self.out.push_back(Output::Dismiss(*ticket));
            }
            self.dissolve(now, number);
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.trials.values().map(|trial| trial.until).min()
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Those of a trial that still have a ticket are the first in the queue again.
    fn dissolve(&mut self, now: Instant, trial: u64) {
        let Some(Trial { wanted, tickets, room, .. }) = self.trials.remove(&trial) else { return };
        if let Some(room) = room
            && let Some(free) = self.vacancies.get_mut(&wanted).and_then(|rooms| rooms.get_mut(&room))
        {
            *free += 1;
        }
        for number in tickets.into_iter().rev() {
            if let Some(ticket) = self.tickets.get_mut(&number) {
                ticket.trial = None;
                self.queues.entry(wanted.clone()).or_default().push_front(number);
            }
        }
        self.fill(now, &wanted);
    }

    /// Puts on trial as many as there are, for seats first, and tells those who are left.
    fn fill(&mut self, now: Instant, wanted: &Arc<QuickMatch>) {
        let size = wanted.size.max(1) as usize;
        while let Some((ticket, room)) = self.seat(wanted) {
            self.try_out(now, wanted, vec![ticket], Some(room));
        }
        while let Some(queue) = self.queues.get_mut(wanted).filter(|queue| queue.len() >= size) {
            let tickets = queue.drain(..size).collect();
            self.try_out(now, wanted, tickets, None);
        }
        let Some(queue) = self.queues.get(wanted) else { return };
        let waiting = u32::try_from(queue.len()).unwrap_or(u32::MAX);
        for ticket in queue {
            let status = MatchStatus { waiting, size: wanted.size };
            self.out.push_back(Output::Waiting { ticket: *ticket, status });
        }
        if queue.is_empty() {
            self.queues.remove(wanted);
        }
    }

    /// Takes the first in the queue who may have a seat that is to give away, and the seat.
    fn seat(&mut self, wanted: &Arc<QuickMatch>) -> Option<(u64, u64)> {
        let (room, free) = self.vacancies.get_mut(wanted)?.iter_mut().find(|(_, free)| **free > 0)?;
        let queue = self.queues.get_mut(wanted)?;
        let welcome = |ticket: &u64| self.tickets.get(ticket).is_some_and(|ticket| !ticket.unwelcome);
        let ticket = queue.remove(queue.iter().position(welcome)?)?;
        *free -= 1;
        Some((ticket, *room))
    }

    /// Has each of them prove that it is there.
    fn try_out(&mut self, now: Instant, wanted: &Arc<QuickMatch>, tickets: Vec<u64>, room: Option<u64>) {
        self.last_trial += 1;
        let trial = self.last_trial;
        for ticket in &tickets {
            if let Some(ticket) = self.tickets.get_mut(ticket) {
                ticket.trial = Some(trial);
            }
            self.out.push_back(Output::Prove { ticket: *ticket, trial });
        }
        let unproven = tickets.iter().copied().collect();
        let trying = Trial { wanted: wanted.clone(), tickets, unproven, until: now + self.proof, room };
        self.trials.insert(trial, trying);
    }
}

#[cfg(test)]
mod tests;
