//! Do exactly those meet who want the same, in order, and only if they are there?

use std::collections::BTreeSet;

use coplay_proto::Topology;
use proptest::prelude::*;

use super::*;

fn duel(size: u32) -> Arc<QuickMatch> {
    Arc::new(QuickMatch { game: "duel".into(), version: "1".into(), size, topology: Topology::Mesh })
}

/// A matcher whose tickets prove that they are there, but for the silent ones.
struct Hall {
    matcher: Matcher,
    now: Instant,
    silent: BTreeSet<u64>,
    matches: Vec<Vec<u64>>,
    dismissed: Vec<u64>,
    waiting: HashMap<u64, MatchStatus>,
}

impl Hall {
    fn new() -> Self {
        Self {
            matcher: Matcher::new(Duration::from_secs(2)),
            now: Instant::now(),
            silent: BTreeSet::new(),
            matches: Vec::new(),
            dismissed: Vec::new(),
            waiting: HashMap::new(),
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.matcher.poll() {
            match output {
                Output::Waiting { ticket, status } => drop(self.waiting.insert(ticket, status)),
                Output::Prove { ticket, trial } if !self.silent.contains(&ticket) => self.matcher.alive(ticket, trial),
                Output::Prove { .. } => (),
                Output::Match(tickets) => self.matches.push(tickets),
                Output::Dismiss(ticket) => self.dismissed.push(ticket),
            }
        }
    }

    fn enter(&mut self, ticket: u64, wanted: &Arc<QuickMatch>) {
        self.matcher.enter(self.now, ticket, wanted.clone());
        self.drain();
    }

    fn leave(&mut self, ticket: u64) {
        self.matcher.leave(self.now, ticket);
        self.drain();
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.matcher.elapsed(self.now);
        self.drain();
    }

    fn is_empty(&self) -> bool {
        let Matcher { queues, tickets, trials, .. } = &self.matcher;
        queues.is_empty() && tickets.is_empty() && trials.is_empty()
    }
}

#[test]
fn who_wants_the_same_meets_in_the_order_of_arrival_at_once() {
    let mut hall = Hall::new();
    let (two, three) = (duel(2), duel(3));
    let other = Arc::new(QuickMatch { version: "2".into(), ..(*two).clone() });
    hall.enter(1, &two);
    hall.enter(2, &three);
    hall.enter(3, &other);
    hall.enter(4, &three);
    assert_eq!(hall.matches.len(), 0);
    assert_eq!(hall.waiting[&2], MatchStatus { waiting: 2, size: 3 }, "it is told of the fourth");
    hall.enter(5, &two);
    hall.enter(6, &three);
    assert_eq!(hall.matches, [vec![1, 5], vec![2, 4, 6]]);
    hall.leave(3);
    assert!(hall.is_empty());
}

#[test]
fn who_does_not_prove_to_be_there_is_dismissed_and_the_others_are_the_first_again() {
    let mut hall = Hall::new();
    let three = duel(3);
    hall.silent.insert(2);
    for ticket in 1..=3 {
        hall.enter(ticket, &three);
    }
    hall.enter(4, &three);
    hall.wait(Duration::from_millis(1999));
    assert_eq!((hall.matches.len(), hall.dismissed.len()), (0, 0));
    hall.wait(Duration::from_millis(1));
    assert_eq!((hall.matches.clone(), hall.dismissed.clone()), (vec![vec![1, 3, 4]], vec![2]));
    assert!(hall.is_empty());
}

#[test]
fn who_leaves_on_trial_leaves_the_others_in_their_places() {
    let mut hall = Hall::new();
    let two = duel(2);
    hall.silent.extend([1, 2]);
    hall.enter(1, &two);
    hall.enter(2, &two);
    hall.enter(3, &two);
    hall.silent.clear();
    hall.leave(2);
    assert_eq!(hall.matches, [[1, 3]]);
    assert!(hall.is_empty());
    // A proof of a trial that is over changes nothing.
    hall.enter(4, &two);
    hall.matcher.alive(4, 1);
    hall.drain();
    assert_eq!(hall.matches.len(), 1);
}

proptest! {
    /// Tickets come, go and fall silent at random: nobody is in two matches, matches are of one kind and full, and nothing
    /// is left when all are gone.
    #[test]
    fn nobody_is_matched_twice_and_nothing_is_left(steps in prop::collection::vec((0..4_u8, 0..3_u32, any::<bool>()), 1..200)) {
        let mut hall = Hall::new();
        let kinds = [duel(2), duel(3), duel(5)];
        let mut kind_of = HashMap::new();
        let mut left = BTreeSet::new();
        for (number, (step, kind, silent)) in steps.iter().enumerate() {
            let number = number as u64;
            match step {
                0 | 1 => {
                    if *silent {
                        hall.silent.insert(number);
                    }
                    kind_of.insert(number, *kind);
                    hall.enter(number, &kinds[*kind as usize]);
                }
                2 => {
                    let waits = hall.matcher.tickets.keys().min().copied();
                    if let Some(ticket) = waits {
                        hall.leave(ticket);
                        left.insert(ticket);
                    }
                }
                _ => hall.wait(Duration::from_millis(700)),
            }
        }
        hall.wait(Duration::from_secs(3));
        let mut seen = BTreeSet::new();
        for tickets in &hall.matches {
            let kind = kind_of[&tickets[0]];
            prop_assert_eq!(tickets.len(), kinds[kind as usize].size as usize);
            for ticket in tickets {
                prop_assert!(kind_of[ticket] == kind && seen.insert(*ticket));
                prop_assert!(!left.contains(ticket) && !hall.silent.contains(ticket));
            }
        }
        let waiting: Vec<u64> = hall.matcher.tickets.keys().copied().collect();
        for (kind, wanted) in kinds.iter().enumerate() {
            let count = waiting.iter().filter(|ticket| kind_of[ticket] as usize == kind).count();
            let trials = hall.matcher.trials.values().filter(|trial| trial.wanted == *wanted).count();
            prop_assert!(count < wanted.size as usize || trials > 0, "enough wait, and nothing happens");
        }
        for ticket in waiting {
            hall.leave(ticket);
        }
        prop_assert!(hall.is_empty());
    }
}
