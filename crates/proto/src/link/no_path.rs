//! Why was no path to a peer found, and what is to be done about it?

/// No path to a peer was found. Its codes are explained in `docs/errors`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPath {
    /// No direct path, and no TURN server is named: N0010. What was tried.
    #[error(
        "N0010: {0}: no direct path gets through NATs and firewalls, and there is no relay: name a TURN server where \
         signaling is configured, or in ice_servers (STUN too, where peers have no reflexive addresses); where networks let \
         no UDP through, have signaling relay (without --no-relay, and without RelayPolicy::Never)"
    )]
    NoRelay(String),
    /// No direct path, and none by the TURN servers that are named: N0011. What was tried.
    #[error(
        "N0011: {0}: no direct path gets through, and none by the TURN servers that are named: check their URLs and \
         credentials, and that UDP gets through to them"
    )]
    RelayFailed(String),
}

impl NoPath {
    /// The code that the text begins with: that of the page in `docs/errors`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoRelay(_) => "N0010",
            Self::RelayFailed(_) => "N0011",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_begins_with_the_code_and_says_what_to_do() {
        for (cause, what) in
            [(NoPath::NoRelay("tried".into()), "name a TURN server"), (NoPath::RelayFailed("tried".into()), "check")]
        {
            let text = cause.to_string();
            assert!(text.starts_with(&format!("{}: tried: ", cause.code())) && text.contains(what), "{text}");
        }
    }
}
