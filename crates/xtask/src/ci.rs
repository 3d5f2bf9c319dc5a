//! Everything that a change has to pass, in one run.

use std::time::{Duration, Instant};

use crate::{
    boundaries, crossplay, packages, play,
    run::{Result, cargo, run, say, table},
    test, wasm, web,
};

/// The checks in their order: what is quick to fail comes first.
const CHECKS: [(&str, fn() -> Result); 13] = [
    ("format", format),
    ("boundaries", boundaries::boundaries),
    ("packages", packages::quick),
    ("clippy", clippy),
    ("clippy for the browser", clippy_web),
    ("documentation", docs),
    ("build", build),
    ("tests", test::native),
    ("build for the browser", build_web),
    ("tests in the browser", test::web),
    ("crossplay", || crossplay::crossplay(&crossplay::Options::on(crossplay::Server::Coplay))),
    ("crossplay on matchbox_server", || crossplay::crossplay(&crossplay::Options::on(crossplay::Server::Matchbox))),
    ("play", || play::play(&play::Options::check())),
];

/// Runs every check, whatever becomes of the ones before it, and ends with a table of them all.
pub(crate) fn ci() -> Result {
    let start = Instant::now();
    let mut rows = vec![vec!["check".to_owned(), "result".to_owned(), "time".to_owned()]];
    let mut errors = Vec::new();
    for (number, (name, check)) in CHECKS.into_iter().enumerate() {
        say(&format!("[{}/{}] {name} ({} so far)", number + 1, CHECKS.len(), shown(start.elapsed())));
        let began = Instant::now();
        let result = check();
        let word = if result.is_ok() { "passed" } else { "FAILED" };
        rows.push(vec![name.to_owned(), word.to_owned(), shown(began.elapsed())]);
        if let Err(error) = result {
            say(&format!("{name} FAILED: {error}"));
            errors.push(format!("{name}: {error}"));
        }
    }
    println!("\n{}\nall of it: {}", table(&rows), shown(start.elapsed()));
    for error in &errors {
        println!("FAILED: {error}");
    }
    println!("{} passed, {} failed", CHECKS.len() - errors.len(), errors.len());
    if errors.is_empty() { Ok(()) } else { Err("not everything passed".to_owned()) }
}

fn shown(time: Duration) -> String {
    format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
}

fn format() -> Result {
    run(cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result {
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// The library for games, and what stands on it.
fn clippy_web() -> Result {
    let mut command = wasm::Toolchain::ready()?.cargo("clippy");
    command.args(web::PACKAGES).args(["-p", "bevy_coplay", "-p", "coplay_socket", "--profile", "web"]);
    run(command.args(["--lib", "--bins", "--", "-D", "warnings"]))
}

fn docs() -> Result {
    let mut command = cargo();
    command.args(["doc", "--workspace", "--no-deps", "--document-private-items"]);
    run(command.env("RUSTDOCFLAGS", "-D warnings"))
}

/// With the tests, so that what they stand on decides the features of all that is built.
fn build() -> Result {
    run(cargo().args(["build", "--workspace", "--all-targets"]))
}

fn build_web() -> Result {
    let mut command = wasm::Toolchain::ready()?.cargo("build");
    run(command.args(web::PACKAGES).args(["--bins", "--profile", web::Profile::Web.name()]))
}
