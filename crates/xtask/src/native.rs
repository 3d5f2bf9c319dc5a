//! How our programs are built for this machine.

use std::path::PathBuf;

use crate::run::{Result, cargo, run, target};

/// Builds programs of the workspace and returns the folder that holds them.
///
/// The whole workspace is named, whatever is wanted, so that what the programs stand on is built with the same
/// features each time, and once.
pub(crate) fn build(bins: &[&str], release: bool) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--workspace"]);
    for bin in bins {
        command.args(["--bin", bin]);
    }
    if release {
        command.arg("--release");
    }
    run(&mut command)?;
    Ok(target()?.join(if release { "release" } else { "debug" }))
}
