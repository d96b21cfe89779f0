//! Challenges that are known before what they must not know: each lets a forgery pass, which its own time refuses.

use ff::Field;
use pasta_curves::Fp;

use super::forger::Forger;
use super::plain::off_by;
use crate::CheckFailed;
use crate::conduct::{Conduct, Draw, HONEST, Label, Sent};
use crate::hash::{Absorb, Tag};
use crate::sealed::said::stage_transcript;

/// Whoever knows r chooses a polynomial that is wrong and right there: then the sums need not be what the cells say.
#[test]
fn a_round_known_early_hides_a_wrong_sum() {
    let forger = Forger::new();
    let mut cells = forger.plan.fill(&forger.network.factors).unwrap();
    // The lowest limb of the first root.
    cells.columns[0][0] += if cells.columns[0][0] == 0 { 1 } else { -1 };
    let early = Some(Draw::Sum);
    let proof = forger.seal(&cells, Conduct { early, ..HONEST });
    let opened = forger.opened(&proof, early);
    let off = off_by(&forger.plan, &cells, &forger.network.factors, &opened.first);
    assert_ne!(off, Fp::ZERO);
    let begun = stage_transcript(&opened.bound, 1, early);
    let [r]: [Fp; 1] = Absorb::new(Tag::Message).digest(&begun.digest).challenges();
    // The verifier's claim is less than the sum by what is off, half of which is left after a round.
    let amends = off * Fp::from(2).invert().unwrap() * (r - Fp::from(2).invert().unwrap()).invert().unwrap();
    let send = |what: Sent, message: &mut [Fp]| {
        if what == (Sent::Sum { stage: 1, round: 0 }) {
            message[0] += amends;
        }
    };
    let forged = forger.seal(&cells, Conduct { early, send: &send, ..HONEST });
    assert_eq!(forger.verdict(&forged, early), Ok(()));
    let forged = forger.seal(&cells, Conduct { send: &send, ..HONEST });
    assert_eq!(forger.verdict(&forged, None), Err(CheckFailed::SealedProof));
    assert_eq!(forger.verdict(&proof, early), Err(CheckFailed::SealedProof), "without amends");
}

/// Whoever knows X makes up for an entry that is in no table by a count: then limbs need not be limbs.
#[test]
fn a_point_known_early_hides_an_entry_of_no_table() {
    let forger = Forger::new();
    let mut cells = forger.plan.fill(&forger.network.factors).unwrap();
    // What is left below a root, in other limbs: 2^16 more in the lowest, one less in the next.
    let group = &forger.plan.arrangement.groups[0];
    let (low, next) = (group.column(0, 0, 11), group.column(0, 0, 12));
    let row = (0..cells.columns[next].len()).find(|row| cells.columns[next][*row] > 0).unwrap();
    cells.columns[low][row] += 1 << 16;
    cells.columns[next][row] -= 1;
    let early = Some(Draw::Table);
    let proof = forger.seal(&cells, Conduct { early, ..HONEST });
    assert_eq!(forger.verdict(&proof, early), Err(CheckFailed::SealedProof), "without a count");
    let opened = forger.opened(&proof, early);
    let fingerprint = opened.fingerprint;
    // The fraction of the entry, at the place of the least entry of the first table.
    let (table, least) = (group.class.leaves[11].table, forger.plan.arrangement.tables()[0]);
    let entry = [i64::from(cells.columns[low][row]), 0, 0];
    let of_entry = fingerprint.denominator(table, entry);
    let of_least = fingerprint.denominator(least, [least.least(), 0, 0]);
    let more = of_least * of_entry.invert().unwrap();
    let assign = |label: Label, row: usize, value: Fp| {
        if label == Label::Count(0) && row == 0 { value + more } else { value }
    };
    let forged = forger.seal(&cells, Conduct { early, assign: &assign, ..HONEST });
    assert_eq!(forger.verdict(&forged, early), Ok(()));
    let forged = forger.seal(&cells, Conduct { assign: &assign, ..HONEST });
    assert_eq!(forger.verdict(&forged, None), Err(CheckFailed::SealedProof));
}
