//! What became of the messages, by phase: told once a second, so that nothing has to be asked for.

use std::collections::BTreeMap;

use coplay_bench_stacks::program::time_of_day;
use serde_json::json;

use crate::say;

/// Times in one line, at the most: a browser's console has to take it.
const LINE: usize = 500;

/// What was not told yet.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    phases: BTreeMap<u16, Counted>,
    /// How old the newest state was in each frame, in ms; None if nobody asks.
    ages: Option<Vec<f64>>,
}

#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) sent: u32,
    /// How long each took, in ms.
    pub(crate) times: Vec<f64>,
    /// That came again.
    pub(crate) twice: u32,
    /// That had not come when a later one did.
    pub(crate) skipped: u32,
}

impl Tally {
    pub(crate) fn new(ages: bool) -> Self {
        Self { phases: BTreeMap::new(), ages: ages.then(Vec::new) }
    }

    pub(crate) fn age(&mut self, ms: f64) {
        if let Some(ages) = &mut self.ages {
            ages.push((ms * 10.0).round() / 10.0);
        }
    }

    pub(crate) fn sent(&mut self, phase: u16) {
        self.phase(phase).sent += 1;
    }

    pub(crate) fn took(&mut self, phase: u16, ms: f64) {
        self.phase(phase).times.push((ms * 1e2).round() / 1e2);
    }

    pub(crate) fn twice(&mut self, phase: u16) {
        self.phase(phase).twice += 1;
    }

    pub(crate) fn skipped(&mut self, phase: u16, many: u32) {
        self.phase(phase).skipped += many;
    }

    /// Tells all, and begins anew.
    pub(crate) fn tell(&mut self) {
        for (phase, counted) in std::mem::take(&mut self.phases) {
            let Counted { sent, times, twice, skipped } = counted;
            let mut lines = times.chunks(LINE);
            let first = lines.next().unwrap_or_default();
            say(
                &json!({ "event": "counted", "phase": phase, "sent": sent, "twice": twice, "skipped": skipped, "times": first }),
            );
            for times in lines {
                say(
                    &json!({ "event": "counted", "phase": phase, "sent": 0, "twice": 0, "skipped": 0, "times": times }),
                );
            }
        }
    }

    /// Tells how old state was since this was last told.
    pub(crate) fn tell_ages(&mut self) {
        if let Some(ages) = self.ages.as_mut().filter(|ages| !ages.is_empty()) {
            say(&json!({ "event": "ages", "at": time_of_day(), "ages": std::mem::take(ages) }));
        }
    }

    pub(crate) fn phase(&mut self, phase: u16) -> &mut Counted {
        self.phases.entry(phase).or_default()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.phases.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn ages(&self) -> &[f64] {
        self.ages.as_deref().unwrap_or_default()
    }
}
