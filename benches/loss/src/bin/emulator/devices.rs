//! How packets get from the one device to the other: a thread that reads each, and one that writes what is due.

use std::{
    env,
    io::{self, BufRead},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::json;
use tun_rs::{DeviceBuilder, SyncDevice};

use super::{
    link::{Link, SIDES, Side},
    path::Conditions,
};

/// Of a packet, at the most: that of nearly every path on the internet.
const MTU: u16 = 1500;
/// When to read again from a device that is between two namespaces.
const RETRY: Duration = Duration::from_millis(5);

/// One line of the input.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    /// Comes back in the answer.
    #[serde(default)]
    label: String,
    /// For what A sends; without it, that stays as it is.
    a_to_b: Option<Conditions>,
    /// For what B sends.
    b_to_a: Option<Conditions>,
}

/// What the threads share.
struct Shared {
    link: Mutex<Link>,
    /// Something is due earlier than it was.
    earlier: Condvar,
    devices: [SyncDevice; 2],
    start: Instant,
}

/// Runs until the input ends.
pub(super) fn run() -> Result<(), String> {
    let arguments: Vec<_> = env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)).map(String::as_str)
    };
    let seed = value("--seed").unwrap_or("1");
    let seed = seed.parse().map_err(|error| format!("--seed {seed}: {error}"))?;
    let device = |name: &str| {
        let name = value(name).ok_or_else(|| format!("{name} NAME is missing"))?;
        let made = DeviceBuilder::new().name(name).mtu(MTU).enable(false).build_sync();
        made.map_err(|error| format!("cannot make the device {name}, which takes root and /dev/net/tun: {error}"))
    };
    let devices = [device("--a")?, device("--b")?];
    let (link, earlier, start) = (Mutex::new(Link::new(seed)), Condvar::new(), Instant::now());
    let shared = Arc::new(Shared { link, earlier, devices, start });
    for side in SIDES {
        let shared = shared.clone();
        thread::spawn(move || shared.read(side));
    }
    let writing = shared.clone();
    thread::spawn(move || writing.write());
    println!("{}", json!({ "event": "ready" }));
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|error| format!("cannot read orders: {error}"))?;
        let order: Order = serde_json::from_str(&line).map_err(|error| format!("{line:?} is no order: {error}"))?;
        let mut link = shared.link();
        let [a, b] = SIDES.map(|side| link.counters(side));
        for (side, conditions) in [(Side::A, order.a_to_b), (Side::B, order.b_to_a)] {
            if let Some(conditions) = conditions {
                link.set(side, conditions);
            }
        }
        drop(link);
        println!("{}", json!({ "event": "sent", "label": order.label, "a_to_b": a, "b_to_a": b }));
    }
    Ok(())
}

impl Shared {
    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, side: Side) {
        let mut buffer = vec![0; usize::from(MTU) + 64];
        loop {
            match self.devices[side as usize].recv(&mut buffer) {
                Ok(bytes) => {
                    let packet = buffer.get(..bytes).unwrap_or_default().to_vec();
                    let mut link = self.link();
                    let before = link.deadline();
                    link.send(self.start.elapsed(), side, packet);
                    let after = link.deadline();
                    drop(link);
                    if after.is_some() && before.is_none_or(|before| after < Some(before)) {
                        self.earlier.notify_one();
                    }
                }
                Err(_) => thread::sleep(RETRY),
            }
        }
    }

    fn write(&self) {
        let mut link = self.link();
        loop {
            let now = self.start.elapsed();
            if let Some((side, packet)) = link.next(now) {
                drop(link);
                let to = match side {
                    Side::A => Side::B,
                    Side::B => Side::A,
                };
                // A device that is down loses what it is given, as a cable does that is not plugged in.
                let _ = self.devices[to as usize].send(&packet);
                link = self.link();
                continue;
            }
            link = match link.deadline() {
                Some(due) => {
                    let wait = due.saturating_sub(now);
                    self.earlier.wait_timeout(link, wait).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.earlier.wait(link).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}
