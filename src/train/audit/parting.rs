//! Where two transcripts part, found by comparing chains.

use crate::train::transcript::Transcript;

/// Where two transcripts part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parting {
    /// Nowhere.
    Nowhere,
    /// At the head: they are of different runs, or began otherwise. With what differs.
    Head(Vec<&'static str>),
    /// At this step, the state before which is the same. With what differs.
    Step(u64, Vec<&'static str>),
    /// One goes on where the other has ended, after so many steps.
    Length(u64),
    /// The steps are the same, and the result is the state after another one.
    Result,
}

/// The first step in which two transcripts differ, found by comparing chains: one in the middle, then one in the middle
/// of the half that has the difference. With how many chains were compared.
pub fn bisect(ours: &Transcript, theirs: &Transcript) -> (Parting, usize) {
    let both = ours.chain.len().min(theirs.chain.len());
    // Chains up to `same` are equal; that at `other` is not.
    let (mut same, mut other, mut compared) = (0, both, 0);
    while same < other {
        let middle = same + (other - same) / 2;
        compared += 1;
        if ours.chain[middle] == theirs.chain[middle] {
            same = middle + 1;
        } else {
            other = middle;
        }
    }
    let parting = match (other, ours.chain.len() == theirs.chain.len()) {
        (at, true) if at == both => Parting::Nowhere,
        (0, _) => Parting::Head(ours.head.differences(&theirs.head)),
        (at, _) => match (ours.steps.get(at - 1), theirs.steps.get(at - 1)) {
            (Some(ours), Some(theirs)) => Parting::Step(at as u64, ours.differences(theirs)),
            (None, None) if ours.end.is_some() && theirs.end.is_some() => Parting::Result,
            _ => Parting::Length(at as u64 - 1),
        },
    };
    (parting, compared)
}
