//! The hash chain of a strand, and the Merkle root over a session file.
//!
//! A strand is the events of one (session, producer, epoch, class), in order of `session_seq`. Each carries the
//! SHA-256 of the previous one's exact bytes, so whoever edits, drops or re-orders one has to change all later ones.

use sha2::{Digest, Sha256};

use crate::ids::EventHash;

/// The writing end of a strand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Strand {
    count: u64,
    head: Option<EventHash>,
}

impl Strand {
    /// `session_seq` and `prev_hash` of the next event.
    pub fn next(&self) -> (u64, Option<EventHash>) {
        (self.count + 1, self.head)
    }

    /// Takes the event that was given [`Strand::next`].
    pub fn push(&mut self, hash: EventHash) {
        self.count += 1;
        self.head = Some(hash);
    }

    /// Number of events so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Hash of the last event.
    pub fn head(&self) -> Option<EventHash> {
        self.head
    }
}

/// What is wrong between two neighbours of a strand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// `session_seq` jumps: events are missing.
    #[error("events {first} to {last} of the strand are missing")]
    Missing {
        /// First missing `session_seq`.
        first: u64,
        /// Last missing `session_seq`.
        last: u64,
    },
    /// `session_seq` repeats or goes back.
    #[error("event {seq} of the strand comes after event {after}")]
    OutOfOrder {
        /// The `session_seq` found.
        seq: u64,
        /// The one before it.
        after: u64,
    },
    /// `prev_hash` is not the hash of the previous event.
    #[error("event {seq} of the strand does not name the hash of event {}", seq - 1)]
    WrongHash {
        /// The `session_seq` whose `prev_hash` is wrong.
        seq: u64,
    },
}

impl Strand {
    /// Reads one more event of the strand: its `session_seq`, its `prev_hash` and the hash of its bytes. The strand
    /// goes on from this event in any case, so that one fault is reported once.
    ///
    /// # Errors
    /// When the event does not follow the previous one.
    pub fn follow(
        &mut self,
        seq: u64,
        prev_hash: Option<EventHash>,
        hash: EventHash,
    ) -> Result<(), ChainError> {
        let (expected, head) = self.next();
        self.count = seq;
        self.head = Some(hash);
        if seq < expected {
            return Err(ChainError::OutOfOrder {
                seq,
                after: expected - 1,
            });
        }
        if seq > expected {
            return Err(ChainError::Missing {
                first: expected,
                last: seq - 1,
            });
        }
        if prev_hash != head {
            return Err(ChainError::WrongHash { seq });
        }
        Ok(())
    }
}

/// Merkle tree hash of RFC 6962 §2.1 over leaves that are event hashes, computed one leaf at a time in
/// logarithmic memory.
#[derive(Debug, Clone, Default)]
pub struct MerkleTree {
    leaves: u64,
    /// Roots of the complete subtrees, largest first: one per set bit of `leaves`.
    roots: Vec<[u8; 32]>,
}

impl MerkleTree {
    /// Appends the event with this hash.
    pub fn push(&mut self, leaf: EventHash) {
        let mut root: [u8; 32] = Sha256::new()
            .chain_update([0])
            .chain_update(leaf.as_bytes())
            .finalize()
            .into();
        let mut complete = self.leaves;
        while complete & 1 == 1 {
            let left = self.roots.pop().expect("one root per set bit");
            root = Self::node(&left, &root);
            complete >>= 1;
        }
        self.roots.push(root);
        self.leaves += 1;
    }

    /// Number of leaves.
    pub fn len(&self) -> u64 {
        self.leaves
    }

    /// Whether there is no leaf.
    pub fn is_empty(&self) -> bool {
        self.leaves == 0
    }

    /// The root over all leaves so far; of no leaves, the SHA-256 of nothing.
    pub fn root(&self) -> EventHash {
        let mut roots = self.roots.iter().rev();
        let Some(smallest) = roots.next() else {
            return EventHash::of(&[]);
        };
        EventHash::from_bytes(roots.fold(*smallest, |right, left| Self::node(left, &right)))
    }

    fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
        Sha256::new()
            .chain_update([1])
            .chain_update(left)
            .chain_update(right)
            .finalize()
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hashes(n: u64) -> Vec<EventHash> {
        (0..n).map(|i| EventHash::of(&i.to_be_bytes())).collect()
    }

    #[test]
    fn a_strand_accepts_what_it_wrote() {
        let (mut writer, mut reader) = (Strand::default(), Strand::default());
        for hash in hashes(5) {
            let (seq, prev) = writer.next();
            writer.push(hash);
            assert_eq!(reader.follow(seq, prev, hash), Ok(()));
        }
        assert_eq!(writer, reader);
    }

    #[test]
    fn every_fault_of_a_strand_has_its_name() {
        let h = hashes(4);
        let start = || {
            let mut strand = Strand::default();
            strand.follow(1, None, h[0]).unwrap();
            strand
        };
        assert_eq!(
            start().follow(3, Some(h[1]), h[2]),
            Err(ChainError::Missing { first: 2, last: 2 })
        );
        assert_eq!(
            start().follow(1, None, h[1]),
            Err(ChainError::OutOfOrder { seq: 1, after: 1 })
        );
        assert_eq!(
            start().follow(2, Some(h[3]), h[1]),
            Err(ChainError::WrongHash { seq: 2 })
        );
        assert_eq!(
            start().follow(2, None, h[1]),
            Err(ChainError::WrongHash { seq: 2 })
        );
    }

    #[test]
    fn root_of_nothing_is_the_hash_of_nothing() {
        // RFC 6962 §2.1: MTH({}) = SHA-256().
        let root = MerkleTree::default().root().to_string();
        assert_eq!(
            root,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    /// The definition of RFC 6962 §2.1, word for word.
    fn recursive(leaves: &[EventHash]) -> [u8; 32] {
        if let [leaf] = leaves {
            return Sha256::new()
                .chain_update([0])
                .chain_update(leaf.as_bytes())
                .finalize()
                .into();
        }
        let split = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(split);
        MerkleTree::node(&recursive(left), &recursive(right))
    }

    proptest! {
        #[test]
        fn root_agrees_with_the_definition(n in 1u64..200) {
            let leaves = hashes(n);
            let mut tree = MerkleTree::default();
            leaves.iter().for_each(|leaf| tree.push(*leaf));
            let root = tree.root();
            prop_assert_eq!(root.as_bytes(), &recursive(&leaves));
            prop_assert_eq!(tree.len(), n);
        }
    }
}
