//! Whether each crate stands only on what it may stand on, and each file is where and as long as it may be.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use crate::run::{Result, cargo, output, root, target};

/// What a crate may name in `[dependencies]`. A name that ends in `*` stands for all that begin so.
const MAY_NAME: [(&str, &[&str]); 5] = [
    ("coplay_proto", &["bincode", "bytes", "serde", "sha2", "thiserror", "uuid"]),
    (
        "coplay_socket",
        &[
            "coplay_proto",
            "bytes",
            "chacha20poly1305",
            "crossbeam-channel",
            "dcsctp",
            "futures-channel",
            "futures-util",
            "getrandom",
            "hkdf",
            "js-sys",
            "matchbox_socket",
            "rtc-dtls",
            "rtc-ice",
            "rtc-mdns",
            "rtc-sdp",
            "rtc-shared",
            "rtc-turn",
            "rustls",
            "sansio",
            "serde",
            "serde_json",
            "sha2",
            "socket2",
            "thiserror",
            "tokio",
            "tokio-rustls",
            "tokio-tungstenite",
            "tracing",
            "wasm-bindgen",
            "wasm-bindgen-futures",
            "web-sys",
            "web-time",
            "webpki-roots",
            "x25519-dalek",
        ],
    ),
    ("coplay_macros", &["proc-macro2", "quote", "syn"]),
    (
        "bevy_coplay",
        &["bevy_*", "coplay_macros", "coplay_proto", "coplay_socket", "bytes", "serde", "thiserror", "tracing"],
    ),
    (
        "coplay_signaling",
        &[
            "coplay_proto",
            "async-trait",
            "axum",
            "base64",
            "bytes",
            "clap",
            "futures-util",
            "hmac",
            "hyper*",
            "ipnet",
            "matchbox_protocol",
            "percent-encoding",
            "rtc-sdp",
            "rtc-stun",
            "serde",
            "serde_json",
            "sha1",
            "sha2",
            "socket2",
            "stun",
            "thiserror",
            "tokio",
            "tokio-rustls",
            "toml",
            "tower-http",
            "tower-service",
            "tracing",
            "tracing-subscriber",
            "turn",
            "uuid",
            "webrtc-util",
        ],
    ),
];

/// Who else may name these: they would tie a crate to a transport, a codec or the whole engine.
const RESERVED: [(&str, &[&str]); 6] = [
    ("bevy", &["coplay_examples", "coplay_tests", "coplay_benches"]),
    ("bincode", &["coplay_proto"]),
    ("matchbox_socket", &["coplay_socket", "coplay_tests"]),
    ("tokio", &["coplay_socket", "coplay_signaling", "coplay_tests", "coplay_benches", "xtask"]),
    ("web-sys", &["coplay_socket", "coplay_tests", "coplay_examples", "coplay_benches"]),
    ("webrtc", &[]),
];

/// What the protocol does not reach even through others, so that it stays without input, output, clock and engine.
const NOT_BELOW_PROTO: [&str; 8] =
    ["bevy_ecs", "futures-util", "getrandom", "mio", "rand", "tokio", "tracing", "webrtc"];

/// Crates whose first lines forbid `unsafe`.
const WITHOUT_UNSAFE: [&str; 3] = ["crates/proto", "crates/socket", "signaling"];

const MOST_LINES: usize = 600;

/// Checks them all; the error names everything that is out of bounds.
pub(crate) fn boundaries() -> Result {
    let metadata = output(cargo().args(["metadata", "--format-version", "1", "--locked"]))?;
    let metadata: Value =
        serde_json::from_str(&metadata).map_err(|error| format!("cargo metadata is not JSON: {error}"))?;
    let mut faults = names(&metadata);
    faults.extend(below_proto(&proto_tree()?));
    for dir in WITHOUT_UNSAFE {
        let file = root().join(dir).join("src/lib.rs");
        if !fs::read_to_string(&file).unwrap_or_default().contains("#![forbid(unsafe_code)]") {
            faults.push(format!("{dir}/src/lib.rs does not forbid unsafe code"));
        }
    }
    files(root(), target()?, &mut faults)?;
    if faults.is_empty() {
        println!("every crate and file is within its bounds");
        Ok(())
    } else {
        Err(format!("out of bounds (docs/DEPENDENCIES.md says why):\n  {}", faults.join("\n  ")))
    }
}

/// Dependencies of our own crates that they may not have.
fn names(metadata: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let members: BTreeSet<_> = strings(&metadata["workspace_members"]).collect();
    for package in
        array(&metadata["packages"]).filter(|package| package["id"].as_str().is_some_and(|id| members.contains(id)))
    {
        let own = package["name"].as_str().unwrap_or_default();
        let allowed = MAY_NAME.iter().find(|(name, _)| *name == own).map(|(_, allowed)| *allowed);
        for dependency in array(&package["dependencies"]) {
            let name = dependency["name"].as_str().unwrap_or_default();
            // Tests may use what the code may not: another implementation to compare with, a generator of cases.
            let in_code = dependency["kind"].is_null();
            if in_code && allowed.is_some_and(|allowed| !allowed.iter().any(|pattern| fits(name, pattern))) {
                faults.push(format!("{own} names {name}"));
            }
            if in_code && RESERVED.iter().any(|(reserved, by)| *reserved == name && !by.contains(&own)) {
                faults.push(format!("{own} names {name}, which is reserved"));
            }
        }
    }
    faults
}

/// What the protocol reaches by itself, without the features that others ask of what it stands on.
fn proto_tree() -> Result<String> {
    let tree = ["tree", "--package", "coplay_proto", "--edges", "normal", "--prefix", "none", "--locked"];
    output(cargo().args(tree))
}

/// What of that it should not reach: a tree has a package a line, its name first.
fn below_proto(tree: &str) -> Vec<String> {
    let reached: BTreeSet<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    let reached = reached.into_iter().filter(|name| NOT_BELOW_PROTO.contains(name));
    reached.map(|name| format!("coplay_proto reaches {name}")).collect()
}

/// Source files that are too long, or named `mod.rs`.
fn files(dir: &Path, skip: &Path, faults: &mut Vec<String>) -> Result {
    let cannot = |error| format!("cannot read {}: {error}", dir.display());
    for entry in fs::read_dir(dir).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let short = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        if path.is_dir() {
            if path != skip && name != "target" && !name.starts_with('.') {
                files(&path, skip, faults)?;
            }
        } else if name.ends_with(".rs") {
            let lines = fs::read_to_string(&path).map_err(cannot)?.lines().count();
            if lines > MOST_LINES {
                faults.push(format!(
                    "{short} has {lines} lines, {MOST_LINES} at the most: split it by question answered"
                ));
            }
            if name == "mod.rs" {
                faults.push(format!("{short}: name it after its module, beside the folder"));
            }
        }
    }
    Ok(())
}

fn fits(name: &str, pattern: &str) -> bool {
    pattern.strip_suffix('*').map_or(name == pattern, |start| name.starts_with(start))
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    array(value).filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, dependencies: &[&str]) -> Value {
        let dependencies: Vec<_> = dependencies.iter().map(|name| json!({ "name": name, "kind": null })).collect();
        json!({ "id": name, "name": name, "dependencies": dependencies })
    }

    #[test]
    fn a_crate_that_names_what_it_may_not_is_told() {
        let packages = [
            package("coplay_proto", &["bytes", "tokio"]),
            package("bevy_coplay", &["bevy_ecs", "bincode"]),
            package("coplay_examples", &["bevy", "bevy_coplay"]),
        ];
        let members = ["coplay_proto", "bevy_coplay", "coplay_examples"];
        let told = names(&json!({ "packages": packages, "workspace_members": members })).join("; ");
        assert_eq!(
            told,
            "coplay_proto names tokio; coplay_proto names tokio, which is reserved; \
             bevy_coplay names bincode; bevy_coplay names bincode, which is reserved"
        );
    }

    #[test]
    fn what_the_protocol_reaches_through_others_counts_too() {
        let tree = "coplay_proto v0.1.0 (/crates/proto)\nuuid v1.0.0\nrand v0.9.0\nuuid v1.0.0 (*)\nrandom v1.0.0";
        assert_eq!(below_proto(tree), ["coplay_proto reaches rand"]);
    }
}
