//! What peers of a bench meet on: signaling with STUN, a TURN server or none, and the page, all in one namespace.

use std::{
    env, fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use super::netns::{Net, SERVER, Space};
use crate::{
    interrupt,
    run::{Result, Running, make_dir, root},
};

/// Where coturn listens.
const TURN_PORT: u16 = 3478;
/// Where the page is.
const PAGE_PORT: u16 = 8080;
/// For a server to listen.
const STARTING: Duration = Duration::from_secs(20);
/// What coturn and signaling share. Nobody else reaches them.
const SECRET: &str = "for-this-bench-alone";
/// The configuration that we recommend for coturn.
const COTURN: &str = "signaling/deploy/turnserver.conf";

/// Who relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub(super) enum Turn {
    /// The signaling server.
    Embedded,
    /// coturn, by UDP and TCP.
    Coturn,
    /// Nobody, not even signaling by its WebSockets.
    None,
}

/// They run until this is dropped.
pub(super) struct Servers {
    _running: Vec<Running>,
}

impl Servers {
    /// Starts them. `programs`: the folder with signaling; `page`: that of the page, if one is needed; `place`: for logs.
    pub(super) fn start(net: &Net, turn: Turn, programs: &Path, page: Option<&Path>, place: &Path) -> Result<Self> {
        make_dir(place)?;
        let mut running = Vec::new();
        let mut start = |name: &str, command: &Command, ready: &str| -> Result {
            running.push(serve(name, &mut net.inside(Space::Server, command), ready, place)?);
            Ok(())
        };
        let write = |name: &str, text: &str| {
            let file = place.join(name);
            fs::write(&file, text).map_err(|error| format!("cannot write {}: {error}", file.display())).map(|()| file)
        };
        let mut signaling = Command::new(programs.join("coplay-signaling"));
        signaling.args(["--listen", "0.0.0.0:3536"]);
        match turn {
            Turn::Embedded => _ = signaling.args(["--turn-embedded", "--turn-external-ip", SERVER]),
            Turn::Coturn => {
                let recommended = root().join(COTURN);
                let recommended = fs::read_to_string(&recommended)
                    .map_err(|error| format!("cannot read {}: {error}", recommended.display()))?;
                let config = write("turnserver.conf", &coturn(&recommended, place))?;
                start("coturn", Command::new("turnserver").arg("-c").arg(config), "Total General servers")?;
                let secret = write("turn-secret", SECRET)?;
                let url = format!("turn:{SERVER}:{TURN_PORT}");
                signaling.args(["--turn", &url, "--turn", &format!("{url}?transport=tcp")]);
                signaling.arg("--turn-secret-file").arg(secret);
            }
            // Neither does signaling.
            Turn::None => _ = signaling.arg("--no-relay"),
        }
        start("signaling", &signaling, "listening on")?;
        if let Some(page) = page {
            let own = env::current_exe().map_err(|error| format!("cannot tell where xtask is: {error}"))?;
            let listen = format!("{SERVER}:{PAGE_PORT}");
            start("page", Command::new(own).arg("serve-page").arg(page).arg(listen), "serving")?;
        }
        Ok(Self { _running: running })
    }
}

/// Starts a server and waits until it has said that it is `ready`. `place`: for its log.
pub(super) fn serve(name: &str, command: &mut Command, ready: &str, place: &Path) -> Result<Running> {
    let mut server = Running::start(name, command, Some(&place.join(format!("{name}.log"))))?;
    let start = Instant::now();
    while !server.log().contains(ready) {
        interrupt::check()?;
        server.check()?;
        if start.elapsed() > STARTING {
            return Err(format!("{name} does not start{}", server.last_words()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(server)
}

/// The URL of a room.
pub(super) fn room(name: &str) -> String {
    format!("ws://{SERVER}:3536/{name}")
}

/// The URL of the page.
pub(super) fn page(query: &str) -> String {
    format!("http://{SERVER}:{PAGE_PORT}/?{query}")
}

/// The configuration that we recommend, for here: at this address, and without TLS (there is no certificate).
fn coturn(recommended: &str, place: &Path) -> String {
    const ELSEWHERE: [&str; 4] = ["tls-listening-port=", "cert=", "pkey=", "no-tlsv1"];
    let kept = recommended.lines().filter(|line| !ELSEWHERE.iter().any(|other| line.starts_with(other)));
    let kept: Vec<_> = kept.map(|line| line.replace("SECRET", SECRET).replace("PUBLIC", SERVER)).collect();
    let (kept, pid) = (kept.join("\n"), place.join("coturn.pid"));
    format!("{kept}\nlistening-ip={SERVER}\nrelay-ip={SERVER}\nno-tls\npidfile={}\n", pid.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coturn_runs_as_we_recommend_it() {
        let recommended = fs::read_to_string(root().join(COTURN)).expect("it is in the repository");
        let config = coturn(&recommended, Path::new("/p"));
        let says = |line: &str| config.lines().any(|own| own == line);
        assert!(says(&format!("static-auth-secret={SECRET}")) && says(&format!("external-ip={SERVER}")), "{config}");
        assert!(says("use-auth-secret") && says("no-tcp-relay") && says("denied-peer-ip=10.0.0.0-10.255.255.255"));
        assert!(says("no-tls") && !config.lines().any(|line| line.starts_with("cert=")));
    }
}
