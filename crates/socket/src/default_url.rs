//! Where is the signaling server, if nobody says? On native, what the environment says, else this machine; in the
//! browser, what the page's URL says, else where the page is from.

/// Where a signaling server on this machine listens.
const LOCAL: &str = "ws://127.0.0.1:3536";

/// The signaling server to use if the game names none: `ws://HOST:PORT` or `wss://HOST:PORT`.
///
/// On native, the environment variable `COPLAY_SIGNALING`, else `ws://127.0.0.1:3536`. In the browser, the parameter
/// `signaling` of the page's URL, else the host and port that the page is from, with `wss` if it came by `https`.
pub fn default_signaling_url() -> String {
    #[cfg(not(target_arch = "wasm32"))]
    let found = std::env::var("COPLAY_SIGNALING").ok();
    #[cfg(target_arch = "wasm32")]
    let found = from_page();
    found.filter(|url| !url.is_empty()).unwrap_or_else(|| LOCAL.to_owned())
}

#[cfg(target_arch = "wasm32")]
fn from_page() -> Option<String> {
    // A worker has no window.
    let location = web_sys::window()?.location();
    let page =
        Page { protocol: location.protocol().ok()?, host: location.host().ok()?, query: location.search().ok()? };
    let decode = |text: &str| js_sys::decode_uri_component(text).ok().map(String::from);
    page.signaling(decode)
}

/// The parts of a page's URL that matter, as `window.location` has them.
#[cfg(any(test, target_arch = "wasm32"))]
struct Page {
    protocol: String,
    host: String,
    query: String,
}

#[cfg(any(test, target_arch = "wasm32"))]
impl Page {
    fn signaling(&self, decode: impl Fn(&str) -> Option<String>) -> Option<String> {
        let parameters = self.query.trim_start_matches('?').split('&');
        let named = parameters.filter_map(|parameter| parameter.strip_prefix("signaling=")).next();
        if let Some(url) = named {
            return decode(url);
        }
        let protocol = match self.protocol.as_str() {
            "https:" => "wss",
            "http:" => "ws",
            // A page from a file has no host.
            _ => return None,
        };
        Some(format!("{protocol}://{}", self.host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(protocol: &str, host: &str, query: &str) -> Option<String> {
        let page = Page { protocol: protocol.into(), host: host.into(), query: query.into() };
        page.signaling(|text| Some(text.replace("%3A", ":")))
    }

    #[test]
    fn a_page_meets_where_it_is_from_unless_its_url_says_otherwise() {
        assert_eq!(from("http:", "10.0.0.1:8080", "").as_deref(), Some("ws://10.0.0.1:8080"));
        assert_eq!(from("https:", "play.example", "?room=a").as_deref(), Some("wss://play.example"));
        let named = from("https:", "play.example", "?room=a&signaling=ws%3A//localhost%3A1");
        assert_eq!(named.as_deref(), Some("ws://localhost:1"));
        assert_eq!(from("file:", "", ""), None);
    }
}
