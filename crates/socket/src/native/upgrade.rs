//! How does an address become a WebSocket? Connected, over TLS where it says so, and upgraded (RFC 6455, section 4.1).
//!
//! By hand, because tungstenite gives up a server that selects none of the subprotocols it is offered, as RFC 6455 has
//! it; the only way left would be to connect again without. But a stock `matchbox_server` has let the peer into its room
//! by then, and with `?next=2` matched it with another, who would be left with nobody.

use std::sync::Arc;

use coplay_proto::signal::{SUBPROTOCOL, SignalError};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        client::IntoClientRequest,
        handshake::{
            client::{Response, generate_request},
            derive_accept_key,
            machine::TryParse,
        },
        http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
        protocol::{Role, WebSocketConfig},
    },
};

use crate::{Dial, Dialect, Down};

/// The most bytes of a server's answer to the request to upgrade.
const MAX_ANSWER: usize = 16 * 1024;

/// What a WebSocket runs over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects. In our dialect, which a server may leave aside: then it speaks matchbox's.
pub(super) async fn open(
    url: &str,
    dial: &Dial,
    config: WebSocketConfig,
) -> Result<WebSocketStream<Box<dyn Stream>>, Down> {
    // Mozilla's roots are built in: that needs no library or file of the system.
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    open_trusting(roots, url, dial, config).await
}

/// The same, believing in servers that one of `roots` vouches for.
async fn open_trusting(
    roots: RootCertStore,
    url: &str,
    dial: &Dial,
    config: WebSocketConfig,
) -> Result<WebSocketStream<Box<dyn Stream>>, Down> {
    let no_url = |error: &dyn std::fmt::Display| Down::Lost(format!("{url} is not a WebSocket's URL: {error}"));
    let mut request = url.into_client_request().map_err(|error| no_url(&error))?;
    let offers = dial.subprotocols().join(", ");
    if !offers.is_empty() {
        let mut offers = HeaderValue::from_str(&offers).map_err(|error| Down::Lost(error.to_string()))?;
        offers.set_sensitive(true);
        request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, offers);
    }
    let mut stream = connect(roots, request.uri()).await?;
    let (request, key) = generate_request(request).map_err(|error| no_url(&error))?;
    let lost = |error: std::io::Error| Down::Lost(error.to_string());
    stream.write_all(&request).await.map_err(lost)?;
    stream.flush().await.map_err(lost)?;
    let mut answer = Vec::new();
    let (response, rest) = loop {
        if stream.read_buf(&mut answer).await.map_err(lost)? == 0 {
            return Err(Down::Lost("the server closed the connection".into()));
        }
        match Response::try_parse(&answer) {
            Ok(Some((size, response))) => break (response, answer.split_off(size)),
            Ok(None) if answer.len() <= MAX_ANSWER => {}
            Ok(None) | Err(_) => return Err(Down::Lost("the server does not speak HTTP".into())),
        }
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refusal(&mut stream, &response, rest).await);
    }
    check(response.headers(), &key, dial.dialect)?;
    Ok(WebSocketStream::from_partially_read(stream, rest, Role::Client, Some(config)).await)
}

async fn connect(roots: RootCertStore, uri: &Uri) -> Result<Box<dyn Stream>, Down> {
    let secure = uri.scheme_str() == Some("wss");
    let host = uri.host().unwrap_or_default();
    // An IPv6 address has brackets in a URL, and nowhere else.
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let lost = |error: std::io::Error| Down::Lost(error.to_string());
    let stream = TcpStream::connect((host, port)).await.map_err(lost)?;
    stream.set_nodelay(true).map_err(lost)?;
    if !secure {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|error| Down::Lost(error.to_string()))?;
    Ok(Box::new(tls(roots)?.connect(name, stream).await.map_err(lost)?))
}

/// TLS for `wss:`, which a page from `https:` makes its signaling server speak. By rustls on ring, which `rtc-dtls`
/// brings anyway: that adds least.
fn tls(roots: RootCertStore) -> Result<TlsConnector, Down> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Down::Lost(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What the server says instead, if it is an error of ours.
async fn refusal(stream: &mut Box<dyn Stream>, response: &Response, mut body: Vec<u8>) -> Down {
    let length = response.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let length: usize = length.unwrap_or(0).min(MAX_ANSWER);
    while body.len() < length && stream.read_buf(&mut body).await.is_ok_and(|read| read > 0) {}
    match serde_json::from_slice::<SignalError>(&body) {
        Ok(error) => Down::Refused(error),
        Err(_) => Down::Lost(format!("HTTP status {}", response.status())),
    }
}

/// Whether this is the answer to our request to upgrade.
fn check(headers: &HeaderMap, key: &str, dialect: Dialect) -> Result<(), Down> {
    let is = |name, value: &str| {
        headers
            .get(name)
            .and_then(|header| header.to_str().ok())
            .is_some_and(|header| header.eq_ignore_ascii_case(value))
    };
    let upgraded = is(header::UPGRADE, "websocket") && is(header::CONNECTION, "upgrade");
    let accepted =
        headers.get(header::SEC_WEBSOCKET_ACCEPT).is_some_and(|accept| *accept == derive_accept_key(key.as_bytes()));
    if !upgraded || !accepted {
        return Err(Down::Lost("the server does not speak WebSocket".into()));
    }
    match headers.get(header::SEC_WEBSOCKET_PROTOCOL) {
        None => Ok(()),
        Some(chosen) if dialect == Dialect::Coplay && chosen == SUBPROTOCOL => Ok(()),
        Some(_) => Err(Down::Lost("the server chose a subprotocol that it was not offered".into())),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt, StreamExt};
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use tokio::net::TcpListener;
    use tokio_rustls::{
        TlsAcceptor,
        rustls::{
            ServerConfig,
            pki_types::{CertificateDer, PrivateKeyDer},
        },
    };
    use tokio_tungstenite::{accept_async, tungstenite::Message};

    use super::*;

    /// A server that speaks TLS and says back what it is told; its address, and what vouches for it.
    async fn echo(name: &str) -> (std::net::SocketAddr, CertificateDer<'static>) {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("they go together");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let Ok(mut socket) = accept_async(stream).await else { continue };
                while let Some(Ok(message @ Message::Text(_))) = socket.next().await {
                    let _ = socket.send(message).await;
                }
            }
        });
        (address, cert.der().clone())
    }

    fn only(certificate: CertificateDer<'static>) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("a certificate");
        roots
    }

    #[tokio::test]
    async fn wss_is_spoken_with_who_is_vouched_for_and_nobody_else() {
        let (address, certificate) = echo("localhost").await;
        let url = format!("wss://localhost:{}/room", address.port());
        let roots = only(certificate.clone());
        let (dial, config) = (Dial::from(Dialect::Coplay), WebSocketConfig::default());
        let opened = open_trusting(roots, &url, &dial, config).await;
        let mut socket = opened.map_err(|why| format!("{why:?}")).expect("it opens");
        socket.send(Message::text("hello")).await.expect("it takes it");
        let said = socket.next().await.expect("an answer").expect("a frame");
        assert_eq!(said, Message::text("hello"));
        // The server has one connection at a time.
        drop(socket);
        // A server that nobody vouches for, by the roots that are built in, and one of another name.
        assert!(matches!(open(&url, &dial, config).await, Err(Down::Lost(_))));
        let other = format!("wss://127.0.0.1:{}/room", address.port());
        assert!(matches!(open_trusting(only(certificate), &other, &dial, config).await, Err(Down::Lost(_))));
    }
}
