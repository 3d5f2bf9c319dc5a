//! Both sides of coplay's events in one process, over its conditioner: for machines where no path can be emulated.

use std::time::Duration;

use coplay_proto::conditioner::{Bursts, Conditions};
use coplay_socket::{Conditioned, MemoryHub};

use crate::{coplay::Coplay, game::Connection};

/// Bursts of the conditioner are counted in datagrams: about so many are lost together.
const BURST: f64 = 3.0;

/// The connections of each side.
type Sides = (Vec<Box<dyn Connection>>, Vec<Box<dyn Connection>>);

/// Pairs over a path that the command line describes: `--delay MS --jitter MS --loss PERCENT --burst BOOL`.
pub(super) fn pairs(count: usize, arguments: &[String]) -> Result<Sides, String> {
    let number = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        let text = at.and_then(|at| arguments.get(at + 1)).ok_or_else(|| format!("{name} is missing"))?;
        text.parse::<f64>().map_err(|error| format!("{name} is {text:?}: {error}"))
    };
    let ms = |name: &str| number(name).map(|ms| Duration::from_secs_f64(ms.max(0.0) / 1e3));
    let share = number("--loss")? / 100.0;
    let plain = Conditions { latency: ms("--delay")?, jitter: ms("--jitter")?, ..Conditions::PERFECT };
    let conditions = if arguments.iter().any(|argument| argument == "true") {
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
