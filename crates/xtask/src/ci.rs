//! Everything that a change has to pass, in one run.

use std::time::{Duration, Instant};

use crate::{
    boundaries,
    run::{Result, cargo, run, say, table},
    test,
};

/// The checks in their order: what is quick to fail comes first.
const CHECKS: [(&str, fn() -> Result); 3] =
    [("format", format), ("boundaries", boundaries::boundaries), ("tests", test::library)];

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
