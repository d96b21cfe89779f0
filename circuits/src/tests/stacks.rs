//! Stacks: what follows from the parts, and what a forger who knows the parts' openings cannot pass off as their stack.

use super::support::*;
use crate::*;

const NO_HALVING: [i32; 2] = [0, 0];

/// A part of this rank, with sites that all parts have.
fn part(seed: u64, rank: u32) -> Case {
    Case::with(factors(seed, &[shape("q", rank, 20, 5), shape("v", rank, 300, 33)]))
}

fn published(case: &Case) -> StackPart {
    StackPart { commitment: case.commitment.clone(), registration: case.register() }
}

/// The stack of parts as whoever has all openings knows it.
fn stacked(parts: &[&Case], halvings: &[i32]) -> Case {
    let commitments: Vec<_> = parts.iter().map(|part| &part.commitment).collect();
    let commitment = stack(&commitments, halvings).unwrap();
    let openings: Vec<_> = parts.iter().map(|part| (&part.commitment, &part.opening)).collect();
    let opening = stack_opening(&openings).unwrap();
    let factors: Vec<_> = parts.iter().map(|part| part.factors.clone()).collect();
    let factors = stack_factors(&commitment, &factors);
    let (sites, statement) = (rows(2, &factors, ROWS), statement(commitment.digest()));
    Case { key: key(commitment.k()), factors, commitment, opening, statement, sites }
}

fn refused(parts: &[&Case], halvings: &[i32]) -> String {
    let commitments: Vec<_> = parts.iter().map(|part| &part.commitment).collect();
    stack(&commitments, halvings).unwrap_err().to_string()
}

#[test]
fn a_stack_is_the_sum_of_its_parts_and_is_proved_with() {
    let parts = [part(1, 2), part(2, 3), part(3, 2)];
    let parts: Vec<&Case> = parts.iter().collect();
    let whole = stacked(&parts, &[2, 2, 2]);
    let shapes = whole.commitment.shapes();
    assert!(shapes.iter().all(|shape| (shape.rank, shape.shift_a, shape.shift_b) == (7, 12, 16)));
    assert_eq!(whole.commitment.parts().len(), 3);
    assert_eq!(opens(whole.key, &whole.commitment, &whole.opening, &whole.factors), Ok(()));
    let decoded = AdapterCommitment::decode(&whole.commitment.encode()).unwrap();
    assert_eq!((&decoded, decoded.digest()), (&whole.commitment, whole.commitment.digest()));
    // The same inputs, part by part.
    for (site, rows) in whole.sites.iter().enumerate() {
        let of_part = |part: &&Case| deltas(&part.factors[site], &rows.inputs);
        let sum = parts.iter().map(of_part).reduce(|sum, more| sum.iter().zip(&more).map(|(a, b)| a + b).collect());
        assert_eq!(sum.unwrap(), rows.deltas);
    }
    assert_eq!(whole.verify(&whole.prove()), Ok(()));
    let published: Vec<_> = parts.iter().map(|part| published(part)).collect();
    let registration = stack_registration(&published);
    assert_eq!(verify_registration(whole.key, &whole.commitment, &registration), Ok(()));
    let found = stack_parts(&whole.commitment, &registration).unwrap();
    assert_eq!(found, published.into_iter().map(|part| (part, 2)).collect::<Vec<_>>());
    let claim =
        DeferredClaim::Registration { key: whole.key, commitment: &whole.commitment, registration: &registration };
    assert_eq!(verify_all(&[claim, claim], &|_| false), [Ok(()), Ok(())]);
}

/// A stack has columns as long as those of its parts, also where one commitment to so many lanes would have longer ones.
#[test]
fn columns_stay_as_long_as_those_of_the_parts() {
    let wide = |seed| Case::with(factors(seed, &[shape("q", 24, 4000, 4000)]));
    let parts = [wide(1), wide(2), wide(3), wide(4)];
    let whole = stacked(&parts.iter().collect::<Vec<_>>(), &[0; 4]);
    assert_eq!(whole.commitment.k(), parts[0].commitment.k());
    assert_ne!(required_k(whole.commitment.shapes()), Ok(whole.commitment.k()), "the case shows something");
    assert_eq!(opens(whole.key, &whole.commitment, &whole.opening, &whole.factors), Ok(()));
    assert_eq!(AdapterCommitment::decode(&whole.commitment.encode()), Ok(whole.commitment));
}

#[test]
fn what_cannot_stand_side_by_side_is_refused_by_name() {
    let (one, two) = (part(1, 2), part(2, 2));
    let digest = |case: &Case| case.commitment.digest();
    assert_eq!(refused(&[&one], &[0]), "stack: needs two parts or more, and has: 1");
    assert_eq!(refused(&[&one, &one], &NO_HALVING), format!("stack: part is there twice: {}", digest(&one)));
    let mut base = two.clone();
    base.commitment = commit(two.key, Digest([8; 32]), &two.factors).unwrap().0;
    let expected = format!("stack: part is for another base, {}: {}", Digest([8; 32]), digest(&base));
    assert_eq!(refused(&[&one, &base], &NO_HALVING), expected);
    let other = Case::with(factors(3, &[shape("q", 2, 20, 5), shape("w", 2, 300, 33)]));
    let expected = format!("stack: part has other sites than the first: {}", digest(&other));
    assert_eq!(refused(&[&one, &other], &NO_HALVING), expected);
    let mixed = Case::with(factors(3, &[shape("q", 2, 20, 5), shape("v", 1, 300, 33)]));
    let expected = format!("stack: part has rank 2 elsewhere and 1 at v: {}", digest(&mixed));
    assert_eq!(refused(&[&one, &mixed], &NO_HALVING), expected);
    let expected = format!("stack: scales of q are 2^-26 and, of part {}, 2^-27", digest(&two));
    assert_eq!(refused(&[&one, &two], &[0, 1]), expected);
    assert_eq!(refused(&[&one, &two], &[40, 40]), "stack: scale of q is none that factors may have: 2^-66");
    let many = [part(1, 64), part(2, 64), part(3, 64)];
    let many: Vec<&Case> = many.iter().collect();
    assert_eq!(refused(&many, &[0; 3]), "stack: ranks together are more than 128: 192");
    let below = refused(&[&one, &two], &[-40, -40]);
    assert_eq!(below, "stack: scale of q is none that factors may have: 2^14");
    let [slim, wide] = [1, 96].map(|rank| Case::with(factors(5, &[shape("q", rank, 4000, 4000)])));
    let expected = format!("stack: part has columns of 2^9 rows in the place of 2^8: {}", digest(&wide));
    assert_eq!(refused(&[&slim, &wide], &NO_HALVING), expected);
    assert_eq!(refused(&[&one, &two], &[0, 0, 0]), "stack: has 2 parts and weights: 3");
    let mut nested = stacked(&[&one, &two], &NO_HALVING);
    let third = part(4, 2);
    nested.key = third.key;
    let expected = format!("stack: part is a stack itself, whose parts are to be given: {}", digest(&nested));
    assert_eq!(refused(&[&nested, &third], &NO_HALVING), expected);
    // A commitment to the same columns under another digest.
    let renamed = Case { commitment: one.commitment.clone().of_transcript(Digest([9; 32])), ..one.clone() };
    assert_eq!(refused(&[&one, &renamed], &NO_HALVING), "stack: two parts have a column in common");
}

#[test]
fn each_forged_stack_is_refused_by_name() {
    let parts = [part(1, 2), part(2, 2), part(3, 2)];
    let [one, two, three] = parts.each_ref().map(published);
    let whole = stacked(&[&parts[0], &parts[1]], &[1, 1]).commitment;
    let honest = [one.clone(), two.clone()];
    let key = parts[0].key;
    let verdict = |commitment: &AdapterCommitment, parts: &[StackPart]| {
        verify_registration(key, commitment, &stack_registration(parts)).map_err(|failed| failed.to_string())
    };
    assert_eq!(verdict(&whole, &honest), Ok(()));
    let refused = |commitment: &AdapterCommitment, parts: &[StackPart]| verdict(commitment, parts).unwrap_err();
    let digest = |part: &StackPart| part.commitment.digest();

    // A part left out, added, exchanged, or given in the place of another.
    assert_eq!(refused(&whole, &honest[..1]), "stack: names 2 parts, and there are: 1");
    assert_eq!(refused(&whole, &[one.clone(), two.clone(), three.clone()]), "stack: names 2 parts, and there are: 3");
    let exchanged = [two.clone(), one.clone()];
    let names = format!("stack: names part {}, and there is: {}", digest(&one), digest(&two));
    assert_eq!(refused(&whole, &exchanged), names);
    let names = format!("stack: names part {}, and there is: {}", digest(&two), digest(&three));
    assert_eq!(refused(&whole, &[one.clone(), three.clone()]), names);

    // The digest of a part, or one of its columns, put in the place of another: the maker of three is to have made two.
    let forged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.encode();
        change(&mut bytes);
        AdapterCommitment::decode(&bytes).unwrap()
    };
    let names_at = 12 + 4 + 32 + 1 + 4;
    let claimed = forged(&|bytes| bytes[names_at + 32..][..32].copy_from_slice(&digest(&three).0));
    assert_eq!(refused(&claimed, &[one.clone(), three.clone()]), "stack: is not that of its parts: column 2");
    let points_at = whole.encode().len() - 32 * whole.columns();
    let other = three.commitment.encode();
    let point = other.len() - 32 * three.commitment.columns();
    let column = forged(&|bytes| bytes[points_at + 32 * 3..][..32].copy_from_slice(&other[point..][..32]));
    assert_eq!(refused(&column, &honest), "stack: is not that of its parts: column 3");
    // Other weights at one site: B's scale of the last.
    let scale = forged(&|bytes| bytes[points_at - 1] += 1);
    assert_eq!(refused(&scale, &honest), "stack: shape or scale is not that of its parts: v");
    // Another base.
    let base = forged(&|bytes| bytes[12 + 4] ^= 1);
    assert!(refused(&base, &honest).starts_with("stack: is for another base than its parts: "));

    // A site left out, with the columns that it alone needs: all that is left is as it should be.
    let fewer = forged(&|bytes| {
        bytes.truncate(bytes.len() - 4 * 32);
        let entry = 2 + "v".len() + 3 * 4 + 2;
        drop(bytes.drain(points_at - entry..points_at));
        bytes[names_at + 2 * 32] = 1;
    });
    assert_eq!(refused(&fewer, &honest), "stack: is not that of its parts");

    // A part that is not registered, one with the registration of another, one that was opened by nobody.
    let crossed = [one.clone(), StackPart { registration: three.registration.clone(), ..two.clone() }];
    assert_eq!(verify_registration(key, &whole, &stack_registration(&crossed)), Err(CheckFailed::RegistrationProof));
    let empty = [one.clone(), StackPart { registration: Vec::new(), ..two.clone() }];
    let truncated = CheckFailed::RegistrationEncoding(EncodingError::Truncated);
    assert_eq!(verify_registration(key, &whole, &stack_registration(&empty)), Err(truncated.clone()));
    let other_key = super::support::key(whole.k() + 1);
    let registration = stack_registration(&honest);
    assert_eq!(verify_registration(other_key, &whole, &registration), Err(CheckFailed::Key(whole.k())));
    // A plain registration is none of a stack, and a stack's none of a plain commitment.
    let tag = CheckFailed::RegistrationEncoding(EncodingError::Tag);
    assert_eq!(verify_registration(key, &whole, &one.registration), Err(tag));
    let bytes = stack_registration(&honest);
    assert!(verify_registration(key, &one.commitment, &bytes).is_err());
    for cut in [0, 9, 17, 40, bytes.len() - 1] {
        assert_eq!(verify_registration(key, &whole, &bytes[..cut]), Err(truncated.clone()), "{cut}");
    }
    let trailing = CheckFailed::RegistrationEncoding(EncodingError::TrailingBytes(1));
    assert_eq!(verify_registration(key, &whole, &[bytes, vec![0]].concat()), Err(trailing));
}

#[test]
fn encodings_of_stacks_are_canonical() {
    let whole = stacked(&[&part(1, 2), &part(2, 2)], &NO_HALVING).commitment;
    let refused = |at: usize, value: u8| {
        let mut bytes = whole.encode();
        bytes[at] = value;
        AdapterCommitment::decode(&bytes).unwrap_err()
    };
    let bounds = |what, value| CheckFailed::CommitmentEncoding(EncodingError::Bounds { what, value });
    let k_at = 12 + 4 + 32;
    assert_eq!(refused(k_at, 7), bounds("k", 7));
    assert_eq!(refused(k_at, 15), bounds("k", 15));
    assert_eq!(refused(k_at + 1, 1), bounds("parts", 1));
    assert_eq!(refused(k_at + 1, 200), bounds("parts", 200));
    assert_eq!(refused(0, b'F'), CheckFailed::CommitmentEncoding(EncodingError::Tag));
    assert_eq!(whole.clone().of_transcript(Digest([1; 32])), whole, "its parts name theirs");
}
