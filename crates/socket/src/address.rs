//! Which addresses of signaling servers are understood? Those of WebSockets, and those of pages, which may stand for them;
//! native and in the browser alike. Of anything else it is said what to write.

use crate::SocketError;

/// The URL to dial for what somebody wrote: `http:` and `https:` stand for `ws:` and `wss:`.
pub(crate) fn websocket(url: &str) -> Result<String, SocketError> {
    let is_scheme = |scheme: &str| !scheme.is_empty() && scheme.bytes().all(|c| c.is_ascii_alphanumeric());
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
        _ => (String::new(), url.trim_start_matches('/')),
    };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let scheme = match scheme.as_str() {
        "ws" | "http" if !host.is_empty() => "ws",
        "wss" | "https" if !host.is_empty() => "wss",
        _ => {
            let host = if host.is_empty() { "HOST:PORT" } else { host };
            return Err(SocketError::Address { url: url.to_owned(), host: host.to_owned() });
        }
    };
    Ok(format!("{scheme}://{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_page_stands_for_that_of_a_websocket() {
        for (written, dialled) in [
            ("ws://localhost:3536/room?next=2", "ws://localhost:3536/room?next=2"),
            ("wss://play.example/room", "wss://play.example/room"),
            ("http://localhost:3536/room", "ws://localhost:3536/room"),
            ("HTTPS://play.example/-/lobbies", "wss://play.example/-/lobbies"),
            ("ws://[::1]:3536/?topology=mesh", "ws://[::1]:3536/?topology=mesh"),
        ] {
            assert_eq!(websocket(written), Ok(dialled.to_owned()), "{written}");
        }
    }

    #[test]
    fn without_a_scheme_it_is_said_what_to_write() {
        for (written, expected) in [
            ("localhost:3536/room?topology=mesh", "write ws://localhost:3536,"),
            ("play.example/room?meta.a=http://b", "write ws://play.example,"),
            ("//10.0.0.1:3536/room", "write ws://10.0.0.1:3536,"),
            ("tcp://10.0.0.1:3536/room", "write ws://10.0.0.1:3536,"),
            ("", "write ws://HOST:PORT,"),
            ("ws:///room", "write ws://HOST:PORT,"),
        ] {
            let error = websocket(written).expect_err(written).to_string();
            assert!(error.starts_with(written) && error.contains(expected), "{written}: {error}");
        }
    }
}
