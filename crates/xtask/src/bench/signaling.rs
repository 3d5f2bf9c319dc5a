//! What does our signaling server cost beside an unmodified `matchbox_server`, and does it reach its goals?

use serde_json::Value;

use super::rows_of;
use crate::{
    run::{Result, cargo, run, say, target},
    tools,
};

/// What the figures of our server are to stay within.
const GOALS: [(&str, f64); 4] =
    [("idle_kb_per_peer", 12.0), ("join_p99_ms", 5.0), ("match_p99_ms", 5.0), ("reconnect_storm_s", 10.0)];

/// Both servers optimised, each a process of its own; an error unless ours reaches its goals.
pub(super) fn bench() -> Result {
    let matchbox = tools::matchbox_server()?;
    run(cargo().args(["build", "--release", "-p", "coplay_signaling", "--bin", "coplay-signaling"]))?;
    let ours = target()?.join("release/coplay-signaling");
    let rows = rows_of("signaling", &[ours.as_os_str(), matchbox.as_os_str()])?;
    let missed = missed(&rows);
    if missed.is_empty() {
        say(&format!("coplay reaches all {} goals", GOALS.len()));
        return Ok(());
    }
    Err(format!("coplay misses {} of {} goals:\n  {}", missed.len(), GOALS.len(), missed.join("\n  ")))
}

/// The goals that the row of our server does not reach, or has no figure of.
fn missed(rows: &[Value]) -> Vec<String> {
    let ours = rows.iter().find(|row| row["server"] == "coplay");
    let missed = GOALS.iter().filter_map(|(name, most)| match ours.and_then(|row| row[name].as_f64()) {
        Some(found) if found <= *most => None,
        Some(found) => Some(format!("{name} is {found}, and {most} at most was expected")),
        None => Some(format!("{name} was not measured")),
    });
    missed.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(server: &str, idle: f64, storm: f64) -> Value {
        json!({
            "server": server,
            "idle_kb_per_peer": idle,
            "join_p99_ms": 5.0,
            "match_p99_ms": 1.0,
            "reconnect_storm_s": storm,
        })
    }

    #[test]
    fn each_goal_that_is_missed_is_named_and_only_ours_counts() {
        let theirs = row("matchbox_server", 137.0, 99.0);
        assert_eq!(missed(&[row("coplay", 12.0, 10.0), theirs.clone()]), [""; 0]);
        let missed_two = missed(&[theirs.clone(), row("coplay", 12.01, 10.5)]);
        assert_eq!(
            missed_two,
            [
                "idle_kb_per_peer is 12.01, and 12 at most was expected",
                "reconnect_storm_s is 10.5, and 10 at most was expected"
            ]
        );
        assert_eq!(missed(&[theirs]).len(), GOALS.len(), "a row that is not there reaches none");
        let broken = json!({ "server": "coplay", "join_p99_ms": null });
        assert_eq!(missed(&[broken]).len(), GOALS.len(), "nor does one without figures");
    }
}
