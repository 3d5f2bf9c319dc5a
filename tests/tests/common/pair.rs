//! Two healthy peers of ours that talk with each other, and notice whatever is lost.

use coplay_proto::{Lane, PeerId};
use coplay_socket::Dialect;

use crate::peer::Peer;

/// Two peers that are connected.
pub(crate) struct Pair {
    peers: [(Peer, PeerId); 2],
    said: u32,
}

impl Pair {
    /// Two peers that have met in the room with this URL.
    pub(crate) async fn meet(url: &str, dialect: Dialect) -> Self {
        let mut one = Peer::connect(url, dialect);
        let first = one.entered().await.me;
        let mut other = Peer::connect(url, dialect);
        let second = other.entered().await.me;
        one.opened(Some(second)).await;
        other.opened(Some(first)).await;
        Self { peers: [(one, first), (other, second)], said: 0 }
    }

    /// Their ids.
    pub(crate) fn ids(&self) -> [PeerId; 2] {
        self.peers.each_ref().map(|(_, id)| *id)
    }

    /// Says numbered words to and fro on the reliable lane; panics if one is lost, late, changed or comes twice.
    pub(crate) async fn talk(&mut self, words: u32) {
        let [(one, first), (other, second)] = &mut self.peers;
        for word in self.said..self.said + words {
            one.send(*second, Lane::Reliable, word.to_le_bytes().to_vec());
            let heard = other.received(*first, Lane::Reliable).await;
            assert_eq!(heard[..], word.to_le_bytes(), "the second peer heard something else");
            other.send(*first, Lane::Reliable, heard);
            let back = one.received(*second, Lane::Reliable).await;
            assert_eq!(back[..], word.to_le_bytes(), "the first peer heard something else");
        }
        self.said += words;
    }
}
