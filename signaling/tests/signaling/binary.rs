//! Does `coplay-signaling` start, say where, and stop as it is told?

use std::net::TcpListener;

use crate::{
    client::raw_at,
    process::{Process, end, run},
};

#[cfg(unix)]
#[tokio::test]
async fn it_prints_one_line_when_it_listens_and_stops_on_either_signal() {
    for signal in ["TERM", "INT"] {
        let mut process = Process::start(&["--drain", "0"]);
        let (mut socket, _) = tokio_tungstenite::connect_async(format!("{}/r", process.url)).await.unwrap();
        process.signal(signal);
        let mut last = None;
        while let Some(Ok(message)) = crate::client::soon("the end", futures_util::StreamExt::next(&mut socket)).await {
            last = Some(message);
        }
        let code = last.and_then(|last| match last {
            tokio_tungstenite::tungstenite::Message::Close(frame) => frame.map(|frame| u16::from(frame.code)),
            _ => None,
        });
        assert_eq!(code, Some(1001), "{signal}");
        let (more, well) = process.end();
        assert!(well, "{signal}");
        assert_eq!(more, "", "one line");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_second_signal_does_not_wait_for_peers() {
    let mut process = Process::start(&["--drain", "1000"]);
    let (_socket, _) = tokio_tungstenite::connect_async(format!("{}/r", process.url)).await.unwrap();
    process.signal("TERM");
    process.logs("signaling drains");
    process.signal("INT");
    assert!(process.end().1);
}

async fn get(process: &Process, path: &str, headers: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n{headers}Connection: close\r\n\r\n");
    raw_at(process.address().parse().unwrap(), request).await
}

#[tokio::test]
async fn it_serves_the_page_of_a_folder_and_refuses_one_without() {
    let folder = std::env::temp_dir().join(format!("coplay-page-{}", std::process::id()));
    let folder = folder.to_str().unwrap();
    std::fs::create_dir_all(folder).unwrap();
    let (text, well) = end(run(&["--listen", "127.0.0.1:0", "--no-stun", "--page", folder]));
    assert!(!well && text.contains("index.html") && text.contains("--page"), "{text}");

    for (file, content) in
        [("index.html", "the game"), ("game.wasm", "\0asm"), ("game.js", "plain"), ("game.js.gz", "gzip")]
    {
        std::fs::write(format!("{folder}/{file}"), content).unwrap();
    }
    let process = Process::start(&["--page", folder]);
    let page = get(&process, "/?room=x", "").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("text/html") && page.ends_with("the game"), "{page}");
    let wasm = get(&process, "/game.wasm", "").await;
    assert!(wasm.contains("application/wasm"), "{wasm}");
    assert!(get(&process, "/game.js", "").await.ends_with("plain"));
    let gzip = get(&process, "/game.js", "Accept-Encoding: gzip\r\n").await;
    assert!(gzip.contains("content-encoding: gzip") && gzip.ends_with("gzip"), "{gzip}");
    for outside in ["/../Cargo.toml", "/%2e%2e/Cargo.toml", "//etc/passwd", "/nothing"] {
        let answer = get(&process, outside, "").await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{outside}: {answer}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn it_says_where_it_listens_and_who_reaches_it() {
    for (listen, ip, who) in [("0", "0.0.0.0", "all interfaces"), ("localhost:0", "127.0.0.1", "this machine only")] {
        let process = Process::of(run(&["--listen", listen, "--no-stun"]));
        let port = process.url.strip_prefix("ws://127.0.0.1:").unwrap();
        let expected = format!("listening on {ip}:{port} ({who}): {}", process.url);
        assert!(process.line.starts_with(&expected), "{}", process.line);
        assert!(get(&process, "/healthz", "").await.ends_with("ok\n"));
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
        (&["--listen", "nowhere"], "localhost:3536"),
        (&["--metrics-listen", "9090"], "127.0.0.1:9090"),
    ] {
        let listen: &[&str] = if args.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
        let (text, well) = end(run(&[args, listen].concat()));
        assert!(!well && text.contains(expected), "{args:?}: {text}");
    }
    let (help, well) = end(run(&["--help"]));
    for option in
        ["--tls-cert", "--trusted-proxy", "--allow-origin", "--ticket-secret-file", "--metrics-listen", "--drain"]
    {
        assert!(help.contains(option), "{option}");
    }
    assert!(
        well && help.contains("COPLAY_TURN_SECRET_FILE")
            && help.contains("listening on 0.0.0.0:3536 (all interfaces): ws://"),
        "{help}"
    );
}

#[tokio::test]
async fn it_relays_when_it_is_told_to() {
    let args = ["--listen", "127.0.0.1:0", "--turn-embedded", "--turn-external-ip", "8.8.8.8", "--turn-ttl", "60"];
    let process = Process::of(run(&args));
    let url = format!("{}/r", process.url);
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
