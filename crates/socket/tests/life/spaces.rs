//! Three network namespaces: a peer with two networks, the internet, and another peer. Linux, as root.
//!
//! ```text
//!   a ──wifi── 10.77.1.0/24 ──┐
//!                             hub (routes; the server, at 10.77.9.1) ── 10.77.3.0/24 ── b
//!   a ──lte─── 10.77.2.0/24 ──┘
//! ```

use std::process::{Command, Stdio};

/// Where the server is.
pub(crate) const SERVER: &str = "10.77.9.1";

/// Removed when this is dropped.
pub(crate) struct Spaces {
    prefix: String,
}

impl Spaces {
    /// For a test of this name. `None`, and says so, where they cannot be made.
    pub(crate) fn make(test: &str) -> Option<Self> {
        let spaces = Self { prefix: format!("coplay-life-{}-{test}-", std::process::id()) };
        if !cfg!(target_os = "linux") || !ip(&format!("netns add {}a", spaces.prefix)) {
            eprintln!("SKIPPED: this test makes network namespaces, which takes Linux, iproute2 and root");
            return None;
        }
        let [a, b, hub] = ["a", "b", "hub"].map(|name| spaces.name(name));
        let all = [
            format!("netns add {b}"),
            format!("netns add {hub}"),
            format!("-n {a} link set lo up"),
            format!("-n {b} link set lo up"),
            format!("-n {hub} link set lo up"),
            format!("-n {hub} addr add {SERVER}/32 dev lo"),
            format!("-n {a} link add wifi type veth peer name wifi netns {hub}"),
            format!("-n {a} link add lte type veth peer name lte netns {hub}"),
            format!("-n {b} link add eth type veth peer name eth netns {hub}"),
            format!("-n {hub} addr add 10.77.1.1/24 dev wifi"),
            format!("-n {hub} addr add 10.77.2.1/24 dev lte"),
            format!("-n {hub} addr add 10.77.3.1/24 dev eth"),
            format!("-n {hub} link set wifi up"),
            format!("-n {hub} link set lte up"),
            format!("-n {hub} link set eth up"),
            format!("-n {b} addr add 10.77.3.2/24 dev eth"),
            format!("-n {b} link set eth up"),
            format!("-n {b} route add default via 10.77.3.1"),
        ];
        for arguments in &all {
            assert!(ip(arguments), "ip {arguments}");
        }
        let forward = ["netns", "exec", &hub, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"];
        assert!(Command::new("ip").args(forward).status().is_ok_and(|status| status.success()));
        spaces.up("wifi", 1);
        Some(spaces)
    }

    pub(crate) fn name(&self, space: &str) -> String {
        format!("{}{space}", self.prefix)
    }

    /// The wireless network of a goes, and with it its address and route.
    pub(crate) fn wifi_down(&self) {
        let a = self.name("a");
        assert!(ip(&format!("-n {a} addr flush dev wifi")) && ip(&format!("-n {a} link set wifi down")));
    }

    /// The mobile network of a comes.
    pub(crate) fn lte_up(&self) {
        self.up("lte", 2);
    }

    fn up(&self, device: &str, net: u8) {
        let a = self.name("a");
        assert!(ip(&format!("-n {a} addr add 10.77.{net}.2/24 dev {device}")));
        assert!(ip(&format!("-n {a} link set {device} up")));
        assert!(ip(&format!("-n {a} route add default via 10.77.{net}.1")));
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        for name in ["a", "b", "hub"] {
            let _ = ip(&format!("netns del {}", self.name(name)));
        }
    }
}

fn ip(arguments: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(arguments.split(' ')).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
