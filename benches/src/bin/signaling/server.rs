//! The server that is asked.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::Result;

/// How long one may take to listen.
const START: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Coplay,
    Matchbox,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Coplay => "coplay",
            Self::Matchbox => "matchbox_server",
        }
    }
}

/// A process that ends with this.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Server {
    pub(crate) fn start(kind: Kind, path: &Path) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(path);
        match kind {
            Kind::Coplay => command.args(["--no-stun", "--listen"]).arg(address.to_string()).env("COPLAY_LOG", "error"),
            Kind::Matchbox => command.arg(address.to_string()).env("RUST_LOG", "error"),
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let server = Self { kind, address, child };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if start.elapsed() > START {
                return Err(format!("{} does not listen at {address}", kind.name()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// What of its memory is in use (RSS), in units of 1,000 bytes.
    pub(crate) fn memory_kb(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
        let kib: f64 = line.split_whitespace().nth(1).ok_or("no figure")?.parse()?;
        Ok(kib * 1.024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
