//! What may a client ask of the TURN server? Everything passes here first; what is left is done by the allocations of the
//! `turn` crate.
//!
//! That crate knows allocations, permissions and channels, and how to answer. What it lacks is here: nonces that are not
//! kept (its own are, for ever), 401 for bad credentials (it says 400), expiry and revocation, also of what is allocated (it
//! grants an hour), quotas, addresses that are not relayed to, and bounds on permissions and channels. Therefore its server
//! is not used, but its requests are.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
    panic::AssertUnwindSafe,
    sync::{Arc, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::FutureExt;
use stun::{
    agent::TransactionId, attributes::*, error_code::*, integrity::MessageIntegrity, message::*,
    textattrs::TextAttribute, uattrs::UnknownAttributes, xoraddr::XorMappedAddress,
};
use tokio::{sync::Mutex, time::Instant};
use tracing::field;
use turn::{
    allocation::{
        Allocation,
        allocation_manager::{Manager, ManagerConfig},
        five_tuple::FiveTuple,
        permission::Permission,
    },
    auth::AuthHandler,
    proto::{
        PROTO_UDP,
        chandata::ChannelData,
        lifetime::{DEFAULT_LIFETIME, Lifetime},
        reqfamily::{REQUESTED_FAMILY_IPV4, REQUESTED_FAMILY_IPV6, RequestedAddressFamily},
    },
    server::request::Request,
};

use super::{
    Shared,
    counters::count,
    credentials::{self, REALM, Signer},
    downlink::Downlink,
    ledger::{Account, CHANNEL},
    nonce::Nonces,
    relay::{Harbour, Opener},
    strangers::Strangers,
    tokens::Refill,
};
use crate::stun::answer;

/// The largest packet that is looked at, in bytes: what an Ethernet carries.
pub(crate) const MAX_PACKET: usize = 1_500;
/// Packets of clients without an allocation, by network and in all, each second and at once: a LAN party of 64 that
/// starts at the same moment, and a whole server.
const PACKETS: [Refill; 2] = [Refill { burst: 2_048, rate: 256 }, Refill { burst: 32_768, rate: 16_384 }];
/// The same for answers to requests without credentials, which are up to four times as large as the request.
const CHALLENGES: [Refill; 2] = [Refill { burst: 512, rate: 64 }, Refill { burst: 4_096, rate: 1_024 }];
/// What `turn` can do of RFC 8656 and nobody needs for WebRTC. The ports that it tries for them are not ours to give.
const NOT_OFFERED: [AttrType; 2] = [ATTR_EVEN_PORT, ATTR_RESERVATION_TOKEN];

/// The guard of one UDP socket.
pub(crate) struct Guard {
    shared: Arc<Shared>,
    downlink: Arc<Downlink>,
    harbour: Arc<Harbour>,
    manager: Arc<Manager>,
    nonces: Nonces,
    packets: Strangers,
    challenges: Strangers,
    started: Instant,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("harbour", &self.harbour).finish_non_exhaustive()
    }
}

/// Why a request is not granted (RFC 8656, section 19).
struct Refusal {
    code: ErrorCode,
    /// Attributes that say more.
    parts: Vec<Box<dyn Setter>>,
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self { code, parts: Vec::new() }
    }
}

impl Guard {
    pub(crate) fn new(shared: Arc<Shared>, downlink: Arc<Downlink>, harbour: Arc<Harbour>, nonces: Nonces) -> Self {
        let now = Instant::now();
        let [packets, challenges] = [PACKETS, CHALLENGES].map(|[each, all]| Strangers::new(each, all, now));
        let opener = Box::new(Opener(harbour.clone()));
        let manager = Manager::new(ManagerConfig { relay_addr_generator: opener, alloc_close_notify: None });
        Self { shared, downlink, harbour, manager: Arc::new(manager), nonces, packets, challenges, started: now }
    }

    /// Takes one datagram that came from `from`.
    pub(crate) async fn take(&mut self, packet: &[u8], from: SocketAddr) {
        let now = Instant::now();
        let known = match self.shared.ledger.admit(from, now) {
            Some(false) => return count(&self.shared.counters.dropped_rate),
            None if !self.packets.admit(from.ip(), now) => return count(&self.shared.counters.dropped_strangers),
            known => known.is_some(),
        };
        let sound = match packet.first().map(|byte| byte >> 6) {
            Some(0) => self.stun(packet, from, known).await,
            Some(1) => {
                let sound = packet.len() <= MAX_PACKET && ChannelData::is_channel_data(packet);
                if known && sound {
                    self.pass(packet, from, None).await;
                }
                sound
            }
            _ => false,
        };
        if !sound {
            count(&self.shared.counters.dropped_malformed);
        }
    }

    /// Ends every allocation of peers that were revoked.
    pub(crate) async fn end_revoked(&self) {
        let names = {
            let revoked = self.shared.revoked.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.ledger.names(|peer| revoked.contains(peer))
        };
        for name in names {
            self.manager.delete_allocations_by_username(&name).await;
            self.shared.ledger.close_named(&name);
        }
    }

    /// Takes a STUN message; false if it is none.
    async fn stun(&mut self, packet: &[u8], from: SocketAddr, known: bool) -> bool {
        let whole =
            |length: u16| packet.len() == usize::from(length) + MESSAGE_HEADER_SIZE && packet.len() <= MAX_PACKET;
        if !matches!(packet, &[_, _, high, low, ..] if whole(u16::from_be_bytes([high, low]))) {
            return false;
        }
        let mut message = Message::new();
        if message.unmarshal_binary(packet).is_err() {
            return false;
        }
        match (message.typ.class, message.typ.method) {
            (CLASS_REQUEST, METHOD_BINDING) => {
                if let Some(answer) = answer(packet, from) {
                    count(&self.shared.counters.bindings);
                    self.downlink.send(&answer, from);
                }
            }
            (CLASS_INDICATION, METHOD_SEND) if known => self.pass(packet, from, None).await,
            (CLASS_REQUEST, METHOD_ALLOCATE | METHOD_REFRESH | METHOD_CREATE_PERMISSION | METHOD_CHANNEL_BIND) => {
                self.request(packet, message, from).await;
            }
            _ => {}
        }
        true
    }

    async fn request(&mut self, packet: &[u8], mut message: Message, from: SocketAddr) {
        let signer = match self.authenticate(&mut message, from) {
            Ok(Some(signer)) => signer,
            Ok(None) => return,
            Err(refusal) => {
                // Without a signature it is asked for one, as is usual.
                if message.contains(ATTR_MESSAGE_INTEGRITY) {
                    tracing::debug!(%from, code = refusal.code.0, "a TURN request is refused");
                }
                return self.refuse(&message, from, refusal, None);
            }
        };
        let granted = match message.typ.method {
            METHOD_ALLOCATE => self.allocate(&message, from, &signer).await,
            _ => self.manage(packet, &message, from, &signer).await,
        };
        if let Err(refusal) = granted {
            tracing::debug!(id = %signer.peer, %from, code = refusal.code.0, "a TURN request is refused");
            self.refuse(&message, from, refusal, Some(signer.key.0));
        }
    }

    /// Who signed a request. `None` if it is to be met with silence.
    fn authenticate(&mut self, message: &mut Message, from: SocketAddr) -> Result<Option<Signer>, Refusal> {
        if !message.contains(ATTR_MESSAGE_INTEGRITY) {
            if !self.challenges.admit(from.ip(), Instant::now()) {
                count(&self.shared.counters.dropped_strangers);
                return Ok(None);
            }
            count(&self.shared.counters.challenges);
            return Err(self.challenge(CODE_UNAUTHORIZED, from));
        }
        let text = |kind| TextAttribute::get_from_as(message, kind).map(|attribute| attribute.text);
        // What comes after the signature is not signed.
        let after = message.attributes.0.iter().skip_while(|attribute| attribute.typ != ATTR_MESSAGE_INTEGRITY).skip(1);
        let unsigned = after.filter(|attribute| attribute.typ != ATTR_FINGERPRINT).count();
        let (Ok(username), Ok(realm), Ok(nonce), 0) =
            (text(ATTR_USERNAME), text(ATTR_REALM), text(ATTR_NONCE), unsigned)
        else {
            return Err(CODE_BAD_REQUEST.into());
        };
        if !self.nonces.holds(&nonce, from, self.started.elapsed()) {
            return Err(self.challenge(CODE_STALE_NONCE, from));
        }
        let signer = credentials::check(&self.shared.secrets, username, message, SystemTime::now());
        let revoked =
            |signer: &Signer| self.shared.revoked.lock().unwrap_or_else(PoisonError::into_inner).contains(signer.peer);
        match signer {
            Some(signer) if realm == REALM && !revoked(&signer) => Ok(Some(signer)),
            _ => {
                count(&self.shared.counters.refused_credentials);
                Err(self.challenge(CODE_UNAUTHORIZED, from))
            }
        }
    }

    async fn allocate(&self, message: &Message, from: SocketAddr, signer: &Signer) -> Result<(), Refusal> {
        let Shared { ledger, counters, .. } = &*self.shared;
        if let Some(account) = ledger.of(from) {
            return match account.relay {
                // The answer was lost.
                Some(relay) if account.request == message.transaction_id && account.peer == signer.peer => {
                    self.confirm(message, from, relay, signer);
                    Ok(())
                }
                _ => Err(CODE_ALLOC_MISMATCH.into()),
            };
        }
        let wanted: Vec<_> = NOT_OFFERED.into_iter().filter(|kind| message.contains(*kind)).collect();
        if !wanted.is_empty() {
            return Err(Refusal { code: CODE_UNKNOWN_ATTRIBUTE, parts: vec![Box::new(UnknownAttributes(wanted))] });
        }
        let mut family = RequestedAddressFamily::default();
        let family = match family.get_from(message) {
            Ok(()) if family == REQUESTED_FAMILY_IPV6 => self.harbour.v6,
            Ok(()) if family == REQUESTED_FAMILY_IPV4 => self.harbour.v4,
            Err(_) if !message.contains(ATTR_REQUESTED_ADDRESS_FAMILY) => self.harbour.v4,
            _ => None,
        };
        if family.is_none() {
            return Err(CODE_ADDR_FAMILY_NOT_SUPPORTED.into());
        }
        let lease = ledger.open(from, signer.peer, signer.username.clone(), message.transaction_id, Instant::now());
        let Some(lease) = lease else {
            count(&counters.refused_quota);
            return Err(CODE_ALLOC_QUOTA_REACHED.into());
        };
        let limited = limited(message, signer)?;
        self.harbour.expect(Some(lease));
        self.pass(&limited, from, Some(signer)).await;
        // If it was not taken up, the request was refused, and the lease ends here.
        self.harbour.expect(None);
        if let Some(account) = ledger.of(from) {
            tracing::debug!(id = %signer.peer, %from, relay = account.relay.map(field::display), "a TURN allocation");
            count(&counters.allocated);
        } else {
            count(&counters.refused_quota);
        }
        Ok(())
    }

    /// Answers a request for an allocation that was made by it a moment ago, as it was answered then.
    fn confirm(&self, message: &Message, from: SocketAddr, relay: SocketAddr, signer: &Signer) {
        let address = |address: SocketAddr| XorMappedAddress { ip: address.ip(), port: address.port() };
        let mut answer = Message::new();
        let built = answer
            .build(&[
                Box::new(Again(message.transaction_id)),
                Box::new(MessageType::new(METHOD_ALLOCATE, CLASS_SUCCESS_RESPONSE)),
            ])
            .and_then(|()| address(relay).add_to_as(&mut answer, ATTR_XOR_RELAYED_ADDRESS))
            .and_then(|()| Lifetime(lifetime(message, signer)).add_to(&mut answer))
            .and_then(|()| address(from).add_to(&mut answer))
            .and_then(|()| signer.key.0.add_to(&mut answer));
        if built.is_ok() {
            self.downlink.send(&answer.raw, from);
        }
    }

    /// Lengthens or ends an allocation, or adds permissions and channels.
    async fn manage(&self, packet: &[u8], message: &Message, from: SocketAddr, signer: &Signer) -> Result<(), Refusal> {
        let Shared { ledger, .. } = &*self.shared;
        let (Some(account), Some(allocation)) = (ledger.of(from), self.manager.get_allocation(&self.tuple(from)).await)
        else {
            return Err(CODE_ALLOC_MISMATCH.into());
        };
        if account.peer != signer.peer {
            return Err(CODE_WRONG_CREDENTIALS.into());
        }
        match message.typ.method {
            METHOD_CREATE_PERMISSION => self.permit(message, from, &account, &allocation).await?,
            METHOD_CHANNEL_BIND => {
                let peers = self.peers(message)?;
                let [peer] = *peers.as_slice() else { return Err(CODE_BAD_REQUEST.into()) };
                if !self.harbour.rules.permit(peer) {
                    return Err(self.forbid(peer));
                }
                if !ledger.bind(from, peer, Instant::now()) {
                    return Err(CODE_INSUFFICIENT_CAPACITY.into());
                }
            }
            _ => {}
        }
        drop(allocation);
        if message.typ.method == METHOD_REFRESH {
            let limited = limited(message, signer)?;
            self.pass(&limited, from, Some(signer)).await;
        } else {
            self.pass(packet, from, Some(signer)).await;
        }
        if self.manager.get_allocation(&self.tuple(from)).await.is_none() {
            ledger.close(from);
        }
        Ok(())
    }

    async fn permit(
        &self,
        message: &Message,
        from: SocketAddr,
        account: &Account,
        allocation: &Allocation,
    ) -> Result<(), Refusal> {
        let peers = self.peers(message)?;
        if let Some(peer) = peers.iter().find(|peer| !self.harbour.rules.permit_some(peer.ip())) {
            return Err(self.forbid(*peer));
        }
        let addresses: Vec<IpAddr> = peers.iter().map(SocketAddr::ip).collect();
        if !self.shared.ledger.permit(from, &addresses, Instant::now()) {
            return Err(CODE_INSUFFICIENT_CAPACITY.into());
        }
        // `turn` reads the first address again and again for the others.
        let family = account.relay.map(|relay| relay.is_ipv4());
        for peer in peers.into_iter().skip(1).filter(|peer| Some(peer.is_ipv4()) == family) {
            allocation.add_permission(Permission::new(peer)).await;
        }
        Ok(())
    }

    /// The peers that a request names; at least one.
    fn peers(&self, message: &Message) -> Result<Vec<SocketAddr>, Refusal> {
        let named = message.attributes.0.iter().filter(|attribute| attribute.typ == ATTR_XOR_PEER_ADDRESS);
        let read = |attribute: &RawAttribute| {
            let mut alone = Message::new();
            alone.transaction_id = message.transaction_id;
            alone.attributes.0.push(attribute.clone());
            let mut address = XorMappedAddress::default();
            address.get_from_as(&alone, ATTR_XOR_PEER_ADDRESS).ok()?;
            Some(SocketAddr::new(address.ip, address.port))
        };
        let peers: Option<Vec<_>> = named.map(read).collect();
        peers.filter(|peers| !peers.is_empty()).ok_or_else(|| CODE_BAD_REQUEST.into())
    }

    fn forbid(&self, peer: SocketAddr) -> Refusal {
        tracing::debug!(%peer, "an address that is not relayed to");
        count(&self.shared.counters.refused_address);
        CODE_FORBIDDEN.into()
    }

    /// A refusal that says what to sign, and how.
    fn challenge(&self, code: ErrorCode, from: SocketAddr) -> Refusal {
        let nonce = self.nonces.issue(from, self.started.elapsed());
        let parts: Vec<Box<dyn Setter>> = vec![
            Box::new(TextAttribute::new(ATTR_REALM, REALM.to_owned())),
            Box::new(TextAttribute::new(ATTR_NONCE, nonce)),
        ];
        Refusal { code, parts }
    }

    fn refuse(&self, message: &Message, from: SocketAddr, refusal: Refusal, key: Option<MessageIntegrity>) {
        let Refusal { code, parts } = refusal;
        let mut all: Vec<Box<dyn Setter>> = vec![
            Box::new(Again(message.transaction_id)),
            Box::new(MessageType::new(message.typ.method, CLASS_ERROR_RESPONSE)),
            Box::new(ErrorCodeAttribute { code, reason: Vec::new() }),
        ];
        all.extend(parts);
        if let Some(key) = key {
            all.push(Box::new(key));
        }
        let mut answer = Message::new();
        if answer.build(&all).is_ok() {
            self.downlink.send(&answer.raw, from);
        }
    }

    /// Has `turn` do what a packet says that may be done.
    async fn pass(&self, packet: &[u8], from: SocketAddr, signer: Option<&Signer>) {
        let key = signer.map(|signer| signer.key.0.0.clone()).unwrap_or_default();
        let auth = Arc::new(Authenticated(key));
        let mut request = Request::new(self.downlink.clone(), from, self.manager.clone(), auth);
        request.buff = packet.to_vec();
        REALM.clone_into(&mut request.realm);
        request.channel_bind_timeout = CHANNEL;
        if signer.is_some()
            && let Some(nonce) = nonce_of(packet)
        {
            request.nonces = Arc::new(Mutex::new(HashMap::from([(nonce, Instant::now())])));
        }
        match AssertUnwindSafe(request.handle_request()).catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::trace!(%error, client = %from, "not relayed"),
            Err(_) => {
                count(&self.shared.counters.panics);
                tracing::error!(client = %from, "the TURN library panicked on a packet; nothing else is affected");
            }
        }
    }

    fn tuple(&self, from: SocketAddr) -> FiveTuple {
        FiveTuple { protocol: PROTO_UDP, src_addr: from, dst_addr: self.downlink.address() }
    }
}

/// How long an allocation is granted from now on: as asked, but no longer than 10 minutes (RFC 8656, section 3.2), nor than
/// the credentials hold. Whole seconds, upwards: 0 would end it.
fn lifetime(message: &Message, signer: &Signer) -> Duration {
    let mut asked = Lifetime::default();
    let asked = if asked.get_from(message).is_ok() { asked.0 } else { DEFAULT_LIFETIME };
    let left = signer.left.min(DEFAULT_LIFETIME);
    let left = Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0));
    asked.min(left)
}

/// A request with the lifetime that is granted in place of that which is asked for, signed anew with the same key: `turn`
/// grants whatever is below an hour.
fn limited(message: &Message, signer: &Signer) -> Result<Vec<u8>, Refusal> {
    let replaced = [ATTR_LIFETIME, ATTR_MESSAGE_INTEGRITY, ATTR_FINGERPRINT];
    let mut limited = Message::new();
    let head: [Box<dyn Setter>; 2] =
        [Box::new(Again(message.transaction_id)), Box::new(MessageType::new(message.typ.method, CLASS_REQUEST))];
    let mut built = limited.build(&head);
    for attribute in message.attributes.0.iter().filter(|attribute| !replaced.contains(&attribute.typ)) {
        limited.add(attribute.typ, &attribute.value);
    }
    built = built.and_then(|()| Lifetime(lifetime(message, signer)).add_to(&mut limited));
    built = built.and_then(|()| signer.key.0.add_to(&mut limited));
    built.map(|()| limited.raw).map_err(|_| CODE_SERVER_ERROR.into())
}

fn nonce_of(packet: &[u8]) -> Option<String> {
    let mut message = Message::new();
    message.unmarshal_binary(packet).ok()?;
    TextAttribute::get_from_as(&message, ATTR_NONCE).ok().map(|nonce| nonce.text)
}

/// The key of the client whose request is just passed on: it was checked before.
struct Authenticated(Vec<u8>);

impl AuthHandler for Authenticated {
    fn auth_handle(&self, _: &str, _: &str, _: SocketAddr) -> Result<Vec<u8>, turn::Error> {
        Ok(self.0.clone())
    }
}

/// Answers the request with this id.
struct Again(TransactionId);

impl Setter for Again {
    fn add_to(&self, message: &mut Message) -> Result<(), stun::Error> {
        message.transaction_id = self.0;
        message.write_transaction_id();
        Ok(())
    }
}
