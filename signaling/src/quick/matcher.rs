//! Who waits for the same match, and are those that are to meet really there? Pure: tickets and time in, orders out.
//!
//! As soon as enough wait for the same, the first of them are on trial: each has to prove that it is there, which takes
//! no time for who was heard just now. If all do, they are matched. If one does not, it is dismissed, and the others are
//! the first in the queue again.

use std::{
    collections::{HashMap, HashSet, VecDeque},
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
    /// This one is not there. It is forgotten here.
    Dismiss(u64),
}

/// See the top of the file. Everything in it belongs to a ticket.
#[derive(Debug)]
pub(crate) struct Matcher {
    /// How long a proof may take.
    proof: Duration,
    queues: HashMap<Arc<QuickMatch>, VecDeque<u64>>,
    tickets: HashMap<u64, Ticket>,
    trials: HashMap<u64, Trial>,
    last_trial: u64,
    out: VecDeque<Output>,
}

#[derive(Debug)]
struct Ticket {
    wanted: Arc<QuickMatch>,
    trial: Option<u64>,
}

#[derive(Debug)]
struct Trial {
    wanted: Arc<QuickMatch>,
    tickets: Vec<u64>,
    unproven: HashSet<u64>,
    until: Instant,
}

impl Matcher {
    pub(crate) fn new(proof: Duration) -> Self {
        Self {
            proof,
            queues: HashMap::new(),
            tickets: HashMap::new(),
            trials: HashMap::new(),
            last_trial: 0,
            out: VecDeque::new(),
        }
    }

    /// One more waits.
    pub(crate) fn enter(&mut self, now: Instant, ticket: u64, wanted: Arc<QuickMatch>) {
        self.tickets.insert(ticket, Ticket { wanted: wanted.clone(), trial: None });
        self.queues.entry(wanted.clone()).or_default().push_back(ticket);
        self.fill(now, &wanted);
    }

    /// One waits no more.
    pub(crate) fn leave(&mut self, now: Instant, ticket: u64) {
        let Some(Ticket { wanted, trial }) = self.tickets.remove(&ticket) else { return };
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
            && let Some(Trial { tickets, .. }) = self.trials.remove(&trial)
        {
            for ticket in &tickets {
                self.tickets.remove(ticket);
            }
            self.out.push_back(Output::Match(tickets));
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
        let Some(Trial { wanted, tickets, .. }) = self.trials.remove(&trial) else { return };
        for number in tickets.into_iter().rev() {
            if let Some(ticket) = self.tickets.get_mut(&number) {
                ticket.trial = None;
                self.queues.entry(wanted.clone()).or_default().push_front(number);
            }
        }
        self.fill(now, &wanted);
    }

    /// Puts on trial as many as there are, and tells those who are left.
    fn fill(&mut self, now: Instant, wanted: &Arc<QuickMatch>) {
        let Some(queue) = self.queues.get_mut(wanted) else { return };
        let size = wanted.size.max(1) as usize;
        while queue.len() >= size {
            self.last_trial += 1;
            let trial = self.last_trial;
            let tickets: Vec<u64> = queue.drain(..size).collect();
            for ticket in &tickets {
                if let Some(ticket) = self.tickets.get_mut(ticket) {
                    ticket.trial = Some(trial);
                }
                self.out.push_back(Output::Prove { ticket: *ticket, trial });
            }
            let unproven = tickets.iter().copied().collect();
            self.trials.insert(trial, Trial { wanted: wanted.clone(), tickets, unproven, until: now + self.proof });
        }
        let waiting = u32::try_from(queue.len()).unwrap_or(u32::MAX);
        for ticket in &*queue {
            let status = MatchStatus { waiting, size: wanted.size };
            self.out.push_back(Output::Waiting { ticket: *ticket, status });
        }
        if queue.is_empty() {
            self.queues.remove(wanted);
        }
    }
}

#[cfg(test)]
mod tests;
