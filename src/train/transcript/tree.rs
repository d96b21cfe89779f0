//! Roots and leaves: the digests of a transcript that are over many numbers or many digests.

use blake3::{Hash, Hasher};
use rayon::prelude::*;

use crate::train::checkpoint::Slot;

const LEAF: &str = "ftk transcript 1 leaf";
const NODE: &str = "ftk transcript 1 node";
const ROOT: &str = "ftk transcript 1 root";
/// Numbers that are put into bytes at a time.
const NUMBERS: usize = 1 << 12;

/// Roots over a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Over the parameters.
    pub values: Hash,
    /// Over their first moments.
    pub first: Hash,
    /// Over their second moments.
    pub second: Hash,
}

/// Roots over the state that slots hold.
pub fn roots(slots: &[Slot]) -> Roots {
    let of = |part: fn(&Slot) -> &[f32]| named_root(slots, |slot| (&slot.name, part(slot)));
    Roots { values: of(|slot| &slot.value), first: of(|slot| &slot.first), second: of(|slot| &slot.second) }
}

/// Root over numbers of the same parameters as the slots, in their order.
pub fn root_of(slots: &[Slot], numbers: &[Vec<f32>]) -> Hash {
    let named: Vec<(&Slot, &Vec<f32>)> = slots.iter().zip(numbers).collect();
    named_root(&named, |(slot, numbers)| (&slot.name, numbers))
}

fn named_root<T: Sync>(all: &[T], named: impl Fn(&T) -> (&str, &[f32]) + Sync) -> Hash {
    let leaves = all.par_iter().map(|one| {
        let (name, numbers) = named(one);
        leaf(name, numbers)
    });
    root(leaves.collect())
}

/// The leaf of a parameter's zeros, of so many.
pub fn zeros(name: &str, entries: u64) -> Hash {
    let mut hash = Hasher::new_derive_key(LEAF);
    text(&mut hash, name);
    hash.update(&entries.to_le_bytes());
    let zeros = [0; 4 * NUMBERS];
    let mut left = entries;
    while left > 0 {
        let some = left.min(NUMBERS as u64);
        hash.update(&zeros[..4 * some as usize]);
        left -= some;
    }
    hash.finalize()
}

/// The leaf of a parameter.
pub fn leaf(name: &str, numbers: &[f32]) -> Hash {
    let mut hash = Hasher::new_derive_key(LEAF);
    text(&mut hash, name);
    hash.update(&(numbers.len() as u64).to_le_bytes());
    let mut bytes = [0; 4 * NUMBERS];
    for numbers in numbers.chunks(NUMBERS) {
        for (to, number) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
            *to = number.to_le_bytes();
        }
        hash.update(&bytes[..4 * numbers.len()]);
    }
    hash.finalize()
}

/// Root over leaves in their order.
pub fn root(leaves: Vec<Hash>) -> Hash {
    let count = leaves.len() as u64;
    let mut level = leaves;
    while level.len() > 1 {
        level = joined(&level);
    }
    topped(count, level.first())
}

/// What the leaf at a place is joined with on each level that has a partner for it, from below.
pub fn path(leaves: &[Hash], place: usize) -> Vec<Hash> {
    let (mut level, mut at, mut path) = (leaves.to_vec(), place, Vec::new());
    while level.len() > 1 {
        path.extend(level.get(at ^ 1));
        (level, at) = (joined(&level), at / 2);
    }
    path
}

/// The root over so many leaves of which one, at a place, leads up by such a path; none of a place or a path that no leaf
/// of so many has.
pub fn climb(leaf: Hash, place: u64, count: u64, path: &[Hash]) -> Option<Hash> {
    let (mut node, mut at, mut width, mut path) = (leaf, place, count, path.iter());
    if place >= count {
        return None;
    }
    while width > 1 {
        if at ^ 1 < width {
            let beside = path.next()?;
            node = if at.is_multiple_of(2) { join(&node, beside) } else { join(beside, &node) };
        }
        (at, width) = (at / 2, width.div_ceil(2));
    }
    path.next().is_none().then(|| topped(count, Some(&node)))
}

fn join(left: &Hash, right: &Hash) -> Hash {
    Hasher::new_derive_key(NODE).update(left.as_bytes()).update(right.as_bytes()).finalize()
}

/// The level above: a digest without a partner goes up as it is.
fn joined(level: &[Hash]) -> Vec<Hash> {
    let pair = |pair: &[Hash]| match pair {
        [left, right] => join(left, right),
        alone => alone[0],
    };
    level.chunks(2).map(pair).collect()
}

fn topped(count: u64, top: Option<&Hash>) -> Hash {
    let mut hash = Hasher::new_derive_key(ROOT);
    hash.update(&count.to_le_bytes());
    if let Some(top) = top {
        hash.update(top.as_bytes());
    }
    hash.finalize()
}

pub(super) fn text(hash: &mut Hasher, text: &str) {
    hash.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_leads_to_the_root_by_its_own_path_at_its_own_place_alone() {
        let leaves: Vec<Hash> = (0u8..11).map(|at| blake3::hash(&[at])).collect();
        for count in 1..=leaves.len() {
            let leaves = &leaves[..count];
            let root = root(leaves.to_vec());
            for (place, leaf) in leaves.iter().enumerate() {
                let own = path(leaves, place);
                let up = |leaf: &Hash, place: u64, count: u64, path: &[Hash]| climb(*leaf, place, count, path);
                let (at, of) = (place as u64, count as u64);
                assert_eq!(up(leaf, at, of, &own), Some(root), "{place} of {count}");
                assert_ne!(up(&blake3::hash(b"another"), at, of, &own), Some(root), "{place} of {count}");
                for other in (0..of + 2).filter(|&other| other != at) {
                    assert_ne!(up(leaf, other, of, &own), Some(root), "{place} of {count}, at {other}");
                }
                assert_ne!(up(leaf, at, of + 1, &own), Some(root), "{place} of {count}");
                let longer = [own.as_slice(), &[*leaf]].concat();
                assert_eq!(up(leaf, at, of, &longer), None, "{place} of {count}");
                if let Some(shorter) = own.len().checked_sub(1) {
                    assert_eq!(up(leaf, at, of, &own[..shorter]), None, "{place} of {count}");
                }
            }
            assert_eq!(climb(leaves[0], count as u64, count as u64, &[]), None);
        }
    }
}
