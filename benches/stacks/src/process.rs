//! What does this process take of the machine? Linux tells; elsewhere nothing is known.

use std::fs;

/// Ticks of the clock that processor time is told in, per second: what Linux has everywhere (proc(5), `USER_HZ`).
const TICKS: f64 = 100.0;

/// Processor time that it has taken so far, of all its threads, in seconds.
pub fn seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name, the second field, may have anything in it but ends with the last parenthesis.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

/// Memory that is resident now, in kB.
pub fn resident_kb() -> Option<f64> {
    status("VmRSS:")
}

/// The most that ever was, in kB.
pub fn peak_kb() -> Option<f64> {
    status("VmHWM:")
}

fn status(name: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_something() {
        let before = seconds().expect("Linux tells");
        // It works until its time is told to be more: in steps of 10 ms, and others work, too.
        while seconds() == Some(before) {}
        assert!(seconds() > Some(before));
        assert!(resident_kb() > Some(100.0) && peak_kb() >= resident_kb());
    }
}
