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
    /// Who was sent into which room.
    filled: Vec<(u64, u64)>,
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
            filled: Vec::new(),
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
                Output::Fill { ticket, room } => self.filled.push((ticket, room)),
                Output::Dismiss(ticket) => self.dismissed.push(ticket),
            }
        }
    }

    fn enter(&mut self, ticket: u64, wanted: &Arc<QuickMatch>) {
        self.matcher.enter(self.now, ticket, wanted.clone());
        self.drain();
    }

    fn vacant(&mut self, room: u64, wanted: &Arc<QuickMatch>, free: u32) {
        self.matcher.vacant(self.now, room, wanted.clone(), free);
        self.drain();
    }

    fn back(&mut self, ticket: u64, wanted: &Arc<QuickMatch>, unwelcome: bool) {
        self.matcher.back(self.now, ticket, wanted.clone(), unwelcome);
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
        let Matcher { queues, tickets, trials, vacancies, .. } = &self.matcher;
        queues.is_empty() && tickets.is_empty() && trials.is_empty() && vacancies.is_empty()
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

#[test]
fn a_seat_that_was_lost_is_for_who_comes_next_and_of_two_for_the_first() {
    let mut hall = Hall::new();
    let (two, four) = (duel(2), duel(4));
    hall.vacant(7, &four, 2);
    hall.vacant(8, &four, 1);
    hall.enter(1, &two);
    assert_eq!(hall.filled, [], "it wants another match");
    for ticket in 2..=5 {
        hall.enter(ticket, &four);
    }
    assert_eq!(hall.filled, [(2, 7), (3, 7), (4, 8)], "the oldest room first");
    assert_eq!(hall.waiting[&5], MatchStatus { waiting: 1, size: 4 });
    // The rooms took them.
    hall.vacant(7, &four, 0);
    hall.vacant(8, &four, 0);
    // And who waits already is sent, too.
    hall.vacant(9, &two, 1);
    assert_eq!(hall.filled.last(), Some(&(1, 9)));
    hall.vacant(9, &two, 0);
    hall.leave(5);
    assert!(hall.matches.is_empty() && hall.is_empty());
}

#[test]
fn a_seat_is_for_the_next_if_one_does_not_prove_to_be_there_or_leaves() {
    let mut hall = Hall::new();
    let four = duel(4);
    hall.silent.extend([1, 2]);
    hall.vacant(7, &four, 1);
    hall.enter(1, &four);
    hall.enter(3, &four);
    assert_eq!(hall.waiting[&3], MatchStatus { waiting: 1, size: 4 }, "the seat is promised");
    hall.wait(Duration::from_secs(2));
    assert_eq!((hall.dismissed.clone(), hall.filled.clone()), (vec![1], vec![(3, 7)]));
    hall.vacant(7, &four, 1);
    hall.enter(2, &four);
    hall.leave(2);
    hall.enter(4, &four);
    assert_eq!(hall.filled, [(3, 7), (4, 7)]);
    // One is on trial when the room ends: the seat does not come back.
    hall.vacant(7, &four, 1);
    hall.silent.insert(5);
    hall.enter(5, &four);
    hall.vacant(7, &four, 0);
    hall.leave(5);
    assert!(hall.is_empty());
}

#[test]
fn who_was_not_let_in_is_the_first_again_and_is_not_sent_to_a_room_that_would_not_have_them() {
    let mut hall = Hall::new();
    let three = duel(3);
    hall.vacant(7, &three, 1);
    for ticket in 1..=2 {
        hall.enter(ticket, &three);
    }
    assert_eq!(hall.filled, [(1, 7)]);
    // Somebody took the seat by the room's code.
    hall.vacant(7, &three, 0);
    hall.back(1, &three, false);
    hall.vacant(7, &three, 1);
    assert_eq!(hall.filled, [(1, 7), (1, 7)], "before the second");
    hall.back(1, &three, true);
    hall.vacant(7, &three, 1);
    assert_eq!(hall.filled.last(), Some(&(2, 7)), "but not once more");
    hall.vacant(7, &three, 0);
    hall.enter(3, &three);
    hall.enter(4, &three);
    assert_eq!(hall.matches, [[1, 3, 4]]);
    assert!(hall.is_empty());
}

proptest! {
    /// Tickets come, go and fall silent at random: nobody is in two matches, matches are of one kind and full, and nothing
    /// is left when all are gone.
    #[test]
    fn nobody_is_matched_twice_and_nothing_is_left(steps in prop::collection::vec((0..5_u8, 0..3_u32, any::<bool>()), 1..200)) {
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
                // A room of each kind says how many it has to give away.
                3 => {
                    let free = if *silent { 0 } else { 1 + kind };
                    hall.vacant(u64::from(*kind), &kinds[*kind as usize], free);
                }
                _ => hall.wait(Duration::from_millis(700)),
            }
        }
        hall.wait(Duration::from_secs(3));
        let mut seen = BTreeSet::new();
        for (ticket, room) in &hall.filled {
            prop_assert!(u64::from(kind_of[ticket]) == *room && seen.insert(*ticket));
            prop_assert!(!left.contains(ticket) && !hall.silent.contains(ticket));
        }
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
            let free: u32 = hall.matcher.vacancies.get(wanted).map_or(0, |rooms| rooms.values().sum());
            prop_assert!(count == 0 || free == 0 || trials > 0, "there is a seat, and nobody has it");
        }
        for ticket in waiting {
            hall.leave(ticket);
        }
        for (room, wanted) in (0..).zip(&kinds) {
            hall.vacant(room, wanted, 0);
        }
        prop_assert!(hall.is_empty());
    }
}
