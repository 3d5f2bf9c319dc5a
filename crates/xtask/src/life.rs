//! What becomes of links when processes die or stop, networks change, signaling breaks, and tabs are closed or hidden?

use std::{process::Command, time::Instant};

use crate::{
    run::{Result, cargo, run, say, table},
    test::Options,
};

mod tabs;

/// The tests of `crates/socket/tests/life`, and what each is about.
const TESTS: [(&str, &str); 7] = [
    ("a peer is killed", "a_peer_that_is_killed_is_noticed_in_2_seconds_and_gone_after_10_and_the_others_play_on"),
    ("a peer stands still for 5 s", "a_peer_that_stands_still_for_5_seconds_goes_on_and_nothing_is_lost"),
    ("a peer stands still for 60 s", "a_peer_that_stands_still_for_60_seconds_is_out_and_can_come_again"),
    ("one network goes, another comes", "a_peer_that_leaves_one_network_for_another_plays_on_over_the_same_link"),
    (
        "signaling breaks in the game",
        "signaling_that_breaks_in_the_game_is_not_missed_and_a_newcomer_can_join_when_it_is_back",
    ),
    (
        "signaling breaks before two are connected",
        "signaling_that_breaks_before_two_are_connected_costs_them_the_time_that_it_is_away",
    ),
    (
        "signaling goes, and a peer never answers",
        "a_peer_that_never_answers_is_told_of_within_8_seconds_also_if_signaling_goes",
    ),
];
/// What a test says that cannot be run here.
const SKIPPED: &str = "SKIPPED: ";

/// One line of the table.
struct Row {
    what: String,
    outcome: Outcome,
    seconds: f64,
}

enum Outcome {
    Passed(String),
    Skipped(String),
    Failed(String),
}

/// Runs all of it, prints what came of each, and fails if one failed.
pub(crate) fn life(options: &Options) -> Result {
    say("processes that die and stop, networks that change, signaling that breaks, tabs: 6 minutes, as root");
    let mut rows = Vec::new();
    if !options.web {
        run(&mut test(&["--no-run"]))?;
        rows.extend(TESTS.map(|(what, name)| Row::of(what, || native(name))));
    }
    if !options.native {
        // What was seen so far is told all the same.
        match tabs::rows() {
            Ok(tabs) => rows.extend(tabs),
            Err(error) => rows.push(Row::of("tabs of a browser", || Outcome::Failed(error))),
        }
    }
    let cells = rows.iter().map(Row::cells);
    let heads = ["what happens", "outcome", "s", ""].map(str::to_owned).to_vec();
    println!("{}", table(&std::iter::once(heads).chain(cells).collect::<Vec<_>>()));
    let failed = rows.iter().filter_map(|row| match &row.outcome {
        Outcome::Failed(why) => Some(format!("{}: {why}", row.what)),
        _ => None,
    });
    let failed: Vec<_> = failed.collect();
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

impl Row {
    fn of(what: &str, happens: impl FnOnce() -> Outcome) -> Self {
        say(what);
        let start = Instant::now();
        let outcome = happens();
        Self { what: what.to_owned(), outcome, seconds: start.elapsed().as_secs_f64() }
    }

    fn cells(&self) -> Vec<String> {
        let (outcome, more) = match &self.outcome {
            Outcome::Passed(more) => ("as it must be", more.as_str()),
            Outcome::Skipped(why) => ("SKIPPED", why.as_str()),
            Outcome::Failed(_) => ("FAILED", ""),
        };
        vec![self.what.clone(), outcome.to_owned(), format!("{:.0}", self.seconds), more.to_owned()]
    }
}

impl From<Result<String>> for Outcome {
    fn from(result: Result<String>) -> Self {
        result.map_or_else(Self::Failed, Self::Passed)
    }
}

fn test(more: &[&str]) -> Command {
    let mut command = cargo();
    command.args(["test", "-p", "coplay_socket", "--test", "life"]).args(more);
    command
}

/// Runs one test.
fn native(name: &str) -> Outcome {
    let mut command = test(&["--", "--exact", name, "--include-ignored", "--nocapture"]);
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => return Outcome::Failed(format!("cargo cannot be started: {error}")),
    };
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    judge(&said, output.status.success())
}

fn judge(said: &str, success: bool) -> Outcome {
    if !success {
        return Outcome::Failed(said.to_owned());
    }
    if !said.contains("test result: ok. 1 passed") {
        return Outcome::Failed(format!("there is no such test\n{said}"));
    }
    if let Some((_, why)) = said.split_once(SKIPPED) {
        return Outcome::Skipped(why.lines().next().unwrap_or_default().to_owned());
    }
    let figure = said.lines().find_map(|line| line.strip_prefix("figure: ")).unwrap_or_default();
    Outcome::Passed(figure.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_test_says_is_what_the_table_says() {
        let ok = "test result: ok. 1 passed; 0 failed";
        assert!(matches!(judge(&format!("figure: 3.1 s\n{ok}"), true), Outcome::Passed(figure) if figure == "3.1 s"));
        assert!(matches!(judge(&format!("SKIPPED: no root\n{ok}"), true), Outcome::Skipped(why) if why == "no root"));
        assert!(matches!(judge("test result: ok. 0 passed", true), Outcome::Failed(_)), "it was renamed");
        assert!(matches!(judge(ok, false), Outcome::Failed(_)));
    }
}
