//! What is measured without root: coplay's events over its own conditioner, both sides in one process.

use std::{process::Command, time::Duration};

use serde_json::json;

use super::{
    Case, DELAY_MS, DRAIN, ENDING, JITTER_MS, LOSSES, PATTERNS, Pair, Stack, Way,
    cell::{self, Counted, read},
    pause,
    rows::Row,
};
use crate::{
    bench::stacks,
    interrupt,
    run::{Result, Running, Steps, target},
};

/// Pairs of each loss and pattern.
const PAIRS: usize = 6;

/// Measures every loss and pattern at the same time, each in a process.
pub(super) fn measure(seconds: u32) -> Result<Vec<Row>> {
    let mut steps = Steps::new(2);
    steps.next("building the peers (first time about 5 minutes)");
    stacks::build(&[cell::PROGRAM], false)?;
    interrupt::listen()?;
    steps.next("measuring");
    let place = target()?.join("bench").join("loss");
    let mut running = Vec::new();
    for pattern in PATTERNS {
        for (percent, burst) in LOSSES {
            let case = Case { stack: Stack::CoplayEvent, pair: Pair::NativeNative, pattern, state: false };
            let name = format!("conditioned-{}-{percent}-{burst}", case.name());
            let mut command = Command::new(target()?.join("release").join(cell::PROGRAM));
            command.args(["--stack", "conditioned", "--side", "a", "--address", "none", "--state", "0"]);
            command.args(["--count", &PAIRS.to_string(), "--loss", &percent.to_string()]);
            command.args(["--burst", &burst.to_string()]);
            command.args(["--delay", &DELAY_MS.to_string(), "--jitter", &JITTER_MS.to_string()]);
            let log = place.join(format!("{name}.log"));
            running.push((case, percent, burst, Running::start_listening(&name, &mut command, Some(&log))?));
        }
    }
    for (case, _, _, peers) in &mut running {
        // Both sides are within.
        cell::opened(peers, 2 * PAIRS)?;
        peers.tell(&json!(case.order(1, seconds, Way::Reliably, true)))?;
    }
    pause(Duration::from_secs(seconds.into()) + ENDING + DRAIN)?;
    let mut rows = Vec::new();
    for (case, percent, burst, mut peers) in running {
        peers.check()?;
        let mut all = Counted::default();
        read(&peers.log())?.values().for_each(|counted| all.add(counted));
        rows.push(Row::of(case, percent, burst, all, None, None));
    }
    Ok(rows)
}
