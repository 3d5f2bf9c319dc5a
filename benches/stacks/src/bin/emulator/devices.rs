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
    traffic::destination,
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
    /// For what B sends, and what a server does.
    b_to_a: Option<Conditions>,
    /// For TCP, whoever sends it; without it, that stays as it is: as all else until it was named once.
    tcp: Option<Conditions>,
}

/// What the threads share.
struct Shared {
    link: Mutex<Link>,
    /// Something is due earlier than it was.
    earlier: Condvar,
    /// Of A, of B, and of the server if there is one.
    devices: Vec<SyncDevice>,
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
    let mut devices = vec![device("--a")?, device("--b")?];
    if value("--s").is_some() {
        devices.push(device("--s")?);
    }
    let sides: Vec<_> = [Side::A, Side::B, Side::S].into_iter().take(devices.len()).collect();
    let (link, earlier, start) = (Mutex::new(Link::new(seed)), Condvar::new(), Instant::now());
    let shared = Arc::new(Shared { link, earlier, devices, start });
    for side in sides {
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
        let orders = [(Side::A, order.a_to_b), (Side::B, order.b_to_a), (Side::S, order.b_to_a)];
        for (side, conditions) in orders {
            if let Some(conditions) = conditions {
                link.set(side, conditions);
            }
        }
        if let Some(conditions) = order.tcp {
            link.set_tcp(conditions);
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

    /// To whom it goes. Where there are three, each is known by the last byte of its address: 1, 2 and 3.
    fn to(&self, from: Side, packet: &[u8]) -> Side {
        match destination(packet).filter(|_| self.devices.len() > 2) {
            Some(1) => Side::A,
            Some(2) => Side::B,
            Some(3) => Side::S,
            _ if from == Side::A => Side::B,
            _ => Side::A,
        }
    }

    fn write(&self) {
        let mut link = self.link();
        loop {
            let now = self.start.elapsed();
            if let Some((side, packet)) = link.next(now) {
                drop(link);
                // A device that is down loses what it is given, as a cable does that is not plugged in.
                if let Some(device) = self.devices.get(self.to(side, &packet) as usize) {
                    let _ = device.send(&packet);
                }
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
