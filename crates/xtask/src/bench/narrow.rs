//! Does a game go on while the path narrows, and how fast is it as before when the path widens again?
//!
//! Three pairs of peers, each over a path of its own, would send 30 kB of state a second each way, more than the narrowest path
//! carries, and skip what the link has no budget for, as sessions do; and 20 events a second.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{
    emulated::{Conditions, Mark},
    loss::{
        self, Case, Pair, Pattern, Stack, Way,
        cell::{Ages, Cell},
        pause,
    },
    netns, quantile, write,
};
use crate::{
    interrupt,
    run::{Result, Steps, table, target},
};

/// What the path carries, one after the other, in kbit/s.
const RATES: [f64; 4] = [5_000.0, 1_000.0, 200.0, 5_000.0];
/// Each way, in ms.
const DELAY_MS: f64 = 30.0;
/// What waits before the narrow place at the most: that of many a home router.
const QUEUE: u32 = 64 * 1024;
/// After the path has widened, the game is as before once state is no older than so many times what it was at first.
const AS_BEFORE: f64 = 1.5;

const CASE: Case = Case { stack: Stack::CoplayEvent, pair: Pair::NativeNative, pattern: Pattern::Steady, state: true };

/// What `bench narrow` is asked for.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long each rate lasts, in seconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(3..=600))]
    seconds: u32,
}

/// One rate. Times are in ms, from game to game, as in `bench loss`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Row {
    rate_kbit: f64,
    /// How old the newest state was, in each frame of both sides.
    state_age_p99_ms: f64,
    event_p99_ms: f64,
    /// What waited before the narrow place at the most, in kB.
    queue_kb: f64,
    /// After how many seconds of the last rate the game was as before.
    recovered_s: Option<f64>,
    /// Events that were sent, and that came.
    sent: u64,
    delivered: u64,
}

/// When a rate began and ended, in ms since 1970.
type Span = (f64, f64);

/// Measures every rate; an error if events were lost.
pub(crate) fn bench(options: &Options) -> Result {
    let mut steps = Steps::new(3);
    steps.next("looking for what it takes");
    netns::ready()?;
    steps.next("building the emulator, the peers and signaling (first time about 6 minutes)");
    let programs = loss::build()?;
    interrupt::listen()?;
    steps.next("measuring");
    let place = target()?.join("bench").join("narrow");
    let mut cell = Cell::start(CASE, true, &programs, None, &place)?;
    cell.opened()?;
    let mut spans = Vec::new();
    for (rate, number) in RATES.into_iter().zip(1..) {
        let begin = since_1970();
        let conditions =
            Conditions { delay_ms: DELAY_MS, rate_kbit: Some(rate), queue_bytes: QUEUE, ..Conditions::default() };
        cell.set(&label(number), conditions)?;
        cell.tell(number, options.seconds, Way::Reliably, true)?;
        pause(Duration::from_secs(options.seconds.into()))?;
        spans.push((begin, since_1970()));
    }
    cell.set(&label(RATES.len() as u16 + 1), Conditions::default())?;
    pause(Duration::from_secs(3))?;
    let (counted, marks) = cell.counted()?;
    let ages = cell.ages()?;
    let mut rows = Vec::new();
    for ((rate, number), span) in RATES.into_iter().zip(1..).zip(&spans) {
        let mut times = counted.get(&number).map(|counted| counted.times.clone()).unwrap_or_default();
        times.sort_unstable_by(f64::total_cmp);
        rows.push(Row {
            rate_kbit: rate,
            state_age_p99_ms: age(&ages, *span),
            event_p99_ms: quantile(&times, 0.99),
            queue_kb: queued(&marks, number),
            recovered_s: None,
            sent: counted.get(&number).map_or(0, |counted| counted.sent),
            delivered: times.len() as u64,
        });
    }
    if let (Some(first), Some(last), Some(span)) = (rows.first().copied(), rows.last_mut(), spans.last()) {
        last.recovered_s = recovered(&ages, *span, AS_BEFORE * first.state_age_p99_ms);
    }
    println!("{}", overview(&rows));
    write("narrow", &rows)?;
    let lost: u64 = rows.iter().map(|row| row.sent.abs_diff(row.delivered)).sum();
    if lost > 0 { Err(format!("{lost} events were lost, or came twice")) } else { Ok(()) }
}

fn label(number: u16) -> String {
    format!("begin {number}")
}

fn since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3
}

/// What waited at the most while a rate lasted, as the mark at its end tells.
fn queued(marks: &[Mark], number: u16) -> f64 {
    let end = marks.iter().find(|mark| mark.label == label(number + 1));
    end.map_or(f64::NAN, |mark| mark.a_to_b.most_queued.max(mark.b_to_a.most_queued) as f64 / 1e3)
}

/// The p99 of all ages that were told within this time, the second that began before it left out.
fn age(ages: &[Ages], (begin, end): Span) -> f64 {
    let within = ages.iter().filter(|second| second.at - 1e3 >= begin && second.at <= end);
    let mut all: Vec<f64> = within.flat_map(|second| second.ages.iter().copied()).collect();
    all.sort_unstable_by(f64::total_cmp);
    quantile(&all, 0.99)
}

/// After how many seconds state was never older than that any more. None if it was until the end.
fn recovered(ages: &[Ages], (begin, end): Span, most: f64) -> Option<f64> {
    let within = ages.iter().filter(|second| second.at >= begin && second.at <= end);
    let older = within.clone().filter(|second| age(std::slice::from_ref(second), (f64::MIN, f64::MAX)) > most);
    let last = older.map(|second| second.at).fold(begin, f64::max);
    let newer = within.clone().any(|second| second.at > last);
    newer.then(|| ((last - begin) / 1e2).round() / 10.0)
}

fn overview(rows: &[Row]) -> String {
    let heading = ["kbit/s", "state age p99, ms", "event p99, ms", "queue, kB", "as before after, s", "sent", "came"];
    let line = |row: &Row| {
        vec![
            row.rate_kbit.to_string(),
            format!("{:.0}", row.state_age_p99_ms),
            format!("{:.0}", row.event_p99_ms),
            format!("{:.1}", row.queue_kb),
            row.recovered_s.map_or_else(String::new, |seconds| format!("{seconds:.1}")),
            row.sent.to_string(),
            row.delivered.to_string(),
        ]
    };
    table(&std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows.iter().map(line)).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(at: f64, age: f64) -> Ages {
        Ages { at, ages: vec![age; 60] }
    }

    #[test]
    fn ages_are_those_of_the_seconds_within() {
        let ages = [second(1_000.0, 900.0), second(2_500.0, 50.0), second(3_500.0, 60.0), second(9_000.0, 900.0)];
        assert_eq!(age(&ages, (1_200.0, 4_000.0)), 60.0);
        assert!(age(&ages, (20_000.0, 21_000.0)).is_nan());
    }

    #[test]
    fn the_game_is_as_before_when_no_second_is_worse_any_more() {
        let ages = [second(1_000.0, 900.0), second(2_000.0, 50.0), second(3_000.0, 200.0), second(4_000.0, 50.0)];
        assert_eq!(recovered(&ages, (500.0, 5_000.0), 100.0), Some(2.5));
        assert_eq!(recovered(&ages, (3_500.0, 5_000.0), 100.0), Some(0.0));
        assert_eq!(recovered(&ages, (500.0, 3_500.0), 100.0), None);
    }
}
