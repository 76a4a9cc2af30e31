//! Published vectors of Certificate Transparency, and properties.

use proptest::prelude::*;

use super::*;

/// The eight leaves of the reference vectors of Certificate Transparency.
const LEAVES: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];

/// Their roots, of one leaf to all eight.
const ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .map(|c| u8::try_from(c.to_digit(16).unwrap()).unwrap())
        .collect();
    digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect()
}

fn hash(hex: &str) -> Hash {
    bytes(hex).try_into().unwrap()
}

fn reference() -> Vec<Hash> {
    LEAVES.iter().map(|leaf| leaf_hash(&bytes(leaf))).collect()
}

fn leaves(n: usize) -> Vec<Hash> {
    (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
}

#[test]
fn roots_are_those_of_the_reference() {
    let leaves = reference();
    for (n, expected) in ROOTS.iter().enumerate() {
        assert_eq!(root(&leaves[..=n]), hash(expected));
    }
    assert_eq!(
        root(&[]),
        hash("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    );
}

#[test]
fn proofs_are_those_of_the_reference() {
    let leaves = reference();
    // The audit path of the first leaf of eight, and the consistency of six with eight.
    assert_eq!(
        inclusion(&leaves, 0),
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ]
        .map(hash)
    );
    assert_eq!(
        consistency(&leaves, 6),
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ]
        .map(hash)
    );
}

proptest! {
    #[test]
    fn every_leaf_is_proven_and_nothing_else_is(n in 1usize..200, pick in any::<prop::sample::Index>(), other in any::<prop::sample::Index>()) {
        let leaves = leaves(n);
        let (root, index) = (root(&leaves), pick.index(n));
        let proof = inclusion(&leaves, index);
        let (at, size) = (index as u64, n as u64);
        prop_assert!(check_inclusion(&proof, at, size, &leaves[index], &root));
        let other = other.index(n);
        if other != index {
            prop_assert!(!check_inclusion(&proof, other as u64, size, &leaves[index], &root));
            prop_assert!(!check_inclusion(&proof, at, size, &leaves[other], &root));
        }
        prop_assert!(!check_inclusion(&proof, at, size, &leaves[index], &leaf_hash(b"another")));
        let longer = [&proof[..], &[root]].concat();
        prop_assert!(!check_inclusion(&longer, at, size, &leaves[index], &root));
        if !proof.is_empty() {
            prop_assert!(!check_inclusion(&proof[1..], at, size, &leaves[index], &root));
        }
    }

    #[test]
    fn every_past_is_proven_and_no_other_is(n in 1usize..200, pick in any::<prop::sample::Index>()) {
        let leaves = leaves(n);
        let old = pick.index(n + 1);
        let (past, now) = (root(&leaves[..old]), root(&leaves));
        let (old, new) = (old as u64, n as u64);
        let proof = consistency(&leaves, usize::try_from(old).unwrap());
        prop_assert!(check_consistency(&proof, (old, &past), (new, &now)));
        let another = leaf_hash(b"another");
        prop_assert!(!check_consistency(&proof, (old, &another), (new, &now)));
        if old < new && old > 0 {
            prop_assert!(!check_consistency(&proof, (old, &past), (new, &another)));
            prop_assert!(!check_consistency(&proof[1..], (old, &past), (new, &now)));
        }
        prop_assert!(!check_consistency(&proof, (new + 1, &past), (new, &now)));
    }
}
