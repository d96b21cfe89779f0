//! Hashes from leaves to one top, level by level. A hash without a partner goes up as it is.

use blake3::{Hash, Hasher};

const NODE: &str = "ftk graph 1 node";

/// All levels, the leaves first.
#[derive(Debug)]
pub struct MerkleTree(Vec<Vec<Hash>>);

impl MerkleTree {
    /// Over the hashes of leaves, of which there is at least one.
    pub fn new(leaves: Vec<Hash>) -> Self {
        let mut levels = vec![leaves];
        while levels[levels.len() - 1].len() > 1 {
            let up = levels[levels.len() - 1].chunks(2).map(|pair| match pair {
                [left, right] => join(left, right),
                alone => alone[0],
            });
            let up = up.collect();
            levels.push(up);
        }
        Self(levels)
    }

    /// The hash everything goes up to.
    pub fn top(&self) -> Hash {
        self.0[self.0.len() - 1][0]
    }

    /// What somebody who knows the leaves at these places, which rise, needs to reach the top: level by level the
    /// partners that do not follow from them.
    pub fn partners(&self, places: &[usize]) -> Vec<Hash> {
        let (mut known, mut partners) = (places.to_vec(), Vec::new());
        for level in &self.0[..self.0.len() - 1] {
            let lonely = |&&place: &&usize| known.binary_search(&(place ^ 1)).is_err();
            partners.extend(known.iter().filter(lonely).filter_map(|place| level.get(place ^ 1)));
            known.iter_mut().for_each(|place| *place /= 2);
            known.dedup();
        }
        partners
    }
}

/// Where leaves at places, which rise, among `count` go up to with the partners of [`MerkleTree::partners`]; `None` if there
/// are more or fewer partners than the places ask for, or a place lies outside.
pub fn climb(mut count: usize, leaves: &[(usize, Hash)], partners: &[Hash]) -> Option<Hash> {
    let mut known = leaves.to_vec();
    let mut partners = partners.iter();
    if known.last().is_none_or(|(place, _)| *place >= count) || !known.is_sorted_by(|a, b| a.0 < b.0) {
        return None;
    }
    while count > 1 {
        let mut up = Vec::with_capacity(known.len().div_ceil(2));
        let mut left = known.into_iter().peekable();
        while let Some((place, hash)) = left.next() {
            let hash = if place ^ 1 >= count {
                hash
            } else if place & 1 == 1 {
                join(partners.next()?, &hash)
            } else {
                match left.next_if(|(next, _)| *next == place + 1) {
                    Some((_, partner)) => join(&hash, &partner),
                    None => join(&hash, partners.next()?),
                }
            };
            up.push((place / 2, hash));
        }
        (known, count) = (up, count.div_ceil(2));
    }
    partners.next().is_none().then(|| known[0].1)
}

fn join(left: &Hash, right: &Hash) -> Hash {
    Hasher::new_derive_key(NODE).update(left.as_bytes()).update(right.as_bytes()).finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_leaves_lead_to_the_top_with_their_own_partners_alone() {
        for count in 1..8usize {
            let hashes: Vec<Hash> = (0..count).map(|leaf| blake3::hash(&[leaf as u8])).collect();
            let tree = MerkleTree::new(hashes.clone());
            for chosen in 1..1u32 << count {
                let places: Vec<usize> = (0..count).filter(|place| chosen >> place & 1 == 1).collect();
                let leaves: Vec<(usize, Hash)> = places.iter().map(|&place| (place, hashes[place])).collect();
                let partners = tree.partners(&places);
                assert_eq!(climb(count, &leaves, &partners), Some(tree.top()), "{places:?} of {count}");
                for at in 0..leaves.len() {
                    let mut other = leaves.clone();
                    other[at].1 = blake3::hash(b"other");
                    assert_ne!(climb(count, &other, &partners), Some(tree.top()));
                }
                assert_eq!(climb(count, &leaves, &[partners.clone(), vec![tree.top()]].concat()), None);
                if !partners.is_empty() {
                    assert_eq!(climb(count, &leaves, &partners[1..]), None);
                }
            }
            assert_eq!(climb(count, &[(count, tree.top())], &[]), None);
            assert_eq!(climb(count, &[], &[]), None);
        }
    }

    #[test]
    fn places_out_of_order_lead_nowhere() {
        let hashes: Vec<Hash> = (0..2u8).map(|leaf| blake3::hash(&[leaf])).collect();
        assert_eq!(climb(2, &[(1, hashes[1]), (0, hashes[0])], &[]), None);
        assert_eq!(climb(2, &[(0, hashes[0]), (0, hashes[1])], &[]), None);
    }
}
