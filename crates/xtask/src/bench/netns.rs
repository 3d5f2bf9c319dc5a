//! How two networks, a server and what lies in between become namespaces of this machine, and go again.
//!
//! ```text
//!   a ──eth0─lan── router a ──pub──┐
//!                                  bridge, in the namespace of the server
//!   b ──eth0─lan── router b ──pub──┘
//! ```
//!
//! In the open network, a and b are at the bridge themselves. Nothing of it reaches the machine's own networks.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    thread,
    time::{Duration, Instant},
};

use crate::{
    run::{Result, make_dir, output, run},
    tools,
};

/// Where the server is. The network is one that relays may reach, as they may any peer on the internet: TURN servers, ours
/// and coturn as we configure it, refuse private networks and those for documentation. Of those that are left this one
/// is nobody's in particular (AMT, RFC 7450), and nothing sent to it leaves the namespaces.
pub(super) const SERVER: &str = "192.52.193.1";

/// Namespaces of ours are named so; then come the id of the process that made them, and what they are.
const PREFIX: &str = "coplay-bench-";
/// How long processes that were killed may take to be gone.
const DYING: Duration = Duration::from_secs(2);

/// What lies between a peer and the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Router {
    /// Nothing: it has a public address.
    None,
    /// One port for all destinations; only who was sent something may answer, from that very port (RFC 4787: mapping
    /// endpoint-independent, filtering address- and port-dependent). Most home routers are so.
    Cone,
    /// Another port for each destination, with the same filtering.
    Symmetric,
    /// As a cone, and no UDP passes.
    NoUdp,
}

/// One of the namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    Server,
    A,
    B,
}

/// The namespaces of one run, until it is dropped.
pub(super) struct Net {
    spaces: Spaces,
    place: PathBuf,
}

/// Namespaces that are removed when this is dropped.
pub(super) struct Spaces {
    prefix: String,
    names: Vec<String>,
}

impl Net {
    /// Lays the network out. `place`: a folder for the rules of the routers.
    pub(super) fn new(a: Router, b: Router, place: &Path) -> Result<Self> {
        make_dir(place)?;
        let mut net = Self { spaces: Spaces::new(), place: place.to_owned() };
        let spaces = &mut net.spaces;
        let server = spaces.add("server")?;
        spaces.ip(&["-n", &server, "link", "add", "bridge", "type", "bridge"])?;
        spaces.up(&server, "bridge", &format!("{SERVER}/24"), None)?;
        for (number, (side, router)) in [("a", a), ("b", b)].into_iter().enumerate() {
            let spaces = &mut net.spaces;
            let peer = spaces.add(side)?;
            let public = format!("192.52.193.{}/24", 11 + number);
            if router == Router::None {
                spaces.wire(&peer, "eth0", &server, side)?;
                spaces.up(&peer, "eth0", &public, Some(SERVER))?;
            } else {
                let space = spaces.add(&format!("router-{side}"))?;
                spaces.wire(&space, "pub", &server, side)?;
                spaces.up(&space, "pub", &public, Some(SERVER))?;
                spaces.wire(&space, "lan", &peer, "eth0")?;
                let gateway = format!("192.168.{}.1", 1 + number);
                spaces.up(&space, "lan", &format!("{gateway}/24"), None)?;
                spaces.up(&peer, "eth0", &format!("192.168.{}.2/24", 1 + number), Some(&gateway))?;
                spaces.shell(&space, "echo 1 > /proc/sys/net/ipv4/ip_forward")?;
                net.route(&space, router)?;
            }
            net.spaces.ip(&["-n", &server, "link", "set", "dev", side, "master", "bridge", "up"])?;
        }
        Ok(net)
    }

    /// The same program, to run in one of the namespaces.
    pub(super) fn inside(&self, space: Space, program: &Command) -> Command {
        let name = match space {
            Space::Server => "server",
            Space::A => "a",
            Space::B => "b",
        };
        inside(&format!("{}{name}", self.spaces.prefix), program)
    }

    /// Has a router translate and filter.
    fn route(&self, space: &str, router: Router) -> Result {
        let file = self.place.join(format!("{space}.nft"));
        fs::write(&file, rules(router)).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        run(Command::new("ip").args(["netns", "exec", space, "nft", "-f"]).arg(&file))
    }
}

/// The same program, to run in a namespace.
pub(super) fn inside(space: &str, program: &Command) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", space]).arg(program.get_program()).args(program.get_args());
    command
}

impl Spaces {
    /// None yet.
    pub(super) fn new() -> Self {
        Self { prefix: format!("{PREFIX}{}-", process::id()), names: Vec::new() }
    }

    /// Makes a namespace, with loopback and without IPv6, and returns its whole name.
    pub(super) fn add(&mut self, name: &str) -> Result<String> {
        let name = format!("{}{name}", self.prefix);
        self.ip(&["netns", "add", &name])?;
        self.names.push(name.clone());
        // Its link-local addresses would be tried in vain. A kernel may not have it at all.
        self.shell(
            &name,
            "for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 > $f; done 2> /dev/null || true",
        )?;
        self.ip(&["-n", &name, "link", "set", "lo", "up"])?;
        Ok(name)
    }

    /// A cable from one namespace to another.
    fn wire(&self, one: &str, device: &str, other: &str, other_device: &str) -> Result {
        self.ip(&["-n", one, "link", "add", device, "type", "veth", "peer", "name", other_device, "netns", other])
    }

    /// Gives a device an address, and starts it.
    pub(super) fn up(&self, space: &str, device: &str, address: &str, gateway: Option<&str>) -> Result {
        self.ip(&["-n", space, "addr", "add", address, "dev", device])?;
        self.ip(&["-n", space, "link", "set", "dev", device, "up"])?;
        gateway.map_or(Ok(()), |gateway| self.ip(&["-n", space, "route", "add", "default", "via", gateway]))
    }

    fn shell(&self, space: &str, line: &str) -> Result {
        self.ip(&["netns", "exec", space, "sh", "-c", line])
    }

    /// Runs `ip`.
    pub(super) fn ip(&self, arguments: &[&str]) -> Result {
        output(Command::new("ip").args(arguments)).map(drop)
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        for name in &self.names {
            remove(name);
        }
    }
}

/// Gets what namespaces take, or says what is missing; removes what is left of runs that did not end orderly.
pub(super) fn ready() -> Result {
    if !cfg!(target_os = "linux") {
        return Err("network namespaces are Linux's: run this there".to_owned());
    }
    tools::debian_program("ip", "iproute2")?;
    tools::debian_program("nft", "nftables")?;
    if !tools::is_root() {
        return Err("making network namespaces takes root: call this command as root, or with sudo".to_owned());
    }
    let list = output(Command::new("ip").args(["netns", "list"]))?;
    let is_alive = |id: u32| Path::new("/proc").join(id.to_string()).exists();
    leftovers(&list, is_alive).into_iter().for_each(remove);
    Ok(())
}

/// The namespaces of ours whose process is gone, of what `ip netns list` says.
fn leftovers(list: &str, is_alive: impl Fn(u32) -> bool) -> Vec<&str> {
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    let ours = names.filter(|name| {
        let id = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')?.0.parse().ok());
        id.is_some_and(|id| !is_alive(id))
    });
    ours.collect()
}

/// Removes a namespace, and ends what still runs in it.
fn remove(name: &str) {
    let start = Instant::now();
    while let Ok(pids) = output(Command::new("ip").args(["netns", "pids", name]))
        && !pids.trim().is_empty()
        && start.elapsed() < DYING
    {
        for pid in pids.split_whitespace() {
            // One may have ended by itself meanwhile.
            let _ = output(Command::new("kill").args(["-9", pid]));
        }
        thread::sleep(Duration::from_millis(20));
    }
    // There is nobody to tell: what is left goes when the next run starts.
    let _ = output(Command::new("ip").args(["netns", "del", name]));
}

/// What nftables is told. Packets from outside that belong to nothing are dropped ahead of conntrack keeping them, or they
/// would take the port from what goes out later.
fn rules(router: Router) -> String {
    let masquerade = if router == Router::Symmetric { "masquerade fully-random" } else { "masquerade" };
    let udp = if router == Router::NoUdp { "\n    meta l4proto udp drop" } else { "" };
    format!(
        r#"table ip nat {{
  chain outgoing {{
    type nat hook postrouting priority 100;
    oifname "pub" {masquerade}
  }}
}}
table ip filter {{
  chain incoming {{
    type filter hook input priority 0;
    iifname "pub" ct state new,invalid drop
  }}
  chain forwarded {{
    type filter hook forward priority 0;{udp}
    iifname "pub" ct state new,invalid drop
  }}
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routers_differ_in_one_word_each() {
        let (cone, symmetric, no_udp) = (rules(Router::Cone), rules(Router::Symmetric), rules(Router::NoUdp));
        assert_eq!(symmetric.replace(" fully-random", ""), cone);
        assert_eq!(no_udp.replace("\n    meta l4proto udp drop", ""), cone);
        assert!(symmetric != cone && no_udp != cone);
    }

    #[test]
    fn only_what_dead_runs_of_ours_left_is_removed() {
        let list = "coplay-bench-7-a (id: 3)\ncoplay-bench-8-router-a\ncoplay-bench-x-a\nother\ncoplay-bench-9\n\n";
        assert_eq!(leftovers(list, |id| id == 7), ["coplay-bench-8-router-a"]);
        assert_eq!(leftovers(list, |_| true), Vec::<&str>::new());
    }
}
