//! With which toolchain Rust is built for the browser, and how it gets here.

use std::{env, process::Command};

use crate::run::{Result, cargo, output, run, say};

#[cfg(target_os = "linux")]
mod debian;

/// What the browser runs.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// Name of the toolchain that is put together where rustup has no target to add.
const FALLBACK: &str = "wasm";

/// A toolchain that can build for [`TARGET`].
pub(crate) struct Toolchain {
    /// The rustup toolchain, if not the default one.
    name: Option<String>,
}

impl Toolchain {
    /// Finds a toolchain that has the target; else lets rustup add it; else, on Debian, builds the target's std.
    ///
    /// `COPLAY_WASM=debian` skips rustup, for machines that reach only package registries.
    pub(crate) fn ready() -> Result<Self> {
        let fallback = env::var("COPLAY_WASM_TOOLCHAIN").unwrap_or_else(|_| FALLBACK.to_owned());
        let only_debian = env::var("COPLAY_WASM").is_ok_and(|way| way == "debian");
        if !only_debian && has_target(None) {
            return Ok(Self { name: None });
        }
        if has_target(Some(&fallback)) {
            return Ok(Self { name: Some(fallback) });
        }
        let mut why = "COPLAY_WASM=debian".to_owned();
        if !only_debian {
            say(&format!("adding the Rust target {TARGET}"));
            match run(Command::new("rustup").args(["target", "add", TARGET])) {
                Ok(()) if has_target(None) => return Ok(Self { name: None }),
                Ok(()) => why = format!("rustup added {TARGET}, but rustc does not find it"),
                Err(error) => why = error,
            }
        }
        build_fallback(&fallback, &why)?;
        if has_target(Some(&fallback)) {
            Ok(Self { name: Some(fallback) })
        } else {
            Err(format!("the toolchain `{fallback}` was made, but has no {TARGET}: `rustup toolchain uninstall` it"))
        }
    }

    /// Cargo with this toolchain, building for the browser. The profiles are to be those for the browser alone: what
    /// runs while compiling then lies apart from what the other compiler made.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut command = cargo();
        if let Some(name) = &self.name {
            command.arg(format!("+{name}"));
        }
        command.args([subcommand, "--target", TARGET]);
        command.env_remove("RUSTUP_TOOLCHAIN");
        command
    }
}

fn has_target(toolchain: Option<&str>) -> bool {
    let mut rustc = Command::new("rustc");
    if let Some(name) = toolchain {
        rustc.arg(format!("+{name}"));
    }
    rustc.args(["--print", "target-libdir", "--target", TARGET]).env_remove("RUSTUP_TOOLCHAIN");
    let Ok(dir) = output(&mut rustc) else { return false };
    let Ok(mut files) = std::fs::read_dir(dir.trim()) else { return false };
    files.any(|file| file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("libstd-")))
}

#[cfg(target_os = "linux")]
fn build_fallback(name: &str, why: &str) -> Result {
    say(&format!("rustup does not add {TARGET} here ({why}): building its std from Debian's sources, a minute or two"));
    debian::build(name).map_err(|error| {
        format!(
            "no {TARGET} for Rust: {error}\nWhere rustup works, `rustup target add {TARGET}` is all that is needed."
        )
    })
}

#[cfg(not(target_os = "linux"))]
fn build_fallback(_: &str, why: &str) -> Result {
    Err(format!("rustup cannot add {TARGET}: {why}"))
}
