//! Everything that a change has to pass, in one run.

use std::time::{Duration, Instant};

use crate::{
    boundaries, crossplay, lobby, packages, play,
    run::{Result, cargo, lint, run, say, table},
    template, test, wasm, web,
};

/// The checks in their order: what is quick to fail comes first.
const CHECKS: [(&str, fn() -> Result); 15] = [
    ("format", format),
    ("boundaries", boundaries::boundaries),
    ("packages", packages::quick),
    ("build and lints", build),
    ("tests", test::native),
    ("documentation", docs),
    ("build and lints for the browser", build_web),
    ("tests in the browser", test::web),
    ("crossplay", || crossplay::crossplay(&crossplay::Options::on(crossplay::Server::Coplay))),
    ("crossplay on matchbox_server", || crossplay::crossplay(&crossplay::Options::on(crossplay::Server::Matchbox))),
    ("crossplay with Firefox", || crossplay::crossplay(&crossplay::Options::in_firefox())),
    ("crossplay by matchbox_socket", || crossplay::crossplay(&crossplay::Options::by_matchbox())),
    ("the menu in the browser", lobby::lobby),
    ("a game of one's own", template::template),
    ("play", || play::play(&play::Options::check())),
];

/// The packages for others.
const PUBLISHED: [&str; 5] = ["bevy_coplay", "coplay_macros", "coplay_proto", "coplay_signaling", "coplay_socket"];

/// Runs every check, whatever becomes of the ones before it, and ends with a table of them all.
pub(crate) fn ci() -> Result {
    lint();
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
    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo().args(["fmt", "--check", "--manifest-path", "benches/stacks/Cargo.toml"]))
}

/// Of what is published: documenting the games as well would have all of Bevy checked once more.
fn docs() -> Result {
    let mut command = cargo();
    command.args(["doc", "--no-deps", "--document-private-items"]);
    command.args(PUBLISHED.iter().flat_map(|package| ["-p", package]));
    run(command.env("RUSTDOCFLAGS", "-D warnings"))
}

/// With the tests, so that what they stand on decides the features of all that is built.
fn build() -> Result {
    run(cargo().args(["build", "--workspace", "--all-targets"]))
}

fn build_web() -> Result {
    let mut command = wasm::Toolchain::ready()?.cargo("build");
    let programs = ["arena", "cubes", "crossplay_peer", "nat_peer"].iter().flat_map(|program| ["--bin", program]);
    run(command.args(web::PACKAGES).args(programs).args(["--profile", web::Profile::Web.name()]))
}
