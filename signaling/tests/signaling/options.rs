//! Do the command line, the environment and the file of the binary mean what `--help` says?

use std::{fs, path::PathBuf};

use crate::process::{Process, end, run};

/// A file of options, which is gone after the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let file = std::env::temp_dir().join(format!("coplay-options-{name}-{}.toml", std::process::id()));
        fs::write(&file, text).unwrap();
        Self(file)
    }

    fn name(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_file_says_what_the_command_line_does_not() {
    let text = "listen = \"127.0.0.1:0\"\nno-stun = true\nlog-format = \"json\"\nmetrics-listen = \"127.0.0.1:0\"\n\
        allow-origin = [\"https://a.example\", \"https://b.example\"]\nmax-peers = 7\ndrain = 0\n";
    let file = File::new("good", text);
    let child = run(&["--config", file.name(), "--log", "info"]);
    let mut process = Process::of(child);
    let line = process.logs("signaling serves");
    assert!(line.starts_with('{') && line.contains("127.0.0.1"), "{line}");
    // The command line beats it.
    let mut process = Process::start(&["--config", file.name(), "--log-format", "text"]);
    assert!(!process.logs("signaling serves").starts_with('{'));
}

#[test]
fn what_is_wrong_with_the_file_is_said() {
    for (name, text, expected) in [
        ("unknown", "max-pears = 7", "max-pears"),
        ("table", "[limits]\nmax-peers = 7", "limits"),
        ("syntax", "listen = ", "not TOML"),
        ("value", "listen = \"nowhere\"", ".toml: listen: invalid value 'nowhere'"),
        ("port", "listen = 70000", "such as 3536"),
        ("kind", "max-peers = \"many\"", ".toml: max-peers: "),
        ("choice", "log-format = \"xml\"", "possible values"),
    ] {
        let file = File::new(name, text);
        let (said, well) = end(run(&["--config", file.name()]));
        assert!(!well && said.contains(expected), "{text}: {said}");
    }
    let (said, well) = end(run(&["--config", "/nonexistent/options.toml"]));
    assert!(!well && said.contains("/nonexistent/options.toml"), "{said}");
}

#[test]
fn options_that_make_no_sense_say_so() {
    for (args, expected) in [
        (&["--tls-cert", "x"][..], "--tls-key"),
        (&["--trusted-proxy", "everyone"], "10.0.0.0/8"),
        (&["--allow-origin", "example.org"], "https://HOST"),
        (&["--address-joins", "many"], "64/60"),
        (&["--ticket-secret-file", "/nonexistent/secret"], "/nonexistent/secret"),
        (&["--metrics-public", "--metrics-listen", "127.0.0.1:0"], "cannot be used with"),
    ] {
        let (said, well) = end(run(&[&["--listen", "127.0.0.1:0", "--no-stun"], args].concat()));
        assert!(!well && said.contains(expected), "{args:?}: {said}");
    }
}
