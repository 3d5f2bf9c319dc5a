//! A peer, or the signaling server, as a process of its own: this very program, told by its environment what to be.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use coplay_signaling::{Config, Signaling, Stun};
use coplay_socket::SocketConfig;

use crate::game::{self, SAYS, say};

/// What to be: `peer URL`, `peer-at PORT URL` or `server ADDRESS`.
const ROLE: &str = "COPLAY_LIFE";

/// The actor, seen from the test. It ends with this.
pub(crate) struct Actor {
    name: &'static str,
    child: Child,
    orders: ChildStdin,
    heard: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Actor {
    /// Starts a peer of the room with this URL.
    pub(crate) fn peer(name: &'static str, url: &str) -> Self {
        Self::start(name, &format!("peer {url}"), None)
    }

    /// The same in a network namespace, with this port for all of its peers, if there is one.
    pub(crate) fn peer_in(name: &'static str, url: &str, space: &str, port: Option<u16>) -> Self {
        let role = match port {
            Some(port) => format!("peer-at {port} {url}"),
            None => format!("peer {url}"),
        };
        Self::start(name, &role, Some(space))
    }

    /// Starts a server in a network namespace.
    pub(crate) fn server_in(address: &str, space: &str) -> Self {
        Self::start("server", &format!("server {address}"), Some(space))
    }

    fn start(name: &'static str, role: &str, space: Option<&str>) -> Self {
        let program = env::current_exe().expect("it runs");
        let mut command = match space {
            Some(space) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", space]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(["--exact", "actor", "--nocapture", "--include-ignored"]).env(ROLE, role);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let heard = Arc::<Mutex<Vec<_>>>::default();
        let (output, into) = (child.stdout.take().expect("piped"), heard.clone());
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some((_, said)) = line.split_once(SAYS) {
                    into.lock().expect("no panic").push((Instant::now(), said.to_owned()));
                }
            }
        });
        Self { name, orders: child.stdin.take().expect("piped"), child, heard }
    }

    /// Sends the process a signal: `-STOP`, `-CONT`, `-KILL`.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("there is kill");
        assert!(sent.success());
    }

    pub(crate) fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").expect("it listens");
    }

    /// Everything that it said since then.
    pub(crate) fn said(&self, since: Instant) -> Vec<(Instant, String)> {
        self.heard.lock().expect("no panic").iter().filter(|(at, _)| *at >= since).cloned().collect()
    }

    /// When it said something that begins like this, since then; waits for it, but no longer than that.
    pub(crate) fn says(&self, since: Instant, begin: &str, limit: Duration) -> (Instant, String) {
        let end = Instant::now() + limit;
        loop {
            let said = self.said(since);
            if let Some(found) = said.iter().find(|(_, said)| said.starts_with(begin)) {
                return found.clone();
            }
            let news: Vec<_> = said.iter().map(|(_, said)| &**said).filter(|said| !said.starts_with("count")).collect();
            assert!(Instant::now() < end, "{} does not say {begin:?} within {limit:?}, but {news:?}", self.name);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it said something that begins like this, since then.
    pub(crate) fn has_said(&self, since: Instant, begin: &str) -> bool {
        self.said(since).iter().any(|(_, said)| said.starts_with(begin))
    }

    /// The id that signaling gave it.
    pub(crate) fn id(&self, since: Instant) -> String {
        let (_, said) = self.says(since, "entered", Duration::from_secs(20));
        said.split(' ').nth(1).expect("its id").to_owned()
    }

    /// How many events it has sent to another and got from it.
    pub(crate) fn counts(&self, other: &str) -> (u32, u32) {
        let heard = self.heard.lock().expect("no panic");
        let of = format!("count {other} ");
        let Some((_, said)) = heard.iter().rev().find(|(_, said)| said.starts_with(&of)) else { return (0, 0) };
        let mut numbers = said[of.len()..].split(' ').map(|number| number.parse().expect("a number"));
        (numbers.next().expect("sent"), numbers.next().expect("got"))
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // It may be gone already, or stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            for (_, said) in &*self.heard.lock().expect("no panic") {
                if !said.starts_with("count") {
                    eprintln!("{}: {said}", self.name);
                }
            }
        }
    }
}

/// What the process does that a test started.
pub(crate) fn act() {
    let Ok(role) = env::var(ROLE) else { return };
    match role.split_once(' ') {
        Some(("peer", url)) => game::run(SocketConfig::new(url)),
        Some(("peer-at", rest)) => {
            let (port, url) = rest.split_once(' ').expect("a port and a URL");
            let port: u16 = port.parse().expect("a port");
            game::run(SocketConfig { udp_ports: Some(port..=port), ..SocketConfig::new(url) });
        }
        Some(("server", address)) => {
            let config = Config { listen: address.parse().expect("an address"), ..Config::local().stun(Stun::Off) };
            let server = Signaling::spawn(config).expect("it starts");
            say(&format!("listens {}", server.local_addr()));
            // Until it is ended.
            let _ = std::io::stdin().lines().count();
        }
        _ => panic!("{ROLE} is {role:?}"),
    }
}
