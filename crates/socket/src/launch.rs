//! What did whoever started the game say? On native the environment has it, in the browser the page's URL.

use coplay_proto::conditioner::{Conditions, ConditionsError};

/// Where a signaling server on this machine listens.
const LOCAL: &str = "ws://127.0.0.1:3536";

/// The signaling server to use if the game names none: `ws://HOST:PORT` or `wss://HOST:PORT`; what was said is given back as
/// it is, and `http:` and `https:` are understood where it is used.
///
/// On native, the environment variable `COPLAY_SIGNALING`, else `ws://127.0.0.1:3536`. In the browser, the parameter
/// `signaling` of the page's URL, else the host and port that the page is from, with `wss` if it came by `https`.
pub fn default_signaling_url() -> String {
    let said = said("COPLAY_SIGNALING", "signaling");
    #[cfg(target_arch = "wasm32")]
    let said = said.or_else(|| page()?.host());
    said.unwrap_or_else(|| LOCAL.to_owned())
}

/// What the paths to other players are to be made like, if somebody wants them worse than they are: see [`Conditions`].
///
/// On native, the environment variable `COPLAY_CONDITIONS`; in the browser, the parameter `conditions` of the page's URL.
///
/// # Errors
/// It cannot be read: N0013.
pub fn conditions() -> Result<Option<Conditions>, ConditionsError> {
    said("COPLAY_CONDITIONS", "conditions").map(|text| text.parse()).transpose()
}

/// What was said, unless it is nothing.
#[cfg_attr(target_arch = "wasm32", expect(unused_variables, reason = "a browser has no environment"))]
#[cfg_attr(not(target_arch = "wasm32"), expect(unused_variables, reason = "a program has no URL"))]
fn said(variable: &str, parameter: &str) -> Option<String> {
    #[cfg(not(target_arch = "wasm32"))]
    let said = std::env::var(variable).ok();
    #[cfg(target_arch = "wasm32")]
    let said = page()?.parameter(parameter, |text| js_sys::decode_uri_component(text).ok().map(String::from));
    said.filter(|said| !said.is_empty())
}

#[cfg(target_arch = "wasm32")]
fn page() -> Option<Page> {
    // A worker has no window.
    let location = web_sys::window()?.location();
    Some(Page { protocol: location.protocol().ok()?, host: location.host().ok()?, query: location.search().ok()? })
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
    /// The value of a parameter.
    fn parameter(&self, name: &str, decode: impl Fn(&str) -> Option<String>) -> Option<String> {
        let mut parameters = self.query.trim_start_matches('?').split('&').filter_map(|pair| pair.split_once('='));
        parameters.find(|(named, _)| *named == name).and_then(|(_, value)| decode(value))
    }

    /// The signaling server where the page is from.
    fn host(&self) -> Option<String> {
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

    fn page(protocol: &str, host: &str, query: &str) -> Page {
        Page { protocol: protocol.into(), host: host.into(), query: query.into() }
    }

    #[test]
    fn a_page_meets_where_it_is_from() {
        assert_eq!(page("http:", "10.0.0.1:8080", "").host().as_deref(), Some("ws://10.0.0.1:8080"));
        assert_eq!(page("https:", "play.example", "?room=a").host().as_deref(), Some("wss://play.example"));
        assert_eq!(page("file:", "", "").host(), None);
    }

    #[test]
    fn a_page_is_told_by_its_url() {
        let page =
            page("https:", "play.example", "?room=a&signaling=ws%3A//localhost%3A1&conditions=wifi&conditions=lan");
        let said = |name| page.parameter(name, |text| Some(text.replace("%3A", ":")));
        assert_eq!(said("signaling").as_deref(), Some("ws://localhost:1"));
        assert_eq!(said("conditions").as_deref(), Some("wifi"));
        assert_eq!(said("condition"), None);
    }
}
