//! Whether the crates that are to be published can be: what they say of themselves, and what they take along.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::run::{Result, cargo, output, run};

/// What is for us alone. All else is published.
const OURS: [&str; 4] = ["coplay_benches", "coplay_examples", "coplay_tests", "xtask"];
/// What a registry asks for, or shows: a crate without it is not to be found, or not to be used. Where the repository
/// is goes without saying until it is somewhere.
const SAID: [&str; 5] = ["description", "license", "readme", "keywords", "categories"];
/// What each takes along, besides its sources.
const TAKEN: [&str; 4] = ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "src/lib.rs"];

/// What `package` is asked for.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Build each from what it takes along, as a user of the registry would. For `bevy_coplay` that is most of Bevy.
    #[arg(long)]
    verify: bool,
    /// Build only this one; may be repeated.
    #[arg(long, requires = "verify")]
    only: Vec<String>,
}

/// What CI tries: all but building them, which the workspace's own build has done.
pub(crate) fn quick() -> Result {
    package(&Options { verify: false, only: Vec::new() })
}

/// Checks what they say, then packages them against each other, as for a registry that has none of them yet.
pub(crate) fn package(options: &Options) -> Result {
    let metadata = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value =
        serde_json::from_str(&metadata).map_err(|error| format!("cargo metadata is not JSON: {error}"))?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata names no packages")?;
    let mut faults = said(packages);
    for name in published(packages) {
        let listed = output(cargo().args(["package", "--allow-dirty", "--list", "-p", name]))?;
        let listed: BTreeSet<_> = listed.lines().collect();
        faults.extend(
            TAKEN.iter().filter(|file| !listed.contains(**file)).map(|file| format!("{name} takes no {file} along")),
        );
    }
    if !faults.is_empty() {
        return Err(format!("not to be published so:\n  {}", faults.join("\n  ")));
    }
    let mut command = cargo();
    command.args(["package", "--allow-dirty"]);
    if !options.verify {
        command.arg("--no-verify");
    }
    for name in
        published(packages).filter(|name| options.only.is_empty() || options.only.iter().any(|only| only == name))
    {
        command.args(["-p", name]);
    }
    run(&mut command)
}

/// The names of the crates that are published.
fn published(packages: &[Value]) -> impl Iterator<Item = &str> {
    packages.iter().filter_map(|package| package["name"].as_str()).filter(|name| !OURS.contains(name))
}

/// What is missing or wrong in their Cargo.toml.
fn said(packages: &[Value]) -> Vec<String> {
    let mut faults = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        // Without `publish` it is null; with `publish = false` an empty list.
        let closed = package["publish"].as_array().is_some_and(Vec::is_empty);
        if OURS.contains(&name) {
            if !closed {
                faults.push(format!("{name} lacks publish = false"));
            }
            continue;
        }
        if closed {
            faults.push(format!("{name} has publish = false, and is none of {}", OURS.join(", ")));
        }
        for key in SAID {
            let empty = match &package[key] {
                Value::String(text) => text.trim().is_empty(),
                Value::Array(words) => words.is_empty(),
                _ => true,
            };
            if empty {
                faults.push(format!("{name} says no {key}"));
            }
        }
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            let by_path_alone = dependency["path"].is_string() && dependency["req"] == "*";
            // A dev-dependency by its path alone is left out of what is published: so two may test each other.
            if by_path_alone && dependency["kind"] != "dev" {
                faults.push(format!("{name} names {on} without a version"));
            }
            if OURS.contains(&on) {
                faults.push(format!("{name} stands on {on}, which is not published"));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn complete(name: &str, dependencies: &Value) -> Value {
        json!({
            "name": name, "description": "It is", "license": "MIT", "readme": "README.md", "keywords": ["one"],
            "categories": ["two"], "publish": null, "dependencies": dependencies,
        })
    }

    #[test]
    fn what_keeps_a_crate_from_being_published_is_told() {
        let dependency = |req, kind| json!([{ "name": "other", "path": "/other", "req": req, "kind": kind }]);
        assert_eq!(said(&[complete("a", &dependency("^0.1", Value::Null))]), Vec::<String>::new());
        assert_eq!(said(&[complete("a", &dependency("*", json!("dev")))]), Vec::<String>::new());
        assert_eq!(said(&[complete("a", &dependency("*", Value::Null))]), ["a names other without a version"]);
        let mut silent = complete("a", &json!([{ "name": "xtask", "path": "/x", "req": "^0.1", "kind": "dev" }]));
        silent["keywords"] = json!([]);
        silent["readme"] = Value::Null;
        assert_eq!(
            said(&[silent]),
            ["a says no readme", "a says no keywords", "a stands on xtask, which is not published"]
        );
        let mut closed = complete("a", &json!([]));
        closed["publish"] = json!([]);
        assert!(said(&[closed])[0].starts_with("a has publish = false"));
        assert_eq!(said(&[complete("xtask", &json!([]))]), ["xtask lacks publish = false"]);
    }
}
