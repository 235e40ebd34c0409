//! What the halves of a synchronous connection tell each other, in Control frames.

use serde::{Deserialize, Serialize};

/// First byte of a Control frame that carries one.
const TAG: u8 = 1;

/// A message. Encoded: the byte 1, then postcard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncMessage {
    /// Target to source: may I call myself level?
    Ask {
        /// Number of the question.
        number: u64,
        /// The last grant that is durable here; 0: none.
        held: u64,
    },
    /// Source to target: yes.
    Grant {
        /// The question's.
        number: u64,
        /// For how long, from the question on.
        lease_ms: u64,
    },
    /// Source to target: not any more.
    Revoke {
        /// This grant and all before.
        number: u64,
    },
    /// Target to source: that is durable.
    Revoked {
        /// The revocation's.
        number: u64,
    },
    /// Source to target, after all that it asks for: an fsync waits until everything up to this number of capture is
    /// durable. A source that says so does not wait otherwise: the rest may gather.
    Want {
        /// Number of capture.
        captured: u64,
    },
}

impl SyncMessage {
    /// As the body of a Control frame.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![TAG]).expect("plain values can always be encoded")
    }

    /// `None`: it is something else.
    pub fn decode(body: &[u8]) -> Option<SyncMessage> {
        let (tag, message) = body.split_first()?;
        let decoded = postcard::take_from_bytes(message).ok().filter(|_| *tag == TAG);
        decoded.filter(|(_, rest)| rest.is_empty()).map(|(message, _)| message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_stay_as_they_are() {
        let messages = [
            (SyncMessage::Ask { number: 300, held: 2 }, &[1, 0, 0xac, 2, 2][..]),
            (SyncMessage::Grant { number: 5, lease_ms: 4900 }, &[1, 1, 5, 0xa4, 0x26]),
            (SyncMessage::Revoke { number: 5 }, &[1, 2, 5]),
            (SyncMessage::Revoked { number: 5 }, &[1, 3, 5]),
            (SyncMessage::Want { captured: 300 }, &[1, 4, 0xac, 2]),
        ];
        for (message, bytes) in messages {
            assert_eq!(message.encode(), bytes);
            assert_eq!(SyncMessage::decode(bytes), Some(message));
        }
        for damaged in [&[][..], &[1], &[2, 2, 5], &[1, 5, 5], &[1, 2, 5, 0], &[1, 0, 0xac]] {
            assert_eq!(SyncMessage::decode(damaged), None);
        }
    }
}
