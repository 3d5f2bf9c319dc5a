//! Does `coplay-signaling` start, say where, and stop as it is told?

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    process::{Child, Command, Stdio},
};

/// The process, which does not outlive the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(args: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coplay-signaling"));
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    Process(command.spawn().unwrap())
}

/// What it printed until it ended, and whether it ended well.
fn end(mut process: Process) -> (String, bool) {
    let mut text = String::new();
    process.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    process.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    (text, process.0.wait().unwrap().success())
}

#[cfg(unix)]
#[tokio::test]
async fn it_prints_one_line_when_it_listens_and_stops_on_either_signal() {
    for signal in ["TERM", "INT"] {
        let mut process = run(&["--listen", "127.0.0.1:0", "--no-stun"]);
        let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let line = lines.next().unwrap().unwrap();
        let url = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}"));
        let (mut socket, _) = tokio_tungstenite::connect_async(format!("{url}/r")).await.unwrap();
        Command::new("kill").args([&format!("-{signal}"), &process.0.id().to_string()]).status().unwrap();
        let mut last = None;
        while let Some(Ok(message)) = crate::client::soon("the end", futures_util::StreamExt::next(&mut socket)).await {
            last = Some(message);
        }
        let code = last.and_then(|last| match last {
            tokio_tungstenite::tungstenite::Message::Close(frame) => frame.map(|frame| u16::from(frame.code)),
            _ => None,
        });
        assert_eq!(code, Some(1001), "{signal}");
        assert!(process.0.wait().unwrap().success(), "{signal}");
        assert!(lines.next().is_none(), "one line");
    }
}

#[test]
fn it_says_what_to_do_about_a_port_that_is_taken() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let (text, well) = end(run(&["--listen", &other.local_addr().unwrap().to_string()]));
    assert!(!well && text.contains("is in use") && text.contains("--listen"), "{text}");
}

#[test]
fn it_refuses_options_that_cannot_work_and_explains_the_others() {
    for (args, expected) in [
        (&["--turn", "turn:turn.example.org"][..], "turn-secret"),
        (&["--turn", "turn.example.org", "--turn-secret", "x"], "turn:HOST:PORT"),
        (&["--turn", "turn:turn.example.org", "--turn-secret-file", "/nonexistent/secret"], "/nonexistent/secret"),
        (&["--ice-server", "turn:turn.example.org"], "--turn"),
        (&["--turn-ports", "61000-61999"], "--turn-embedded"),
        (&["--turn-embedded", "--turn-ports", "61000"], "FIRST-LAST"),
        (&["--turn-embedded", "--turn-ports", "61001-61000"], "no range of ports"),
        (&["--turn-embedded", "--turn-external-ip", "0.0.0.0"], "--turn-external-ip"),
        (&["--no-stun", "--stun", "127.0.0.1:0"], "cannot be used with"),
        (&["--listen", "nowhere"], "--listen"),
    ] {
        let listen: &[&str] = if args.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
        let (text, well) = end(run(&[args, listen].concat()));
        assert!(!well && text.contains(expected), "{args:?}: {text}");
    }
    let (help, well) = end(run(&["--help"]));
    assert!(well && help.contains("COPLAY_TURN_SECRET_FILE") && help.contains("listening on ws://"), "{help}");
}

#[tokio::test]
async fn it_relays_when_it_is_told_to() {
    let args = ["--listen", "127.0.0.1:0", "--turn-embedded", "--turn-external-ip", "8.8.8.8", "--turn-ttl", "60"];
    let mut process = run(&args);
    let line = BufReader::new(process.0.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let url = format!("{}/r", line.strip_prefix("listening on ").unwrap());
    let mut request = tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(url).unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "coplay.v1".parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let welcome =
        crate::client::soon("the welcome", futures_util::StreamExt::next(&mut socket)).await.unwrap().unwrap();
    let welcome: serde_json::Value = serde_json::from_str(welcome.to_text().unwrap()).unwrap();
    let ice = &welcome["Welcome"]["ice_servers"][0];
    assert!(ice["urls"][0].as_str().unwrap().starts_with("turn:8.8.8.8:"), "{ice}");
    let expires: u64 = ice["username"].as_str().unwrap().split(':').next().unwrap().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!((now..=now + 60).contains(&expires), "{expires} at {now}");
}
