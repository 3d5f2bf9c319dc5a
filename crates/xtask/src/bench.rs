//! How a figure of the README is measured.

use std::fs;

use serde_json::Value;

use crate::run::{Result, cargo, make_dir, output, say, table, target};

/// Runs a program of the benches package, optimised; shows the rows of JSON that it prints, one a line, as a table,
/// and writes them to `target/bench/NAME.json`.
pub(crate) fn bench(name: &str) -> Result {
    say(&format!("measuring {name}"));
    let printed = output(
        cargo()
            .args(["run", "--quiet", "--release", "-p", "coplay_benches", "--bin", name])
            .stderr(std::process::Stdio::inherit()),
    )?;
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
    let place = target()?.join("bench");
    make_dir(&place)?;
    let file = place.join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(&rows).map_err(|error| error.to_string())?;
    fs::write(&file, text + "\n").map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    say(&format!("wrote {}", file.display()));
    Ok(())
}
