//! May a page of this site use the server? Browsers let any page open a WebSocket anywhere, and say which page it is.

use axum::http::{HeaderMap, header};
use coplay_proto::signal::SignalError;

use crate::wire::cut;

/// The most of an `Origin` that is repeated in an error, in bytes.
const SHOWN: usize = 100;

/// The sites whose pages may come in. None stands for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Allows pages of these sites alone, each `https://HOST` or `https://HOST:PORT`, as RFC 6454 writes an origin.
    /// None of them allows all. What is no page (a native game) says no origin and is let in always.
    pub fn only(sites: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let sites = sites.into_iter().map(|site| {
            let plain = site.trim_end_matches('/').to_ascii_lowercase();
            match plain.split_once("://") {
                Some((scheme, host)) if !scheme.is_empty() && !host.is_empty() && !host.contains(['/', '*', ' ']) => {
                    Ok(plain)
                }
                _ => Err(format!("{site:?} is no origin: write https://HOST or https://HOST:PORT")),
            }
        });
        sites.collect::<Result<_, _>>().map(Self)
    }

    /// Whether a request with these headers may come in.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), SignalError> {
        let Some(origin) = headers.get(header::ORIGIN).filter(|_| !self.0.is_empty()) else { return Ok(()) };
        let origin = String::from_utf8_lossy(origin.as_bytes()).to_ascii_lowercase();
        if self.0.contains(&origin) { Ok(()) } else { Err(SignalError::OriginRefused { origin: cut(origin, SHOWN) }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_sites_are_refused_and_games_that_are_no_pages_are_not() {
        let origins = Origins::only(["https://Play.example.org/".to_owned()]).unwrap();
        let check = |origins: &Origins, origin: &str| {
            origins.check(&HeaderMap::from_iter([(header::ORIGIN, origin.parse().unwrap())])).is_ok()
        };
        assert!(check(&origins, "https://play.example.org") && check(&origins, "https://PLAY.example.org"));
        for other in ["https://evil.example", "http://play.example.org", "https://play.example.org:444", "null", ""] {
            assert!(!check(&origins, other), "{other}");
            assert!(check(&Origins::default(), other), "no list allows all");
        }
        assert!(origins.check(&HeaderMap::new()).is_ok());
        for wrong in ["play.example.org", "https://", "https://*.example.org", "https://a/b", ""] {
            assert!(Origins::only([wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
