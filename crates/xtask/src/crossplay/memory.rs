//! How much memory do the peers of a match take while it is played?

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::Duration,
};

/// How often it is looked in the course of a match, and how often at the most.
const SAMPLES: u32 = 100;
const LEAST: Duration = Duration::from_secs(1);

/// Looks, until it is told to end.
pub(super) struct Watch {
    end: mpsc::Sender<()>,
    thread: JoinHandle<BTreeMap<String, Vec<f64>>>,
}

impl Watch {
    /// Looks at these processes and all below them, by name and id. Where there is no `/proc`, it sees nothing of them.
    pub(super) fn start(programs: Vec<(String, u32)>, time: Duration) -> Self {
        let (end, ended) = mpsc::channel();
        let pause = (time / SAMPLES).max(LEAST);
        let thread = thread::spawn(move || {
            let mut seen = BTreeMap::<String, Vec<f64>>::new();
            while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let processes = processes();
                for (name, id) in &programs {
                    let kb: u64 = below(*id, &processes).iter().filter_map(|id| resident(*id)).sum();
                    // Whoever cannot be looked at is in it too: without a sample.
                    let samples = seen.entry(name.clone()).or_default();
                    if kb > 0 {
                        samples.push(kb as f64 / 1024.0);
                    }
                }
            }
            seen
        });
        Self { end, thread }
    }

    /// What was seen, in MB, by name.
    pub(super) fn end(self) -> BTreeMap<String, Vec<f64>> {
        drop(self.end);
        self.thread.join().unwrap_or_default()
    }
}

/// Every process and what started it.
fn processes() -> Vec<(u32, u32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(|id: u32| Some((id, field(id, "PPid:")? as u32))).collect()
}

fn below(id: u32, processes: &[(u32, u32)]) -> BTreeSet<u32> {
    let mut all = BTreeSet::from([id]);
    loop {
        let more: Vec<u32> = processes
            .iter()
            .filter(|(id, parent)| all.contains(parent) && !all.contains(id))
            .map(|(id, _)| *id)
            .collect();
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

/// In KB.
fn resident(id: u32) -> Option<u64> {
    field(id, "VmRSS:")
}

/// A number in what the kernel says of a process.
fn field(id: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_and_theirs_are_found() {
        let processes = [(1, 0), (5, 1), (7, 5), (8, 7), (9, 1)];
        assert_eq!(below(5, &processes), BTreeSet::from([5, 7, 8]));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_takes_memory() {
        assert!(resident(std::process::id()).is_some_and(|kb| kb > 1000));
    }
}
