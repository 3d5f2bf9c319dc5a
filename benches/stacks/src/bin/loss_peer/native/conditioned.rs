//! Both sides of coplay's events in one process, over its conditioner: for machines where no path can be emulated.

use std::time::Duration;

use coplay_bench_stacks::program::parsed;
use coplay_proto::conditioner::{Bursts, Conditions};
use coplay_socket::{Conditioned, MemoryHub};

use crate::{coplay::Coplay, game::Connection};

/// Bursts of the conditioner are counted in datagrams: about so many are lost together.
const BURST: f64 = 3.0;

/// The connections of each side.
type Sides = (Vec<Box<dyn Connection>>, Vec<Box<dyn Connection>>);

/// Pairs over a path that the command line describes: `--delay MS --jitter MS --loss PERCENT --burst BOOL`.
pub(super) fn pairs(count: usize) -> Result<Sides, String> {
    let ms = |name: &str| parsed::<f64>(name).map(|ms| Duration::from_secs_f64(ms.max(0.0) / 1e3));
    let share = parsed::<f64>("loss")? / 100.0;
    let plain = Conditions { latency: ms("delay")?, jitter: ms("jitter")?, ..Conditions::PERFECT };
    let conditions = if parsed("burst")? {
        let begin = share / (1.0 - share) / BURST;
        Conditions { bursts: Some(Bursts { begin, end: 1.0 / BURST, loss: 1.0 }), ..plain }
    } else {
        Conditions { loss: share, ..plain }
    };
    let pair = |number: usize| {
        let hub = MemoryHub::new();
        let side = |seed: usize| -> Box<dyn Connection> {
            Box::new(Coplay::over(Box::new(Conditioned::new(hub.socket(), conditions, seed as u64))))
        };
        (side(2 * number), side(2 * number + 1))
    };
    Ok((0..count).map(pair).unzip())
}
