//! The binary, run by a test.

use std::{
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout, Command, Stdio},
};

/// A server that listens on a port of its own, and does not outlive the test.
pub(crate) struct Process {
    child: Child,
    /// What it printed when it listened.
    pub(crate) line: String,
    pub(crate) url: String,
    out: Lines<BufReader<ChildStdout>>,
    log: Lines<BufReader<ChildStderr>>,
}

impl Process {
    /// Starts one with these arguments, and waits until it listens.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::of(run(&[&["--listen", "127.0.0.1:0", "--no-stun"], args].concat()))
    }

    /// The same by a command of one's own.
    pub(crate) fn of(mut child: Child) -> Self {
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = out.next().expect("a line when it listens").unwrap();
        assert!(line.starts_with("listening on "), "{line}");
        let url = line.split(' ').find(|word| word.contains("://")).unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { child, line, url, out, log }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        self.url.split_once("://").unwrap().1
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: &str) {
        Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status().unwrap();
    }

    /// Reads its log until a line has `text` in it, and returns that.
    pub(crate) fn logs(&mut self, text: &str) -> String {
        let found = self.log.find(|line| line.as_ref().is_ok_and(|line| line.contains(text)));
        found.unwrap_or_else(|| panic!("it ended and did not log {text}")).unwrap()
    }

    /// The rest of its log, once it has ended.
    pub(crate) fn rest_of_log(mut self) -> String {
        self.child.wait().unwrap();
        self.log.by_ref().map(|line| line.unwrap() + "\n").collect()
    }

    /// Waits until it ends: what it printed since it listened, and whether it ended well.
    pub(crate) fn end(&mut self) -> (String, bool) {
        let text = self.out.by_ref().map(Result::unwrap).collect();
        (text, self.child.wait().unwrap().success())
    }

    /// A figure of its memory in KiB, `VmRSS` or `VmHWM` (Linux).
    #[cfg(target_os = "linux")]
    pub(crate) fn memory(&self, figure: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(figure)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The processor time it has used, in hundredths of a second (Linux).
    #[cfg(target_os = "linux")]
    pub(crate) fn processor(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = fields.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the binary with exactly these arguments.
pub(crate) fn run(args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coplay-signaling"));
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What it printed until it ended, and whether it ended well.
pub(crate) fn end(child: Child) -> (String, bool) {
    let output = child.wait_with_output().unwrap();
    let text = [output.stderr, output.stdout].concat();
    (String::from_utf8_lossy(&text).into_owned(), output.status.success())
}
