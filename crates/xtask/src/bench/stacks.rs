//! How the programs that measure other stacks beside coplay are built, run on this machine's own loopback, and understood.

use std::{
    env, fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{loss::Pair, peers::said, servers::serve};
use crate::{
    browser, interrupt,
    run::{Result, Running, cargo, make_dir, root, run, say, target},
    web,
};

/// Where the programs are, a package outside of the workspace: its `Cargo.toml` says why.
const PACKAGE: &str = "benches/stacks";
/// For a process to start.
const STARTING: Duration = Duration::from_secs(20);
/// How often it is looked whether something was said.
const LOOK: Duration = Duration::from_millis(20);

/// Builds programs of the package, optimised, where the workspace is built; with `signaling`, our server as well. Returns their
/// folder.
pub(super) fn build(names: &[&str], signaling: bool) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--release", "--manifest-path"]).arg(Path::new(PACKAGE).join("Cargo.toml"));
    command.args(names.iter().flat_map(|name| ["--bin", name]));
    run(command.env("CARGO_TARGET_DIR", target()?))?;
    if signaling {
        run(cargo().args(["build", "--release", "-p", "coplay_signaling", "--bin", "coplay-signaling"]))?;
    }
    Ok(target()?.join("release"))
}

/// Builds a program of the package as a page; returns its folder.
pub(super) fn build_page(name: &str) -> Result<PathBuf> {
    let index = Path::new("src/bin").join(name).join("index.html");
    web::build_in(&root().join(PACKAGE), &[], name, web::Profile::Web, &index)
}

/// An address of loopback where nobody listens.
pub(super) fn free_address() -> Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    listener.map(|address| address.to_string()).map_err(|error| format!("no port is free: {error}"))
}

/// Starts our signaling server at this address, to be run by `inside`, such as within a namespace. It relays nothing, rooms may
/// have a host and 64 guests, and all peers come from the same few addresses.
pub(super) fn signaling(
    programs: &Path,
    address: &str,
    place: &Path,
    inside: impl Fn(&Command) -> Command,
) -> Result<Running> {
    let mut command = Command::new(programs.join("coplay-signaling"));
    command.args([
        "--no-relay",
        "--max-room-peers",
        "65",
        "--address-joins",
        "9999/9999",
        "--address-rooms",
        "9999/9999",
    ]);
    command.args(["--listen", address]);
    serve("signaling", &mut inside(&command), "listening on", place)
}

/// Serves a page at this address.
pub(super) fn page(folder: &Path, address: &str, place: &Path) -> Result<Running> {
    let own = env::current_exe().map_err(|error| format!("cannot tell where xtask is: {error}"))?;
    serve("page", Command::new(own).arg("serve-page").arg(folder).arg(address), "serving", place)
}

/// The two sides of a pair that runs on this machine.
pub(super) struct Couple {
    /// Always native, and takes orders.
    pub(super) a: Running,
    pub(super) b: Running,
    /// What the browser stored, tens of MB.
    profile: Option<PathBuf>,
}

impl Couple {
    /// Starts side A and, as soon as it says that it is ready, side B. `mark`: as [`said`] takes it; `page`: where the page
    /// is served, for a pair with a browser.
    pub(super) fn start(
        program: &str,
        mark: &str,
        pair: Pair,
        settings: &[(&str, String)],
        page: &str,
        programs: &Path,
        place: &Path,
    ) -> Result<Self> {
        make_dir(place)?;
        let peer = |side: &str| {
            let mut command = Command::new(programs.join(program));
            command.args(["--side", side]);
            for (name, value) in settings {
                command.arg(format!("--{name}")).arg(value);
            }
            command
        };
        let mut a = Running::start_listening(program, &mut peer("a"), Some(&place.join("a.log")))?;
        let is_ready = |said: &[Value]| said.iter().any(|said| said["event"] == "ready").then_some(());
        wait(&mut a, mark, STARTING, "begin", is_ready)?;
        let b = match pair {
            Pair::NativeNative => Running::start(program, &mut peer("b"), Some(&place.join("b.log")))?,
            Pair::NativeWeb => {
                let query: Vec<_> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
                browser::open_headless("b", &format!("http://{page}/?side=b&{}", query.join("&")), place)?
            }
        };
        let profile = (pair == Pair::NativeWeb).then(|| browser::profile("b", place));
        Ok(Self { a, b, profile })
    }
}

impl Drop for Couple {
    fn drop(&mut self) {
        self.b.stop();
        if let Some(profile) = &self.profile {
            let _ = fs::remove_dir_all(profile);
        }
    }
}

/// The same program, to be run as it is: what `inside` is where there are no namespaces.
pub(super) fn here(program: &Command) -> Command {
    let mut command = Command::new(program.get_program());
    command.args(program.get_args());
    command
}

/// Waits until what a program says has what is looked for; an error if it says that it failed. `mark`: as [`said`] takes it.
pub(super) fn wait<T: DeserializeOwned, R>(
    program: &mut Running,
    mark: &str,
    limit: Duration,
    what: &str,
    find: impl Fn(&[T]) -> Option<R>,
) -> Result<R> {
    let start = Instant::now();
    loop {
        interrupt::check()?;
        if let Some(found) = find(&heard(program, mark)?) {
            return Ok(found);
        }
        program.check()?;
        if start.elapsed() > limit {
            return Err(format!("{} does not {what} within {limit:?}{}", program.name, program.last_words()));
        }
        std::thread::sleep(LOOK);
    }
}

/// What a program has said so far; an error if it says that it failed.
pub(super) fn heard<T: DeserializeOwned>(program: &Running, mark: &str) -> Result<Vec<T>> {
    heard_in(&program.log(), mark).map_err(|error| format!("{}: {error}", program.name))
}

fn heard_in<T: DeserializeOwned>(log: &str, mark: &str) -> Result<Vec<T>> {
    #[derive(Deserialize)]
    #[serde(tag = "event", rename_all = "snake_case")]
    enum Failure {
        Failed { reason: String },
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Word<T> {
        Failure(Failure),
        Known(T),
    }
    let word = |word| match word {
        Word::Known(known) => Ok(known),
        Word::Failure(Failure::Failed { reason }) => Err(reason),
    };
    said::<Word<T>>(log, mark)?.into_iter().map(word).collect()
}

/// How much is missing to what is to be reached.
pub(super) fn verdict(whom: &str, faults: &[String]) -> Result {
    if faults.is_empty() {
        say(&format!("{whom}: all that was to be reached is reached"));
        Ok(())
    } else {
        Err(format!("{whom} does not reach what is to be reached:\n  {}", faults.join("\n  ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(tag = "event", rename_all = "snake_case")]
    enum Said {
        Open { count: usize },
    }

    #[test]
    fn what_is_said_is_heard_and_a_failure_is_an_error() {
        let open = "peer {\"event\":\"open\",\"count\":3}\n";
        assert_eq!(heard_in(&format!("noise\n{open}"), "peer {"), Ok(vec![Said::Open { count: 3 }]));
        let failed = format!("{open}peer {{\"event\":\"failed\",\"reason\":\"no port\"}}\n");
        assert_eq!(heard_in::<Said>(&failed, "peer {"), Err("no port".to_owned()));
        assert!(heard_in::<Said>("peer {\"event\":\"sneezed\"}\n", "peer {").is_err());
    }
}
