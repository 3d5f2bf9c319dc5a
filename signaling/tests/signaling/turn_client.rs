//! A TURN client that does one thing at a time, right or wrong.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use coplay_signaling::Running;
use stun::{
    agent::TransactionId, attributes::*, error_code::ErrorCodeAttribute, integrity::MessageIntegrity, message::*,
    textattrs::TextAttribute, xoraddr::XorMappedAddress,
};
use tokio::{net::UdpSocket, time::timeout};
use turn::proto::{
    PROTO_UDP, chandata::ChannelData, channum::ChannelNumber, data::Data, lifetime::Lifetime, peeraddr::PeerAddress,
    reqtrans::RequestedTransport,
};

use crate::client::*;

/// The secret of the servers that it asks.
pub(crate) const SECRET: &str = "north";
/// The first time that a client asks again when nothing is heard (RFC 8489, section 6.2.1).
const RETRY: Duration = Duration::from_millis(500);

pub(crate) fn password(secret: &str, username: &str) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use hmac::Mac;
    let mut signer = hmac::Hmac::<sha1::Sha1>::new_from_slice(secret.as_bytes()).unwrap();
    signer.update(username.as_bytes());
    BASE64_STANDARD.encode(signer.finalize().into_bytes())
}

/// The name of `peer`'s credentials that end `seconds` from now.
pub(crate) fn username(peer: u128, seconds: i64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let peer = uuid::Uuid::from_u128(peer);
    format!("{}:{peer}", now.saturating_add_signed(seconds))
}

/// One client.
pub(crate) struct Asker {
    pub(crate) socket: UdpSocket,
    pub(crate) server: SocketAddr,
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) nonce: String,
}

pub(crate) type Part = Box<dyn Setter>;

impl Asker {
    pub(crate) async fn new(server: &Running, peer: u128) -> Self {
        let name = username(peer, 600);
        let password = password(SECRET, &name);
        Self::with("127.0.0.1", server, name, password).await
    }

    pub(crate) async fn with(ip: &str, server: &Running, username: String, password: String) -> Self {
        let socket = UdpSocket::bind((ip, 0)).await.unwrap();
        Self { socket, server: server.stun_addr().unwrap(), username, password, nonce: String::new() }
    }

    pub(crate) fn request(&self, method: Method, parts: Vec<Part>) -> Message {
        let kind = MessageType::new(method, CLASS_REQUEST);
        let mut all: Vec<Part> = vec![Box::new(TransactionId::new()), Box::new(kind)];
        all.extend(parts);
        if !self.nonce.is_empty() {
            for (kind, text) in [(ATTR_USERNAME, &*self.username), (ATTR_REALM, "coplay"), (ATTR_NONCE, &*self.nonce)] {
                all.push(Box::new(TextAttribute::new(kind, text.to_owned())));
            }
            all.push(Box::new(self.key()));
        }
        let mut message = Message::new();
        message.build(&all).unwrap();
        message
    }

    pub(crate) fn key(&self) -> MessageIntegrity {
        MessageIntegrity::new_long_term_integrity(self.username.clone(), "coplay".into(), self.password.clone())
    }

    /// What the server says to `request`; asked again until it answers.
    pub(crate) async fn ask(&self, request: &Message) -> Message {
        let answer = async {
            let mut buffer = [0; 2000];
            loop {
                self.socket.send_to(&request.raw, self.server).await.unwrap();
                let Ok(received) = timeout(RETRY, self.socket.recv_from(&mut buffer)).await else { continue };
                let (length, _) = received.unwrap();
                let mut answer = Message::new();
                if answer.unmarshal_binary(&buffer[..length]).is_ok() && answer.transaction_id == request.transaction_id
                {
                    return answer;
                }
            }
        };
        let mut answer = soon("an answer of the TURN server", answer).await;
        if answer.contains(ATTR_MESSAGE_INTEGRITY) {
            self.key().check(&mut answer).unwrap();
        } else {
            assert_eq!(answer.typ.class, CLASS_ERROR_RESPONSE, "a success is signed");
        }
        answer
    }

    /// The same for a new request: the error code, or the answer.
    pub(crate) async fn say(&self, method: Method, parts: Vec<Part>) -> Result<Message, u16> {
        outcome(self.ask(&self.request(method, parts)).await)
    }

    /// Learns what to sign.
    pub(crate) async fn challenge(&mut self) {
        self.nonce.clear();
        let answer = self.ask(&self.request(METHOD_ALLOCATE, vec![udp()])).await;
        assert_eq!(outcome(answer.clone()).unwrap_err(), 401);
        self.nonce = TextAttribute::get_from_as(&answer, ATTR_NONCE).unwrap().text;
        assert_eq!(TextAttribute::get_from_as(&answer, ATTR_REALM).unwrap().text, "coplay");
    }

    /// Makes an allocation: the address of its relay, or the error code.
    pub(crate) async fn allocate(&mut self) -> Result<SocketAddr, u16> {
        if self.nonce.is_empty() {
            self.challenge().await;
        }
        self.say(METHOD_ALLOCATE, vec![udp()]).await.map(|answer| relay(&answer))
    }

    pub(crate) async fn permit(&self, peer: SocketAddr) -> Result<Message, u16> {
        self.say(METHOD_CREATE_PERMISSION, vec![address(peer)]).await
    }

    pub(crate) async fn bind(&self, channel: u16, peer: SocketAddr) -> Result<Message, u16> {
        self.say(METHOD_CHANNEL_BIND, vec![Box::new(ChannelNumber(channel)), address(peer)]).await
    }

    pub(crate) async fn refresh(&self, seconds: u64) -> Result<Message, u16> {
        self.say(METHOD_REFRESH, vec![Box::new(Lifetime(Duration::from_secs(seconds)))]).await
    }

    /// Sends by an indication.
    pub(crate) async fn send(&self, peer: SocketAddr, bytes: &[u8]) {
        let mut message = Message::new();
        let parts: [Part; 4] = [
            Box::new(TransactionId::new()),
            Box::new(MessageType::new(METHOD_SEND, CLASS_INDICATION)),
            address(peer),
            Box::new(Data(bytes.to_vec())),
        ];
        message.build(&parts).unwrap();
        self.socket.send_to(&message.raw, self.server).await.unwrap();
    }

    /// Sends by a channel.
    pub(crate) async fn send_on(&self, channel: u16, bytes: &[u8]) {
        let mut data = ChannelData { data: bytes.to_vec(), number: ChannelNumber(channel), raw: Vec::new() };
        data.encode();
        self.socket.send_to(&data.raw, self.server).await.unwrap();
    }

    /// The next that comes through the relay.
    pub(crate) async fn hear(&self) -> Vec<u8> {
        let mut buffer = [0; 2000];
        let (length, _) = soon("relayed data", self.socket.recv_from(&mut buffer)).await.unwrap();
        if ChannelData::is_channel_data(&buffer[..length]) {
            let mut data = ChannelData { raw: buffer[..length].to_vec(), ..ChannelData::default() };
            data.decode().unwrap();
            return data.data;
        }
        let mut message = Message::new();
        message.unmarshal_binary(&buffer[..length]).unwrap();
        let mut data = Data::default();
        data.get_from(&message).unwrap();
        data.0
    }
}

pub(crate) fn udp() -> Part {
    Box::new(RequestedTransport { protocol: PROTO_UDP })
}

pub(crate) fn address(peer: SocketAddr) -> Part {
    Box::new(PeerAddress { ip: peer.ip(), port: peer.port() })
}

pub(crate) fn relay(answer: &Message) -> SocketAddr {
    let mut address = XorMappedAddress::default();
    address.get_from_as(answer, ATTR_XOR_RELAYED_ADDRESS).unwrap();
    SocketAddr::new(address.ip, address.port)
}

pub(crate) fn outcome(answer: Message) -> Result<Message, u16> {
    if answer.typ.class == CLASS_SUCCESS_RESPONSE {
        return Ok(answer);
    }
    let mut error = ErrorCodeAttribute::default();
    error.get_from(&answer).unwrap();
    Err(error.code.0)
}
