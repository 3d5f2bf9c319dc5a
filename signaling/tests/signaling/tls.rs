//! Does the port speak TLS, with the certificate that is in the files now, and without one client holding up another?

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use coplay_signaling::{Config, Running, StartError, Stun, Timing, TlsError, TlsFiles, axum};
use futures_util::StreamExt;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer},
};
use tokio_tungstenite::client_async;

use crate::client::*;

/// A folder with a certificate in it, which is gone after the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("coplay-tls-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn files(&self) -> TlsFiles {
        TlsFiles { cert: self.0.join("cert.pem"), key: self.0.join("key.pem") }
    }

    /// Puts a new certificate there, and returns it.
    fn renew(&self) -> CertificateDer<'static> {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let files = self.files();
        fs::write(files.cert, cert.pem()).unwrap();
        fs::write(files.key, signing_key.serialize_pem()).unwrap();
        cert.der().clone()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A connection by a client that believes in this certificate alone.
async fn connect(server: &Running, trusted: &CertificateDer<'static>) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(server.local_addr()).await?;
    let name = "localhost".try_into().unwrap();
    soon("the TLS handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

async fn get(server: &Running, trusted: &CertificateDer<'static>, path: &str) -> String {
    let mut stream = connect(server, trusted).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = soon("the answer", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn the_page_the_health_and_the_socket_are_on_one_port_of_tls() {
    let folder = Folder::new("one-port");
    let cert = folder.renew();
    let page = axum::Router::new().route("/", axum::routing::get(|| async { "the game" }));
    let config = Config { tls: Some(folder.files()), ..Config::local().stun(Stun::Off) };
    let server = start(config.page(page));
    assert!(server.url().starts_with("wss://"));
    assert!(get(&server, &cert, "/").await.ends_with("the game"));
    assert!(get(&server, &cert, "/healthz").await.ends_with("ok\n"));
    let stream = connect(&server, &cert).await.unwrap();
    let (mut socket, _) = soon("the upgrade", client_async("wss://localhost/r", stream)).await.unwrap();
    let greeting = soon("the greeting", socket.next()).await.unwrap().unwrap();
    assert!(greeting.into_text().unwrap().contains("IdAssigned"));
    // Who does not speak TLS is told what to do.
    assert!(http(&server, "/").await.contains("https:// and wss://"));
}

#[tokio::test]
async fn a_renewed_certificate_comes_into_use_and_a_broken_one_does_not() {
    let folder = Folder::new("renewed");
    let old = folder.renew();
    let timing = Timing { certificates: Duration::from_millis(20), ..Timing::default() };
    let config = Config { tls: Some(folder.files()), timing, ..Config::local().stun(Stun::Off) };
    let server = start(config);
    assert!(connect(&server, &old).await.is_ok());
    // By itself.
    let new = folder.renew();
    soon("the new certificate", async { while connect(&server, &new).await.is_err() {} }).await;
    assert!(connect(&server, &old).await.is_err(), "who believes in the old one alone");
    // Broken in one way after the other, it stays as it was.
    let another = Folder::new("another");
    another.renew();
    for (broken, failures) in [(b"garbage".to_vec(), 1), (fs::read(another.files().cert).unwrap(), 2)] {
        fs::write(folder.files().cert, broken).unwrap();
        soon("it to be seen", async { while failed(&get(&server, &new, "/metrics").await) < failures {} }).await;
    }
    assert!(connect(&server, &new).await.is_ok());
}

/// How often a certificate could not be read anew.
fn failed(metrics: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix("coplay_tls_reloads_total{result=\"failed\"} "));
    line.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn it_is_read_anew_when_it_is_told_to() {
    let folder = Folder::new("told");
    let old = folder.renew();
    let server = start(Config { tls: Some(folder.files()), ..Config::local().stun(Stun::Off) });
    let reload = server.tls_reload().unwrap();
    assert!(!reload.reload().unwrap(), "nothing changed");
    let new = folder.renew();
    assert!(connect(&server, &old).await.is_ok(), "not yet");
    assert!(reload.reload().unwrap());
    assert!(connect(&server, &new).await.is_ok() && connect(&server, &old).await.is_err());
    fs::remove_file(folder.files().key).unwrap();
    assert!(matches!(reload.reload(), Err(TlsError::Read { .. })));
    fs::write(folder.files().key, "garbage").unwrap();
    assert!(matches!(reload.reload(), Err(TlsError::NoKey { .. })));
    let metrics = get(&server, &new, "/metrics").await;
    assert!(failed(&metrics) == 2 && metrics.contains("coplay_tls_reloads_total{result=\"ok\"} 1"), "{metrics}");
    assert!(connect(&server, &new).await.is_ok());
}

#[tokio::test]
async fn who_stalls_in_the_handshake_holds_up_nobody_and_is_closed() {
    let folder = Folder::new("stalled");
    let cert = folder.renew();
    let timing = Timing { request: Duration::from_millis(500), ..Timing::default() };
    let server = start(Config { tls: Some(folder.files()), timing, ..Config::local().stun(Stun::Off) });
    let mut stalled = Vec::new();
    for begin in [&b""[..], &[0x16], &[0x16, 3, 1, 2, 0, 1, 0]].into_iter().cycle().take(60) {
        let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
        stream.write_all(begin).await.unwrap();
        stalled.push(stream);
    }
    assert!(get(&server, &cert, "/healthz").await.ends_with("ok\n"));
    for mut stream in stalled {
        let _ = soon("the server to give up", stream.read_to_end(&mut Vec::new())).await;
    }
}

#[test]
fn files_that_cannot_be_used_are_errors_that_name_them() {
    let folder = Folder::new("unusable");
    let refused = |folder: &Folder| {
        let config = Config { tls: Some(folder.files()), ..Config::local().stun(Stun::Off) };
        match coplay_signaling::Signaling::spawn(config) {
            Err(StartError::Tls(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    assert!(refused(&folder).to_string().contains("cert.pem"));
    folder.renew();
    let key = fs::read(folder.files().key).unwrap();
    folder.renew();
    fs::write(folder.files().key, key).unwrap();
    assert!(matches!(refused(&folder), TlsError::Unusable { .. }), "the key of another");
    fs::write(folder.files().key, "").unwrap();
    assert!(refused(&folder).to_string().contains("key.pem"));
    fs::write(folder.files().cert, "").unwrap();
    assert!(matches!(refused(&folder), TlsError::NoCertificate { .. }));
}

/// The same by the binary: on SIGHUP.
#[cfg(unix)]
#[test]
fn the_binary_reads_it_on_sighup_and_logs_what_is_wrong() {
    let folder = Folder::new("binary");
    folder.renew();
    let TlsFiles { cert, key } = folder.files();
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let mut process = crate::process::Process::start(&["--tls-cert", cert, "--tls-key", key, "--log-format", "json"]);
    assert!(process.url.starts_with("wss://"));
    folder.renew();
    process.signal("HUP");
    let line = process.logs("the certificate was read");
    assert!(line.starts_with('{') && line.contains("\"changed\":true"), "{line}");
    fs::write(cert, "garbage").unwrap();
    process.signal("HUP");
    assert!(process.logs("stays as it was").contains("has no certificate in it"));
}
