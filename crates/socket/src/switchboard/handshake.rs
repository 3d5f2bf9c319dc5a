//! How far is the connection to one peer, what waits for its turn, and why did it come to nothing?

use std::{fmt, time::Duration};

use coplay_proto::{
    link::{CloseReason, NoPath},
    signal::IceServer,
};

use super::{Attempt, EXTRA_ATTEMPTS, mending::Mend};
use crate::{IceTransportPolicy, SocketConfig};

/// The most candidates of one peer that are kept or used in one attempt.
const MAX_CANDIDATES: usize = 64;
/// The most bytes of a candidate's JSON.
pub(super) const MAX_CANDIDATE: usize = 2 * 1024;
/// The most bytes of a description.
const MAX_DESCRIPTION: usize = 32 * 1024;
/// What who answers waits longer than who offers may try: its signals are on their way for a while.
const ANSWERER_SLACK: Duration = Duration::from_millis(500);

/// Who makes the offers: whom signaling told that the other is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Offers,
    Answers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing runs; candidates are kept for the offer that is to come.
    Idle,
    /// The peer's description is not known.
    Started,
    /// Both descriptions are known.
    Described,
    /// Both channels are open.
    Open,
}

/// The connection to one peer, from the first signal on.
pub(super) struct Handshake {
    pub(super) role: Role,
    pub(super) stage: Stage,
    pub(super) attempt: Option<Attempt>,
    /// How many attempts were started.
    pub(super) tried: u32,
    /// When who answers stops waiting for another offer.
    pub(super) give_up_at: Duration,
    attempt_ends_at: Duration,
    /// When ICE stops to look for a path.
    search_ends_at: Duration,
    /// The peer's, before its description.
    early: Vec<String>,
    taken: usize,
    /// Ours, before our description.
    unsent: Vec<String>,
    described_here: bool,
    here: Candidates,
    there: Candidates,
    ever_described: bool,
    /// ICE found a path once.
    pub(super) reached: bool,
    /// What WebRTC said of the attempt that failed last.
    pub(super) failure: Option<String>,
    /// Whether there is a relay to the peer, or one is tried.
    pub(super) relayed: bool,
    /// When one is to be tried beside WebRTC.
    pub(super) relay_at: Option<Duration>,
    /// Why the relay did not come to be.
    pub(super) relay_failure: Option<String>,
    /// When WebRTC is to be tried again, and how many pauses there were.
    pub(super) retry_at: Option<Duration>,
    pub(super) pauses: u32,
    /// Whether signaling was told of the path.
    pub(super) reported: bool,
    /// The newest offer, by the numbers of who makes them; whether the peer marks its descriptions, too; and by which offer
    /// the two know the link (0: none was made when it began). See `mark`.
    pub(super) offer: u64,
    pub(super) marks: bool,
    pub(super) link: u64,
    /// Whether the consumer hears nothing of the peer.
    pub(super) silent: bool,
    /// Another connection is looked for, below the link that is open; when one took over last.
    pub(super) mend: Option<Mend>,
    pub(super) mended: Option<Duration>,
    /// When an offer that is not answered by then counts as lost: the peer said that it waits for one.
    pub(super) unheard_at: Option<Duration>,
    relay_after: Duration,
}

impl Handshake {
    pub(super) fn new(role: Role, now: Duration, config: &SocketConfig) -> Self {
        let search = config.search_time();
        Self {
            role,
            stage: Stage::Idle,
            attempt: None,
            tried: 0,
            give_up_at: now + search + ANSWERER_SLACK,
            attempt_ends_at: now + config.handshake_timeout,
            search_ends_at: now + search,
            early: Vec::new(),
            taken: 0,
            unsent: Vec::new(),
            described_here: false,
            here: Candidates::default(),
            there: Candidates::default(),
            ever_described: false,
            reached: false,
            failure: None,
            relayed: false,
            relay_at: None,
            relay_failure: None,
            retry_at: None,
            pauses: 0,
            reported: false,
            offer: 0,
            marks: false,
            link: 0,
            silent: false,
            mend: None,
            mended: None,
            unheard_at: None,
            relay_after: now + config.relay_after,
        }
    }

    /// Begins `attempt`; returns the one it replaces.
    pub(super) fn start(&mut self, now: Duration, attempt: Attempt, config: &SocketConfig) -> Option<Attempt> {
        let old = self.attempt.replace(attempt);
        if old.is_some() {
            // They were for the attempt before.
            self.early.clear();
        }
        self.stage = Stage::Started;
        self.tried += 1;
        (self.retry_at, self.unheard_at) = (None, None);
        if self.role == Role::Offers {
            self.offer = attempt.number;
        }
        if let Some(mend) = &mut self.mend {
            mend.begins(now);
        } else if self.tried == 1 && !self.relayed && self.relay_failure.is_none() {
            self.relay_at = Some(self.relay_after);
        }
        // Those that came before count: they are used in this attempt.
        self.taken = self.early.len();
        if self.relayed || self.mend.is_some() {
            self.search_ends_at = now + config.search_time();
        }
        self.attempt_ends_at = now + config.handshake_timeout;
        if !self.reached {
            self.attempt_ends_at = self.attempt_ends_at.min(self.search_ends_at);
        }
        if self.role == Role::Answers {
            // The peer may try as often again as it likes; this side gives up if it stops to.
            let end = if self.relayed || self.mend.is_some() { self.search_ends_at } else { self.attempt_ends_at };
            self.give_up_at = self.give_up_at.max(end + ANSWERER_SLACK);
        }
        self.unsent.clear();
        self.described_here = false;
        old
    }

    /// WebRTC comes to nothing for now; returns the attempt that is over.
    pub(super) fn rest(&mut self) -> Option<Attempt> {
        self.stage = Stage::Idle;
        self.relay_at = None;
        self.attempt.take()
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.attempt_deadline().into_iter().chain(self.relay_at).chain(self.retry_at).min()
    }

    /// When the attempt, or waiting for one, is over.
    pub(super) fn attempt_deadline(&self) -> Option<Duration> {
        match self.stage {
            Stage::Open => None,
            Stage::Idle if self.relayed || self.mend.is_some() => None,
            Stage::Idle => Some(self.give_up_at),
            // The connection may be open on the side of who offered; who answers must not close that. If it is not, the
            // next offer comes.
            Stage::Started | Stage::Described if self.role == Role::Answers => Some(self.give_up_at),
            Stage::Started => Some(self.unheard_at.map_or(self.attempt_ends_at, |at| at.min(self.attempt_ends_at))),
            Stage::Described => Some(self.attempt_ends_at),
        }
    }

    /// Whether anything at all came from the peer.
    pub(super) fn is_unheard(&self) -> bool {
        !self.ever_described && self.there.total() == 0
    }

    /// Whether another attempt may bring what this one did not.
    pub(super) fn may_try_again(&self, now: Duration, config: &SocketConfig) -> bool {
        let attempts = config.handshake_attempts.max(1);
        match self.reached {
            true => self.tried < attempts + EXTRA_ATTEMPTS,
            false => self.tried < attempts && now < self.search_ends_at,
        }
    }

    /// ICE has found a path. A connection that does not open over it now never will: see `EXTRA_ATTEMPTS`.
    pub(super) fn reached(&mut self, now: Duration, config: &SocketConfig) {
        self.reached = true;
        self.attempt_ends_at = now + config.handshake_timeout;
    }

    /// The attempt that an answer would be for.
    pub(super) fn awaits_answer(&self) -> Option<Attempt> {
        self.attempt.filter(|_| self.role == Role::Offers && self.stage == Stage::Started && self.described_here)
    }

    /// Our description is on its way: what was gathered before it can follow.
    pub(super) fn described_here(&mut self) -> Vec<String> {
        self.described_here = true;
        std::mem::take(&mut self.unsent)
    }

    /// A candidate of ours: returned if it can be sent now, kept else.
    pub(super) fn gathered(&mut self, candidate: String) -> Option<String> {
        self.here.count(&candidate);
        if self.described_here {
            return Some(candidate);
        }
        if self.unsent.len() < MAX_CANDIDATES {
            self.unsent.push(candidate);
        }
        None
    }

    /// The peer's description is being applied: what came before it can follow.
    pub(super) fn described_there(&mut self) -> Vec<String> {
        self.stage = Stage::Described;
        self.ever_described = true;
        // To begin anew would bring no path nearer, and forget what was found out: two Firefox take 3 s to look up what they
        // hide their addresses behind.
        if self.mend.is_none() {
            self.attempt_ends_at = self.attempt_ends_at.max(self.search_ends_at);
        }
        std::mem::take(&mut self.early)
    }

    /// A candidate of the peer: returned if it can be added now, kept or refused else.
    pub(super) fn candidate(&mut self, candidate: String) -> Option<(Attempt, String)> {
        if self.taken >= MAX_CANDIDATES {
            return None;
        }
        self.taken += 1;
        self.there.count(&candidate);
        match (self.stage, self.attempt) {
            (Stage::Described | Stage::Open, Some(attempt)) => Some((attempt, candidate)),
            _ => {
                self.early.push(candidate);
                None
            }
        }
    }

    /// Why there is no connection, and what can be done.
    pub(super) fn verdict(&self, policy: IceTransportPolicy, servers: &Servers) -> CloseReason {
        let turn = servers.turn > 0;
        let mut tried = self.tried(servers);
        let hint = match self.cause(policy, turn) {
            Cause::NotRelayed => {
                "here or there nothing but the relay of signaling is allowed, and it does not reach the peer: allow other \
                 paths (relay in SocketConfig), or use a server that relays"
            }
            Cause::NoAnswer => "the peer never answered: it may have left, or its signals do not arrive",
            Cause::Loss => {
                "a path was found, and the connection did not open over it: too much is lost on the way, or the peer \
                 left; try again"
            }
            Cause::NoAddressesThere => "the peer has no addresses: its network is down, or its signals do not arrive",
            Cause::NoAddressesHere => "this machine has no addresses: check its network",
            Cause::NoRelay => {
                tried += ", and only relayed paths are allowed";
                let no_path = if turn { NoPath::RelayFailed } else { NoPath::NoRelay };
                return CloseReason::NoPath(no_path(tried));
            }
            Cause::StunNeeded | Cause::TurnNeeded => return CloseReason::NoPath(NoPath::NoRelay(tried)),
            Cause::RelayedPathFails => return CloseReason::NoPath(NoPath::RelayFailed(tried)),
        };
        CloseReason::Failed(format!("{tried}: {hint}"))
    }

    /// Why there is no connection. `turn`: whether a TURN server is named.
    pub(super) fn cause(&self, policy: IceTransportPolicy, turn: bool) -> Cause {
        if self.tried == 0 {
            Cause::NotRelayed
        } else if !self.ever_described {
            Cause::NoAnswer
        } else if self.reached {
            Cause::Loss
        } else if policy == IceTransportPolicy::Relay && self.here.relay == 0 {
            Cause::NoRelay
        } else if self.there.total() == 0 {
            Cause::NoAddressesThere
        } else if self.here.total() == 0 {
            Cause::NoAddressesHere
        } else if turn || self.here.relay > 0 || self.there.relay > 0 {
            Cause::RelayedPathFails
        } else if self.here.reflexive == 0 && self.there.reflexive == 0 {
            Cause::StunNeeded
        } else {
            Cause::TurnNeeded
        }
    }

    /// How often it was tried, with which addresses, and what came of the servers that are asked for them.
    fn tried(&self, servers: &Servers) -> String {
        let attempts = self.tried;
        let times = if attempts == 1 { "attempt" } else { "attempts" };
        let failure = self.failure.as_ref().map_or_else(String::new, |failure| format!("; WebRTC says: {failure}"));
        let (here, there) = (&self.here, &self.there);
        let relay = self.relay_failure.as_ref().map_or_else(String::new, |why| format!("; nor by signaling: {why}"));
        let servers = servers.outcome(here);
        format!(
            "no connection after {attempts} {times} (addresses here: {here}; there: {there}; {servers}{failure}{relay})"
        )
    }
}

/// How many STUN and TURN servers are named to this side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Servers {
    stun: usize,
    turn: usize,
}

impl Servers {
    pub(super) fn of(servers: &[IceServer]) -> Self {
        let count = |scheme: &str| {
            let urls = servers.iter().filter(|server| server.urls.iter().any(|url| url.starts_with(scheme)));
            urls.count()
        };
        Self { stun: count("stun"), turn: count("turn") }
    }

    /// What they answered: an address each, or nothing.
    fn outcome(&self, here: &Candidates) -> String {
        let one = |kind, named, addresses| match (named, addresses) {
            (0, _) => format!("no {kind} server is named"),
            (_, 0) => format!("{kind} gave no other address ({named} named)"),
            (_, _) => format!("{kind} answered"),
        };
        // A TURN server is one of STUN as well.
        let stun = one("STUN", self.stun + self.turn, here.reflexive);
        format!("{stun}, {}", one("TURN", self.turn, here.relay))
    }
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    NotRelayed,
    NoAnswer,
    Loss,
    NoRelay,
    NoAddressesThere,
    NoAddressesHere,
    StunNeeded,
    TurnNeeded,
    RelayedPathFails,
}

impl Cause {
    /// As it is reported to signaling: one of [`FAILURES`](coplay_proto::signal::FAILURES).
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::NotRelayed => "not_relayed",
            Self::NoAnswer => "no_answer",
            Self::Loss => "loss",
            Self::NoRelay => "no_relay",
            Self::NoAddressesThere => "no_addresses_there",
            Self::NoAddressesHere => "no_addresses_here",
            Self::StunNeeded => "stun_needed",
            Self::TurnNeeded => "turn_needed",
            Self::RelayedPathFails => "relayed_path_fails",
        }
    }
}

/// Whether this can be a description at all; says why not.
pub(super) fn check(sdp: &str) -> Result<(), &'static str> {
    if sdp.len() > MAX_DESCRIPTION {
        return Err("the description is too long");
    }
    if !sdp.starts_with("v=0") || !sdp.contains("m=application") || !sdp.contains("a=fingerprint:") {
        return Err("the description is not one of a data channel");
    }
    Ok(())
}

/// How many addresses of which kind there were.
#[derive(Default)]
struct Candidates {
    host: u32,
    /// Behind an mDNS name (a browser's way to hide a host address).
    hidden: u32,
    reflexive: u32,
    relay: u32,
}

impl Candidates {
    fn count(&mut self, json: &str) {
        let kind = if json.contains(" typ relay") {
            &mut self.relay
        } else if json.contains(" typ srflx") || json.contains(" typ prflx") {
            &mut self.reflexive
        } else if json.contains(" typ host") && json.contains(".local ") {
            &mut self.hidden
        } else if json.contains(" typ host") {
            &mut self.host
        } else {
            return;
        };
        *kind = kind.saturating_add(1);
    }

    fn total(&self) -> u32 {
        self.host.saturating_add(self.hidden).saturating_add(self.reflexive).saturating_add(self.relay)
    }
}

impl fmt::Display for Candidates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds =
            [(self.host, "host"), (self.hidden, "hidden host"), (self.reflexive, "reflexive"), (self.relay, "relayed")];
        let mut separator = "";
        for (count, kind) in kinds.into_iter().filter(|&(count, _)| count > 0) {
            write!(f, "{separator}{count} {kind}")?;
            separator = ", ";
        }
        if separator.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use coplay_proto::signal::FAILURES;

    use super::*;

    #[test]
    fn the_server_knows_every_code_that_is_reported() {
        let causes = [
            Cause::NotRelayed,
            Cause::NoAnswer,
            Cause::Loss,
            Cause::NoRelay,
            Cause::NoAddressesThere,
            Cause::NoAddressesHere,
            Cause::StunNeeded,
            Cause::TurnNeeded,
            Cause::RelayedPathFails,
        ];
        assert_eq!(BTreeSet::from(causes.map(Cause::code)), BTreeSet::from(FAILURES));
    }
}
