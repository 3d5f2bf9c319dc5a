//! What becomes of links when processes die or stop, networks change, and signaling breaks? All of it, the long tests, too.

use crate::run::{Result, cargo, run, say};

/// Runs `crates/socket/tests/life`, with what takes minutes and CI leaves out.
pub(crate) fn life() -> Result {
    say(
        "processes that die and stop, networks that change, signaling that breaks (2 minutes; as root, or some is skipped)",
    );
    let mut command = cargo();
    command.args(["test", "-p", "coplay_socket", "--test", "life", "--", "--include-ignored", "--nocapture"]);
    run(&mut command)
}
