//! How xtask runs other programs and says what it is doing.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// What a command of xtask comes to: an error is one or more plain sentences for the person who called it.
pub(crate) type Result<T = ()> = std::result::Result<T, String>;

/// The numbered headlines of a command that takes a while.
pub(crate) struct Steps {
    at: usize,
    of: usize,
}

impl Steps {
    pub(crate) fn new(of: usize) -> Self {
        Self { at: 0, of }
    }

    pub(crate) fn next(&mut self, what: &str) {
        self.at += 1;
        say(&format!("[{}/{}] {what}", self.at, self.of));
    }
}

/// Tells the person something, in bold where that is possible.
pub(crate) fn say(what: &str) {
    use std::io::IsTerminal;
    if std::io::stderr().is_terminal() {
        eprintln!("\x1b[1m{what}\x1b[0m");
    } else {
        eprintln!("{what}");
    }
}

/// Runs a program to its end with our own input and output.
pub(crate) fn run(command: &mut Command) -> Result {
    let status = command.status().map_err(|error| format!("cannot start {}: {error}", shown(command)))?;
    if status.success() { Ok(()) } else { Err(format!("failed ({status}): {}", shown(command))) }
}

/// Runs a program to its end and returns what it printed on its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|error| format!("cannot start {}: {error}", shown(command)))?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        return Err(format!("failed ({}): {}\n{}", output.status, shown(command), told.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// A program that runs beside us and ends with us at the latest.
pub(crate) struct Running {
    /// What to call it when it fails.
    pub(crate) name: String,
    child: Child,
    log: Option<PathBuf>,
}

impl Running {
    /// Starts a program; with `log`, what it prints goes there.
    pub(crate) fn start(name: &str, command: &mut Command, log: Option<&Path>) -> Result<Self> {
        Self::spawn(name, command.stdin(Stdio::null()), log)
    }

    /// The same with a program that is told what to do while it runs: see [`Self::tell`].
    pub(crate) fn start_listening(name: &str, command: &mut Command, log: Option<&Path>) -> Result<Self> {
        Self::spawn(name, command.stdin(Stdio::piped()), log)
    }

    fn spawn(name: &str, command: &mut Command, log: Option<&Path>) -> Result<Self> {
        if let Some(path) = log {
            make_dir(path.parent().unwrap_or(path))?;
            let file = File::create(path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
            let other = file.try_clone().map_err(|error| format!("cannot write {}: {error}", path.display()))?;
            command.stdout(file).stderr(other);
        }
        let child = command.spawn().map_err(|error| format!("cannot start {}: {error}", shown(command)))?;
        Ok(Self { name: name.to_owned(), child, log: log.map(Path::to_owned) })
    }

    /// Writes a line to the program's standard input.
    pub(crate) fn tell(&mut self, line: &impl std::fmt::Display) -> Result {
        let input = self.child.stdin.as_mut().ok_or_else(|| format!("{} takes no orders", self.name))?;
        let told = writeln!(input, "{line}").and_then(|()| input.flush());
        told.map_err(|error| format!("{} cannot be told {line}: {error}{}", self.name, self.last_words()))
    }

    /// Of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// An error if the program has ended, with the last that it said.
    pub(crate) fn check(&mut self) -> Result {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("{} has ended ({status}){}", self.name, self.last_words())),
            Err(error) => Err(format!("cannot tell whether {} is running: {error}", self.name)),
        }
    }

    /// Has the program stand still (Unix), as if its machine were gone: nobody closes its connections.
    pub(crate) fn freeze(&self) -> Result {
        output(Command::new("kill").args(["-STOP", &self.child.id().to_string()])).map(drop)
    }

    /// Waits until the program has ended by itself; false if it is still running after `limit`.
    pub(crate) fn ended_within(&mut self, limit: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < limit {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }

    /// What the program has printed so far, if that goes to a file.
    pub(crate) fn log(&self) -> String {
        let bytes = self.log.as_ref().and_then(|path| fs::read(path).ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The end of what it printed, and where the rest is.
    pub(crate) fn last_words(&self) -> String {
        const LINES: usize = 15;
        /// Of a line, which may be a long row of figures.
        const CHARACTERS: usize = 400;
        let Some(path) = &self.log else { return String::new() };
        let log = self.log();
        let lines: Vec<_> = log.lines().map(|line| line.chars().take(CHARACTERS).collect::<String>()).collect();
        let last = lines[lines.len().saturating_sub(LINES)..].join("\n    ");
        format!("; the end of {}:\n    {last}", path.display())
    }
}

impl Running {
    /// Ends the program.
    pub(crate) fn stop(&mut self) {
        // An error means that it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Cargo, as the person called it.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root());
    // The cargo that runs us has set these, for us alone. Build scripts that watch them (ring's does) would run again in
    // every other call, and all that stands on them be built again.
    for (name, _) in env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|ours| name.to_string_lossy().starts_with(ours)) {
            command.env_remove(name);
        }
    }
    if LINTING.load(Ordering::Relaxed) {
        // As `cargo clippy` calls it, which can only check: so all is compiled once, not once to check and once to run.
        // The odd word is what cargo-clippy puts between arguments.
        command.env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver").env("CLIPPY_ARGS", "-Dwarnings__CLIPPY_HACKERY__");
    }
    command
}

static LINTING: AtomicBool = AtomicBool::new(false);

/// From now on our own crates are compiled by clippy, which is the compiler with more to say, and warnings are errors.
pub(crate) fn lint() {
    LINTING.store(true, Ordering::Relaxed);
}

/// For crates that are not ours.
pub(crate) fn unlinted(command: &mut Command) -> &mut Command {
    command.env_remove("RUSTC_WORKSPACE_WRAPPER").env_remove("CLIPPY_ARGS")
}

/// The workspace's folder.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// Cargo's target folder of the workspace.
pub(crate) fn target() -> Result<&'static Path> {
    static TARGET: OnceLock<PathBuf> = OnceLock::new();
    if TARGET.get().is_none() {
        let metadata = output(cargo().args(["metadata", "--no-deps", "--offline", "--format-version", "1"]))?;
        let metadata: serde_json::Value =
            serde_json::from_str(&metadata).map_err(|error| format!("cargo metadata is not JSON: {error}"))?;
        let path = metadata["target_directory"].as_str().ok_or("cargo metadata names no target directory")?;
        TARGET.get_or_init(|| PathBuf::from(path));
    }
    TARGET.get().map(PathBuf::as_path).ok_or_else(|| "no target directory".to_owned())
}

/// The first program on PATH that has one of these names.
pub(crate) fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    names.iter().find_map(|name| {
        env::split_paths(&path)
            .map(|dir| dir.join(format!("{name}{}", env::consts::EXE_SUFFIX)))
            .find(|file| file.is_file())
    })
}

/// Where this user's files of one kind belong: what the XDG variable says, else a place below the home folder.
pub(crate) fn user_dir(variable: &str, below_home: &str) -> Result<PathBuf> {
    let set = env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || env::home_dir().map(|home| home.join(below_home));
    let dir = set.or_else(home).ok_or_else(|| format!("no home folder: set {variable}"))?;
    Ok(dir.join("coplay"))
}

/// Makes a folder and those above it.
pub(crate) fn make_dir(path: &Path) -> Result {
    fs::create_dir_all(path).map_err(|error| format!("cannot make {}: {error}", path.display()))
}

/// Rows in columns, the first of them the headings.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
    };
    let rule = format!("|{}|", widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("|"));
    let mut lines: Vec<_> = rows.iter().map(line).collect();
    if !lines.is_empty() {
        lines.insert(1, rule);
    }
    lines.join("\n")
}
