//! Merkle tree hashes and proofs, as RFC 6962 §2.1 defines them over SHA-256.
//!
//! The functions over slices take the hashes of all leaves; [`super::tiles::RightEdge`] keeps a growing tree in
//! logarithmic memory. Proofs are made by the definition of the RFC and checked by the algorithms of RFC 9162 §2.1.3.2
//! and §2.1.4.2.

use sha2::{Digest, Sha256};

/// A hash of the tree.
pub type Hash = [u8; 32];

/// The hash of a leaf: SHA-256 of a zero byte and its bytes.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new()
        .chain_update([0])
        .chain_update(leaf)
        .finalize()
        .into()
}

/// The hash over two subtrees: SHA-256 of a one byte and both hashes.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new()
        .chain_update([1])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

/// The root over these leaf hashes, or over any complete subtrees of one size; of nothing, the SHA-256 of nothing.
pub fn root(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => Sha256::digest([]).into(),
        [one] => *one,
        more => {
            let (left, right) = more.split_at(split(more.len()));
            node_hash(&root(left), &root(right))
        }
    }
}

/// The proof that the leaf at `index` is in the tree over `leaves`: `PATH(index, leaves)`. Empty for an index outside.
pub fn inclusion(leaves: &[Hash], index: usize) -> Vec<Hash> {
    if leaves.len() < 2 || index >= leaves.len() {
        return Vec::new();
    }
    let k = split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut path, other) = if index < k {
        (inclusion(left, index), root(right))
    } else {
        (inclusion(right, index - k), root(left))
    };
    path.push(other);
    path
}

/// Whether `proof` proves that `leaf` is at `index` of the tree with `size` leaves and this root.
pub fn check_inclusion(proof: &[Hash], index: u64, size: u64, leaf: &Hash, root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut f, mut s, mut hash) = (index, size - 1, *leaf);
    for p in proof {
        if s == 0 {
            return false;
        }
        if f & 1 == 1 || f == s {
            hash = node_hash(p, &hash);
            while f & 1 == 0 && f != 0 {
                f >>= 1;
                s >>= 1;
            }
        } else {
            hash = node_hash(&hash, p);
        }
        f >>= 1;
        s >>= 1;
    }
    s == 0 && hash == *root
}

/// The proof that the tree over the first `old` leaves is a past of the tree over all of them: `PROOF(old, leaves)`.
/// Empty when there is nothing to prove: an empty past, the same tree, or a larger one.
pub fn consistency(leaves: &[Hash], old: usize) -> Vec<Hash> {
    if old == 0 || old >= leaves.len() {
        return Vec::new();
    }
    subproof(leaves, old, true)
}

fn subproof(leaves: &[Hash], old: usize, whole: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if whole {
            Vec::new()
        } else {
            vec![root(leaves)]
        };
    }
    let k = split(leaves.len());
    let (left, right) = leaves.split_at(k);
    if old <= k {
        let mut proof = subproof(left, old, whole);
        proof.push(root(right));
        proof
    } else {
        let mut proof = subproof(right, old - k, false);
        proof.push(root(left));
        proof
    }
}

/// Whether `proof` proves that the tree of `old` leaves is a past of the tree of `new` leaves; each with its root.
pub fn check_consistency(proof: &[Hash], old: (u64, &Hash), new: (u64, &Hash)) -> bool {
    let ((old, old_root), (new, new_root)) = (old, new);
    if old > new {
        return false;
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return proof.is_empty() && *old_root == root(&[]);
    }
    let mut rest = proof.iter();
    let first = if old.is_power_of_two() {
        Some(old_root)
    } else {
        rest.next()
    };
    let Some(first) = first else { return false };
    let (mut f, mut s) = (old - 1, new - 1);
    while f & 1 == 1 {
        f >>= 1;
        s >>= 1;
    }
    let (mut of_old, mut of_new) = (*first, *first);
    for c in rest {
        if s == 0 {
            return false;
        }
        if f & 1 == 1 || f == s {
            of_old = node_hash(c, &of_old);
            of_new = node_hash(c, &of_new);
            while f & 1 == 0 && f != 0 {
                f >>= 1;
                s >>= 1;
            }
        } else {
            of_new = node_hash(&of_new, c);
        }
        f >>= 1;
        s >>= 1;
    }
    s == 0 && of_old == *old_root && of_new == *new_root
}

/// The largest power of two below `n`, which is at least 2.
fn split(n: usize) -> usize {
    n.next_power_of_two() / 2
}

#[cfg(test)]
mod tests;
