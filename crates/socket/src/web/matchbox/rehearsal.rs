//! Will the browser take what the peer signals? matchbox panics if not, so it is tried on a connection that goes nowhere.

use coplay_proto::{
    PeerId,
    signal::{IceServer, Signal},
};
use js_sys::{Array, JSON};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{RtcConfiguration, RtcPeerConnection, RtcSdpType, RtcSessionDescriptionInit};

use crate::web::{page, peer::to_js};

/// A connection that is told what the peer says, all of it as an offer, and never answers.
pub(super) struct Rehearsal(RtcPeerConnection);

impl Rehearsal {
    pub(super) fn new() -> Result<Self, JsValue> {
        RtcPeerConnection::new().map(Self)
    }

    /// Calls the one if the browser takes this description, else the other, with the reason.
    pub(super) fn describe(
        &self,
        signal: &Signal,
        fits: impl FnOnce() + 'static,
        refused: impl FnOnce(String) + 'static,
    ) {
        let offer = match signal {
            Signal::Offer(sdp) => Ok(sdp.clone()),
            Signal::Answer(sdp) => as_offer(sdp),
            Signal::IceCandidate(_) => return,
        };
        let offer = match offer {
            Ok(offer) => offer,
            Err(why) => return page::soon(move || refused(why.into())),
        };
        let description = RtcSessionDescriptionInit::new(RtcSdpType::Offer);
        description.set_sdp(&offer);
        page::settled(
            &self.0.set_remote_description(&description),
            move |_| fits(),
            move |thrown| refused(page::why(&thrown)),
        );
    }

    /// Calls this if the browser takes this candidate, after it has taken the description.
    pub(super) fn candidate(&self, peer: PeerId, json: &str, fits: impl FnOnce() + 'static) {
        let Ok(candidate) = JSON::parse(json) else {
            return tracing::debug!(%peer, "passed over a candidate that is not JSON");
        };
        if !candidate.is_object() {
            return;
        }
        page::settled(
            &self.0.add_ice_candidate_with_opt_rtc_ice_candidate_init(Some(candidate.unchecked_ref())),
            move |_| fits(),
            move |thrown| tracing::debug!(%peer, why = page::why(&thrown), "passed over a candidate"),
        );
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// An answer as the offer that it might be; or why it is no answer to an offer of one data channel.
fn as_offer(answer: &str) -> Result<String, &'static str> {
    let all = |start: &str| answer.lines().filter(|line| line.starts_with(start)).collect::<Vec<_>>();
    if all("m=").len() != 1 {
        return Err("the answer is not about one data channel");
    }
    if all("a=mid:") != ["a=mid:0"] {
        return Err("the answer is about another data channel");
    }
    match all("a=setup:")[..] {
        [role @ ("a=setup:active" | "a=setup:passive")] => Ok(answer.replace(role, "a=setup:actpass")),
        _ => Err("the answer does not say who begins with DTLS"),
    }
}

/// Those of the servers that the browser takes.
pub(super) fn usable(servers: &[IceServer]) -> Vec<IceServer> {
    let takes = |servers: &[IceServer]| {
        let configuration = RtcConfiguration::new();
        configuration.set_ice_servers(&servers.iter().map(to_js).collect::<Array>());
        RtcPeerConnection::new_with_configuration(&configuration).map(|connection| connection.close())
    };
    if takes(servers).is_ok() {
        return servers.to_vec();
    }
    let mut usable = Vec::new();
    for server in servers {
        for url in &server.urls {
            let alone = IceServer { urls: vec![url.clone()], ..server.clone() };
            match takes(std::slice::from_ref(&alone)) {
                Ok(()) => usable.push(alone),
                Err(thrown) => tracing::warn!(url, why = page::why(&thrown), "passed over an ICE server"),
            }
        }
    }
    usable
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test]
    fn what_is_no_answer_to_our_offer_does_not_reach_matchbox() {
        let answer = "v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\na=setup:active\r\n";
        assert_eq!(as_offer(answer), Ok(answer.replace("active", "actpass")));
        assert!(as_offer(&answer.replace("a=mid:0", "a=mid:9")).is_err());
        assert!(as_offer(&answer.replace("a=setup:active", "a=setup:actpass")).is_err());
        assert!(as_offer(&answer.replace("a=setup:active\r\n", "")).is_err());
        assert!(as_offer(&format!("{answer}m=application 9 x y\r\n")).is_err());
    }
}
