//! How a machine that reaches only Debian's packages and crates.io gets a wasm32 std: Debian's rustc-web, a compiler
//! with the sources of its std, is unpacked (not installed), builds the std once, and becomes a rustup toolchain.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use super::TARGET;
use crate::{
    run::{Result, make_dir, output, run, say, user_dir},
    tools,
};

/// The only machine that this was tried on.
const HOST: &str = "x86_64-unknown-linux-gnu";
/// Raise it when the toolchain is put together in another way: the ones that are there are then made again.
const RECIPE: u32 = 1;

/// Makes the toolchain and links it to rustup under this name, unless it is there and current.
pub(super) fn build(name: &str) -> Result {
    if !cfg!(target_arch = "x86_64") || tools::apt_get().is_none() {
        return Err("rustup cannot add it, and this is no Debian system on x86_64: nothing else to try".to_owned());
    }
    let version = offered().or_else(|_| update().and_then(|()| offered()))?;
    let base = PathBuf::from(output(Command::new("rustc").args(["--print", "sysroot"]))?.trim());
    let place = user_dir("XDG_DATA_HOME", ".local/share")?.join("rust-wasm");
    let (toolchain, stamp_file) = (place.join("toolchain"), place.join("stamp"));
    let stamp = format!("{RECIPE} {version} {}", base.display());
    if fs::read_to_string(&stamp_file).ok().as_deref() != Some(&stamp) {
        let _ = fs::remove_dir_all(&place);
        make_dir(&place)?;
        // A list of packages that is not of today may name what is no longer offered.
        unpack(&version, &place).or_else(|_| update().and_then(|()| unpack(&offered()?, &place)))?;
        lay_out(&place.join("unpacked"), &base, &toolchain)?;
        link(name, &toolchain)?;
        build_std(name, &place, &toolchain)?;
        let _ = fs::remove_dir_all(place.join("unpacked"));
        write(&stamp_file, &stamp)?;
    }
    link(name, &toolchain)
}

/// The version of rustc-web that Debian offers here.
fn offered() -> Result<String> {
    let policy = output(Command::new("apt-cache").args(["policy", "rustc-web"]))?;
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: ")).unwrap_or("(none)");
    if version == "(none)" { Err("Debian offers no rustc-web here".to_owned()) } else { Ok(version.to_owned()) }
}

fn update() -> Result {
    run(Command::new("apt-get").args(["update", "-q"]))
}

/// Downloads and unpacks the packages into `place/unpacked`; needs no root.
fn unpack(version: &str, place: &Path) -> Result {
    say(&format!("unpacking Debian's rustc-web {version}"));
    let packages = place.join("packages");
    let _ = fs::remove_dir_all(&packages);
    make_dir(&packages)?;
    // The library's name carries the compiler's version, 1.96 of "1.96.0+dfsg1-1".
    let short = version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    let library = format!("libstd-rust-web-{short}");
    let names = ["rustc-web", "libstd-rust-web-dev", &library, "rust-web-src", "rust-web-clippy"];
    let download = |names: &[String]| run(Command::new("apt-get").arg("download").args(names).current_dir(&packages));
    download(&names.map(|name| format!("{name}={version}")))?;
    let library = files(&packages)?
        .into_iter()
        .find(|file| named(file, &library, ""))
        .ok_or_else(|| format!("apt-get downloaded no {library}"))?;
    let needs = output(Command::new("dpkg-deb").arg("-f").arg(library).arg("Depends"))?;
    let llvm = needs.split([',', ' ']).find(|word| word.starts_with("libllvm"));
    let llvm = llvm.ok_or("Debian's Rust library does not say which LLVM it needs")?.to_owned();
    download(std::slice::from_ref(&llvm))?;
    for file in files(&packages)? {
        run(Command::new("dpkg-deb").arg("-x").arg(file).arg(place.join("unpacked")))?;
    }
    let _ = fs::remove_dir_all(&packages);
    // What LLVM itself stands on comes with the ordinary package, where it is not there yet.
    let libraries = place.join("unpacked/usr/lib/x86_64-linux-gnu");
    let lib_llvm = files(&libraries)?.into_iter().find(|file| named(file, "libLLVM.so.", ""));
    let lib_llvm = lib_llvm.ok_or_else(|| format!("{llvm} has no libLLVM"))?;
    if output(Command::new("ldd").arg(lib_llvm))?.contains("not found") {
        tools::install_debian(&[&llvm])
    } else {
        Ok(())
    }
}

/// Moves the unpacked files to where a rustup toolchain has them. rustc finds its std from where its own library
/// lies, so the whole can stand anywhere. Cargo and the linker are those of the toolchain `base`.
fn lay_out(unpacked: &Path, base: &Path, toolchain: &Path) -> Result {
    let cannot = |error| format!("cannot lay out {}: {error}", toolchain.display());
    let host_lib = format!("lib/rustlib/{HOST}");
    for dir in ["bin", &format!("{host_lib}/bin"), "lib/rustlib/src/rust"] {
        make_dir(&toolchain.join(dir))?;
    }
    for program in ["rustc", "rustdoc", "cargo-clippy", "clippy-driver"] {
        fs::rename(unpacked.join("usr/bin").join(program), toolchain.join("bin").join(program)).map_err(cannot)?;
    }
    for file in files(&unpacked.join("usr/lib/x86_64-linux-gnu"))? {
        if named(&file, "librustc_driver-", ".so") || named(&file, "libLLVM.so.", "") {
            let name = file.file_name().unwrap_or_default();
            fs::rename(&file, toolchain.join("lib").join(name)).map_err(cannot)?;
        }
    }
    let lib = format!("{host_lib}/lib");
    fs::rename(unpacked.join(format!("usr/lib/rustlib/{HOST}/lib")), toolchain.join(lib)).map_err(cannot)?;
    let source = files(&unpacked.join("usr/src"))?.into_iter().find(|file| named(file, "rustc-", ""));
    let source = source.ok_or("rust-web-src holds no sources")?.join("library");
    fs::rename(source, toolchain.join("lib/rustlib/src/rust/library")).map_err(cannot)?;
    let linker = format!("{host_lib}/bin/rust-lld");
    for file in ["bin/cargo", &linker] {
        let own = base.join(file);
        if !own.is_file() {
            return Err(format!("no {}: is Rust installed by rustup?", own.display()));
        }
        symlink(own, toolchain.join(file)).map_err(cannot)?;
    }
    Ok(())
}

/// Compiles std for the browser with the toolchain's own compiler and puts it into the toolchain.
fn build_std(name: &str, place: &Path, toolchain: &Path) -> Result {
    say(&format!("building std for {TARGET} (about a minute)"));
    // Always the same place: the same std comes out each time, and what was built against it stays good.
    let package = place.join("std");
    make_dir(&package.join("src"))?;
    write(&package.join("src/lib.rs"), "")?;
    write(
        &package.join("Cargo.toml"),
        "[package]\nname = \"empty\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n[profile.release]\ndebug = false\n",
    )?;
    // With bitcode, or nobody could link this std with `lto = true`.
    let sources = toolchain.join("lib/rustlib/src/rust");
    let flags = format!("-Cembed-bitcode=yes\x1f--remap-path-prefix={}=/rust", sources.display());
    let mut build = Command::new("cargo");
    build.arg(format!("+{name}")).args(["build", "--release", "--target", TARGET]);
    build.arg("-Zbuild-std=std,panic_abort,proc_macro,test").current_dir(&package);
    for variable in ["RUSTFLAGS", "RUSTC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTUP_TOOLCHAIN"] {
        build.env_remove(variable);
    }
    build.env("RUSTC_BOOTSTRAP", "1").env("CARGO_ENCODED_RUSTFLAGS", flags);
    run(build.env("CARGO_TARGET_DIR", package.join("target")))?;
    let lib = toolchain.join("lib/rustlib").join(TARGET).join("lib");
    make_dir(&lib)?;
    for file in files(&package.join("target").join(TARGET).join("release/deps"))? {
        if named(&file, "lib", ".rlib") && !named(&file, "libempty-", "") {
            let to = lib.join(file.file_name().unwrap_or_default());
            fs::rename(&file, &to).map_err(|error| format!("cannot move {}: {error}", file.display()))?;
        }
    }
    let _ = fs::remove_dir_all(&package);
    Ok(())
}

fn link(name: &str, toolchain: &Path) -> Result {
    let sysroot =
        output(Command::new("rustc").args([&format!("+{name}"), "--print", "sysroot"]).env_remove("RUSTUP_TOOLCHAIN"));
    if sysroot.is_ok_and(|path| Path::new(path.trim()) == toolchain) {
        return Ok(());
    }
    run(Command::new("rustup").args(["toolchain", "link", name]).arg(toolchain))
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let cannot = |error| format!("cannot read {}: {error}", dir.display());
    let entries = fs::read_dir(dir).map_err(cannot)?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(cannot)).collect()
}

fn named(file: &Path, start: &str, end: &str) -> bool {
    file.file_name().is_some_and(|name| {
        let name = name.to_string_lossy();
        name.starts_with(start) && name.ends_with(end)
    })
}

fn write(path: &Path, text: &str) -> Result {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
