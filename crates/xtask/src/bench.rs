//! How the figures of the README and the docs are measured.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::PathBuf,
};

use serde::Serialize;
use serde_json::Value;

use crate::run::{Result, cargo, make_dir, output, root, run, say, table, target};

mod bulk;
mod connect;
mod emulated;
mod latency;
mod links;
mod loss;
mod narrow;
mod nat;
mod netns;
mod peers;
mod plot;
mod relay;
mod rooms;
mod servers;
mod signaling;
mod stacks;

/// What `bench` is asked for.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Show what the presets of the conditioner do to frames of a game.
    Conditions {
        /// Draw the picture of the docs.
        #[arg(long)]
        docs: bool,
    },
    /// Measure how fast 64 MiB get to another peer, native and in a browser, and how late events are beside them: coplay, `webrtc`,
    /// a WebSocket (Linux).
    Bulk(bulk::Options),
    /// Measure how long connections take from making a socket to the first event, and how many come to nothing, over loopback
    /// and over a path of 50 ms without and with loss (that takes root, Linux).
    Connect(connect::Options),
    /// Measure round trips of small messages over loopback: coplay's socket and events, UDP, `webrtc`, `matchbox_socket`.
    Latency(latency::Options),
    /// Measure what a host with 16 and with 64 guests takes of its machine, and how soon it knows that they are gone (Linux).
    Links(links::Options),
    /// Measure how late small reliable messages are where the path loses some: coplay's events, raw data channels,
    /// `matchbox_socket`, a WebSocket, renet (root, Linux; without root, coplay over its conditioner).
    Loss(loss::Options),
    /// Measure how old state and how late events are while the path narrows to 200 kbit/s and widens again (root, Linux).
    Narrow(narrow::Options),
    /// Connect peers through every kind of NAT, with and without TURN, in network namespaces of this machine (root, Linux).
    Nat(nat::Options),
    /// Measure what relaying adds to the round trip, in network namespaces of this machine (root, Linux).
    Relay(relay::Options),
    /// Measure what each peer of a room sends, receives and computes: meshes of 2 to 16, hosts of 2 to 64 (Linux).
    Rooms(rooms::Options),
    /// Measure our signaling server beside an unmodified `matchbox_server`, with 10,000 peers; fails if ours misses one of
    /// its goals (Linux).
    Signaling,
    /// Run another program of the benches package, such as `session`.
    #[command(external_subcommand)]
    Program(Vec<OsString>),
}

/// Measures; shows a table, and writes the rows to `target/bench/NAME.json`.
pub(crate) fn bench(options: &Options) -> Result {
    match &options.what {
        What::Conditions { docs } => conditions(*docs),
        What::Bulk(options) => bulk::bench(options),
        What::Connect(options) => connect::bench(options),
        What::Latency(options) => latency::bench(options),
        What::Links(options) => links::bench(options),
        What::Loss(options) => loss::bench(options),
        What::Narrow(options) => narrow::bench(options),
        What::Nat(options) => nat::bench(options),
        What::Relay(options) => relay::bench(options),
        What::Rooms(options) => rooms::bench(options),
        What::Signaling => signaling::bench(),
        What::Program(words) => match words.as_slice() {
            [name] => program(&name.to_string_lossy(), &[]),
            _ => Err("name one program of the benches package, without arguments".to_owned()),
        },
    }
}

fn conditions(docs: bool) -> Result {
    let picture = root().join("docs/images/conditions.svg");
    if !docs {
        return program("conditions", &[]);
    }
    program("conditions", &[picture.as_os_str()])?;
    say(&format!("drew {}", picture.display()));
    Ok(())
}

/// Runs a program of the benches package, optimised, that prints rows of JSON, one a line.
fn program(name: &str, arguments: &[&OsStr]) -> Result {
    rows_of(name, arguments).map(|_| ())
}

/// The same; returns the rows as well.
fn rows_of(name: &str, arguments: &[&OsStr]) -> Result<Vec<Value>> {
    say(&format!("measuring {name}"));
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "-p", "coplay_benches", "--bin", name, "--"]).args(arguments);
    let printed = output(command.stderr(std::process::Stdio::inherit()))?;
    let rows: Vec<Value> = printed
        .lines()
        .map(|line| serde_json::from_str(line).map_err(|error| format!("{name} printed {line:?}, not JSON: {error}")))
        .collect::<Result<_>>()?;
    let mut lines: Vec<Vec<String>> = Vec::new();
    for row in &rows {
        let Some(row) = row.as_object() else { return Err(format!("{name} printed {row}, not an object")) };
        if lines.is_empty() {
            lines.push(row.keys().cloned().collect());
        }
        lines.push(row.values().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect());
    }
    println!("{}", table(&lines));
    write(name, &rows)?;
    Ok(rows)
}

/// Writes rows to `target/bench/NAME.json`.
fn write(name: &str, rows: &[impl Serialize]) -> Result {
    let place = target()?.join("bench");
    make_dir(&place)?;
    let file = place.join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(&rows).map_err(|error| error.to_string())?;
    fs::write(&file, text + "\n").map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    say(&format!("wrote {}", file.display()));
    Ok(())
}

/// Of times from short to long, the one that this share of them does not exceed.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
}

/// Builds the peer for this machine and the signaling server, optimised; returns their folder.
fn build_peers() -> Result<PathBuf> {
    let mut command = cargo();
    // Not the whole workspace: neither stands on Bevy.
    command.args(["build", "--release", "-p", "coplay_benches", "-p", "coplay_signaling"]);
    run(command.args(["--bin", peers::PROGRAM, "--bin", "coplay-signaling"]))?;
    Ok(target()?.join("release"))
}

/// Where the tables of measured figures are.
const DOCS: &str = "docs/TURN.md";

/// Puts a table into the docs, in place of the one that is there.
fn document(name: &str, table: &str) -> Result {
    let file = root().join(DOCS);
    let cannot = |error| format!("cannot rewrite {}: {error}", file.display());
    let text = fs::read_to_string(&file).map_err(cannot)?;
    let text =
        replaced(&text, name, table).ok_or_else(|| format!("{DOCS} has no place for the table of bench {name}"))?;
    fs::write(&file, text).map_err(cannot)?;
    say(&format!("wrote the table of {DOCS}"));
    Ok(())
}

/// The text with this table between the marks of this name.
fn replaced(text: &str, name: &str, table: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- bench {name} -->\n"), "<!-- end -->");
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}{table}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_times() {
        let times: Vec<_> = (1..=200).map(f64::from).collect();
        assert_eq!((quantile(&times, 0.5), quantile(&times, 0.99), quantile(&times, 1.0)), (100.0, 198.0, 200.0));
        assert_eq!(quantile(&[7.0], 0.5), 7.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn a_table_takes_the_place_of_the_one_before_and_of_no_other() {
        let text = "a\n<!-- bench nat -->\nold\n<!-- end -->\nb\n<!-- bench relay -->\nkept\n<!-- end -->\n";
        let new = replaced(text, "nat", "| new |").expect("there are marks");
        assert_eq!(new, text.replace("old", "| new |"));
        assert_eq!(replaced(&new, "nat", "old").as_deref(), Some(text));
        assert_eq!(replaced(text, "session", ""), None);
        assert_eq!(replaced("<!-- bench nat -->\nno end", "nat", ""), None);
    }
}
