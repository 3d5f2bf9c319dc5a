//! What is a WebRTC data connection made of? ICE, DTLS and SCTP, each a machine without input or output, composed here.
//!
//! ```text
//!   datagrams ──▶ demultiplexed by their first byte (RFC 7983)
//!                 ├─ STUN ──▶ `ice`    rtc-ice: which way the packets go
//!                 └─ DTLS ──▶ `flights` whole flights, each once ──▶ `dtls`  rtc-dtls: who the peer is
//!                                                                      └─▶ `sctp`  dcsctp: messages of two channels
//! ```
//!
//! [`connection::Connection`] is driven like every machine here: bytes and time in, then what it sends and what happened out.
//! `description` has the SDP of a session with nothing but data, and `candidate` its addresses. There is no DCEP (RFC 8832):
//! both channels are negotiated, so they are open when SCTP is, on both sides.

pub(super) mod candidate;
pub(super) mod connection;
pub(super) mod description;
pub(super) mod dtls;
mod flights;
mod ice;
pub(super) mod relaying;
mod sctp;
