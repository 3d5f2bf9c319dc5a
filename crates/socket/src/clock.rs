//! What time is it? Monotonic, the same on every thread, in the browser too.

use std::{sync::OnceLock, time::Duration};

use web_time::Instant;

/// Time since this was first asked in this process. Never goes back.
pub fn now() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}
