//! Honest proofs, and statements that are not so.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ff::{Field, PrimeField};
use ftk_kernels::matmul::MAX_INPUTS;
use pasta_curves::Fp;
use rayon::prelude::*;

use super::forger::Forger;
use super::network::{Head, Network, VOCABULARY};
use super::plain::{first_of, holds_at};
use super::reference::failures;
use crate::conduct::{Conduct, HONEST, Label, Sent};
use crate::fixed::attention::{HeadCounts, attention};
use crate::fixed::linear::Matrix;
use crate::sealed::lookups::Lookups;
use crate::sealed::{Builder, SealError, SealedPlan, Work, seal, verify_sealed};
use crate::tests::support::key;
use crate::*;

/// Cells are those of the pass on integers, and everything that is said of them holds.
#[test]
fn what_is_said_of_honest_cells_holds() {
    for seed in 0..4 {
        let network = Network::new(seed);
        let pass = network.pass();
        for head in pass.heads() {
            let plan = network.plan(head);
            let cells = plan.fill(&network.factors).unwrap();
            assert!(holds_at(&plan, &cells, &network.factors, &first_of(seed)), "{seed}");
            assert_eq!(failures(&plan, &cells, &network.factors), [], "{seed}");
        }
    }
}

#[test]
fn a_pass_is_sealed_and_verified() {
    let network = Network::new(1);
    let pass = network.pass();
    for head in pass.heads() {
        let plan = network.plan(head);
        let key = key(plan.k());
        let (statement, commitment) = (network.statement(), &network.commitment);
        let proof =
            seal(key, &statement, commitment, &network.opening, &network.factors, &plan, &mut |_, _| {}).unwrap();
        assert_eq!(verify_sealed(key, &statement, commitment, &plan, &proof), Ok(()));
        let mut other = statement.clone();
        other.said.push(b'.');
        assert_eq!(verify_sealed(key, &other, commitment, &plan, &proof), Err(CheckFailed::SealedProof));
    }
}

/// Whoever commits chooses the scales, and the plan is made before anything is checked.
#[test]
fn scales_that_no_adapter_has_are_refused_before_anything_is_laid_out() {
    let mut network = Network::new(1);
    let mut shapes: Vec<SiteShape> = network.commitment.shapes().to_vec();
    for shift in [31, 63] {
        shapes[0].shift_a = shift;
        let factors: Vec<SiteFactors> = network
            .factors
            .iter()
            .zip(&shapes)
            .map(|(site, shape)| SiteFactors { shape: shape.clone(), ..site.clone() })
            .collect();
        (network.commitment, _) = commit(key(network.commitment.k()), Digest([7; 32]), &factors).unwrap();
        let refused = network.try_plan(Head::Outputs(network.pass().logits)).unwrap_err();
        assert_eq!(refused.to_string(), "adapter shift outside the supported range at site: q");
    }
}

/// A plan for other shapes than the commitment's is none for it.
#[test]
fn a_plan_for_another_adapter_is_refused() {
    let (network, other) = (Network::new(1), Network::new(2));
    let plan = network.plan(Head::Outputs(network.pass().logits));
    let mut shapes = other.factors.clone();
    shapes[0].shape.shift_b = 12;
    let (commitment, _) = commit(key(network.commitment.k()), Digest([7; 32]), &shapes).unwrap();
    let statement = StatementBytes { base: Digest([7; 32]), adapter: commitment.digest(), said: Vec::new() };
    let refused = verify_sealed(key(plan.k()), &statement, &commitment, &plan, &[0; 4096]);
    assert!(matches!(refused, Err(CheckFailed::Coverage(_))), "{refused:?}");
    let statement = network.statement();
    let refused = verify_sealed(key(plan.k()), &statement, &network.commitment, &plan, &[0; 300]);
    assert_eq!(refused, Err(CheckFailed::SealedProof), "shorter than its columns");
}

/// Of a site something may be stated several times; a network meets it once.
#[test]
fn outputs_that_cannot_be_listed_and_sites_met_twice_are_refused() {
    let network = Network::new(1);
    let refused = |head: Head| network.try_plan(head).err().map(|error| error.to_string());
    let named = |what: &str| Some(format!("{what} does not fit the shape of site: head"));
    let last = VOCABULARY as u32;
    assert_eq!(refused(Head::Choice(vec![3, last - 1], vec![1, 0])), None);
    for among in [vec![3, last], vec![3, 3], vec![4, 3]] {
        assert_eq!(refused(Head::Choice(among.clone(), vec![1, 0])), named("listed output"), "{among:?}");
    }
    assert_eq!(refused(Head::Choice(vec![3, 4], vec![1, 2])), named("stated output"));
    assert_eq!(refused(Head::Choice(vec![3, 4], vec![1])), named("stated output"));
    assert_eq!(refused(Head::Projected), named("adapter"));
}

/// What the pass on integers refuses of heads and rows is refused in a plan, in the same words.
#[test]
fn heads_and_rows_have_the_limits_of_the_semantics() {
    let network = Network::new(1);
    let most = MAX_INPUTS;
    let refused = |heads: HeadCounts, rows: usize, widths: [usize; 2]| {
        let mut builder = Builder::new(&network.commitment);
        let space = builder.space(rows);
        let [q, k] = widths.map(|width| builder.public(space, width, vec![0; rows * width]));
        // Nobody sees anybody, which is refused last.
        let refused = builder.attention("attention", heads, Arc::new([]), [&q, &k, &k]).unwrap_err().to_string();
        let [q, k] = widths.map(|width| vec![0; rows * width]);
        let on_integers = attention("attention", heads, &q, &k, &k).err().map(|error| error.to_string());
        (refused, on_integers)
    };
    let named = |what: &str| format!("{what} does not fit the shape of site: attention");
    let heads = |query, key_value, dim| HeadCounts { query, key_value, dim };
    for counts in [heads(most + 1, 1, 1), heads(1, 1, most + 1), heads(0, 1, 1), heads(3, 2, 1), heads(1, 1, 0)] {
        let said = named("number of heads");
        assert_eq!(
            refused(counts, 1, [counts.query * counts.dim, counts.key_value * counts.dim]),
            (said.clone(), Some(said))
        );
    }
    let said = named("number of rows");
    assert_eq!(refused(heads(1, 1, 1), most + 1, [1, 1]), (said.clone(), Some(said)));
    assert_eq!(refused(heads(2, 1, 1), 3, [2, 1]), (named("mask"), None));
}

/// With the same random numbers a proof has the same bytes, however many threads make it.
#[test]
fn bytes_do_not_depend_on_the_number_of_threads() {
    let forger = Forger::of_several();
    let cells = forger.cells();
    let of = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| forger.seal(&cells, HONEST))
    };
    let one = of(1);
    assert_eq!(forger.verdict(&one, None), Ok(()));
    for threads in [2, 5] {
        assert!(of(threads) == one, "{threads} threads");
    }
}

/// As many outputs are stated of each row as there are, and each is one that a pass may have.
#[test]
fn outputs_of_another_row_or_of_no_pass_are_refused() {
    let network = Network::new(1);
    let logits = network.pass().logits;
    let refused = |head: Head| network.try_plan(head).err().map(|error| error.to_string());
    let rows = |first: usize| [&logits[..first], &logits[first..]].map(<[i64]>::to_vec).to_vec();
    assert_eq!(refused(Head::Rows(rows(VOCABULARY))), None);
    let others = [rows(VOCABULARY - 1), rows(VOCABULARY + 1), rows(0), vec![logits.clone()]];
    let one_more = [rows(VOCABULARY), vec![Vec::new()]].concat();
    for rows in others.into_iter().chain([one_more]) {
        let named = "stated output does not fit the shape of site: head";
        assert_eq!(refused(Head::Rows(rows.clone())).as_deref(), Some(named), "{rows:?}");
    }
    for (output, fits) in [((1 << 31) - 1, true), (1 - (1 << 31), true), (1 << 31, false), (-1 << 31, false)] {
        let mut logits = logits.clone();
        logits[24] = output;
        let named = "stated output 24 reaches 2^31 at site: head";
        assert_eq!(refused(Head::Outputs(logits)).as_deref(), (!fits).then_some(named), "{output}");
    }
    let mut logits = logits.clone();
    logits[0] = i64::MIN;
    assert_eq!(refused(Head::Outputs(logits)).as_deref(), Some("stated output 0 reaches 2^31 at site: head"));
}

/// What names another key, adapter or base than the proof is under.
#[test]
fn keys_adapters_and_bases_are_told_apart() {
    let network = Network::new(1);
    let plan = network.plan(Head::Outputs(network.pass().logits));
    let (statement, commitment) = (network.statement(), &network.commitment);
    let refused = |k: u32, statement: &StatementBytes| {
        verify_sealed(key(k), statement, commitment, &plan, &[0; 4096]).unwrap_err()
    };
    assert_eq!(refused(plan.k() + 1, &statement), CheckFailed::Key(plan.k()));
    let adapter = StatementBytes { adapter: Digest([8; 32]), ..statement.clone() };
    assert_eq!(refused(plan.k(), &adapter), CheckFailed::Adapter(commitment.digest()));
    let base = StatementBytes { base: Digest([8; 32]), ..statement.clone() };
    assert_eq!(refused(plan.k(), &base), CheckFailed::Base(commitment.base()));
    let short = verify_sealed(key(plan.k()), &statement, commitment, &plan, &[0; LINK_BYTES - 1]);
    assert_eq!(short, Err(CheckFailed::SealedEncoding(EncodingError::Truncated)));
}

/// Weights of norms on grids as fine as there are.
#[test]
fn normed_and_rotated_heads_are_rounded_as_the_semantics_do() {
    for shift in [20, 23, 26, 27, 28, 30] {
        let network = Network::of(5, shift, VOCABULARY);
        let plan = network.plan(Head::Outputs(network.pass().logits));
        let cells = plan.fill(&network.factors).unwrap();
        assert!(holds_at(&plan, &cells, &network.factors, &first_of(3)), "{shift}");
    }
}

/// Outputs that fill more than a column for each row.
#[test]
fn rows_that_are_longer_than_a_column_are_cut_into_pieces() {
    let forger = Forger::of(Network::of(6, 23, 230));
    let Forger { network, plan } = &forger;
    let long = plan.arrangement.groups.iter().find(|group| group.lanes > 1).unwrap();
    assert_eq!((long.lanes, long.pieces, long.vector), (2, 2, 230), "two rows, of 224 cells and six");
    let mut cells = forger.cells();
    assert!(holds_at(plan, &cells, &network.factors, &first_of(6)));
    assert_eq!(failures(plan, &cells, &network.factors), []);
    assert_eq!(forger.verdict(&forger.honest().unwrap(), None), Ok(()));
    for (piece, lane, at) in [(0, 0, 223), (1, 0, 0), (1, 1, 5)] {
        let column = long.column(piece, lane, 1);
        cells.columns[column][at] ^= 1;
        assert!(!holds_at(plan, &cells, &network.factors, &first_of(6)), "{piece}, {lane}, {at}");
        let place = ("difference", lane, 224 * piece + at);
        assert_eq!(failures(plan, &cells, &network.factors), [place]);
        cells.columns[column][at] ^= 1;
    }
}

/// As many trees as one likes, of which each is about its own columns, and all together about all.
#[test]
fn lookups_in_several_trees_are_accepted_and_belong_to_their_number() {
    let forger = Forger::new();
    let mut cells = forger.cells();
    let trees = |width: Option<usize>| Lookups::new(&forger.plan.arrangement, width);
    let columns = trees(None).trees[0].active >> forger.plan.k();
    for count in 1..=3 {
        let width = Some(columns.div_ceil(count));
        let lookups = trees(width);
        assert_eq!(lookups.trees.len(), count);
        let conduct = Conduct { width, ..HONEST };
        let judged = |conduct: Conduct<'_>| forger.judge(&forger.seal(&cells, conduct), Conduct { width, ..HONEST });
        assert_eq!(judged(conduct), Ok(()), "{count}");
        assert_eq!(judged(Conduct { width: Some(columns.div_ceil(4)), ..HONEST }), Err(CheckFailed::SealedProof));
        let last = count - 1;
        for changed in [Sent::Root { tree: last }, Sent::Ends { tree: last, level: 3 }] {
            let send = |sent: Sent, message: &mut [Fp]| {
                if sent == changed {
                    message[0] += Fp::ONE;
                }
            };
            assert_eq!(judged(Conduct { send: &send, ..conduct }), Err(CheckFailed::SealedProof), "{changed:?}");
        }
        for sum in lookups.sums_at()..lookups.scalars() {
            let assign = |label, row, value| if (label, row) == (Label::Scalar, sum) { value + Fp::ONE } else { value };
            assert_eq!(judged(Conduct { assign: &assign, ..conduct }), Err(CheckFailed::SealedProof), "sum {sum}");
        }
    }
    // No limb, in the first tree and in the second.
    let width = Some(columns.div_ceil(2));
    for column in [0, forger.plan.columns() - 1] {
        cells.columns[column][0] += 1 << 16;
        let proof = forger.seal(&cells, Conduct { width, ..HONEST });
        let verdict = forger.judge(&proof, Conduct { width, ..HONEST });
        assert_eq!(verdict, Err(CheckFailed::SealedProof), "{column}");
        cells.columns[column][0] -= 1 << 16;
    }
}

/// Each point and each scalar of a proof that is none, and a proof that ends before it.
#[test]
fn every_word_of_a_proof_is_read() {
    let forger = Forger::new();
    // Tables fill fewer columns there.
    let k = forger.network.commitment.k() + 2;
    let forger = forger.at(k);
    let proof = forger.honest().unwrap();
    assert_eq!(proof.len() % 32, 0);
    (0..proof.len() / 32).into_par_iter().for_each(|word| {
        let mut changed = proof.clone();
        changed[32 * word..][..32].fill(0xff);
        let linked = 32 * word < LINK_BYTES;
        let expected = if linked { CheckFailed::SealedLink } else { CheckFailed::SealedProof };
        assert_eq!(forger.verdict(&changed, None), Err(expected), "{word}");
        if linked || word % 8 == 0 {
            let cut = CheckFailed::SealedEncoding(EncodingError::Truncated);
            let expected = if linked { cut } else { CheckFailed::SealedProof };
            assert_eq!(forger.verdict(&proof[..32 * word], None), Err(expected), "up to {word}");
        }
    });
    assert_eq!(forger.verdict(&[&proof[..], &[0; 32]].concat(), None), Err(CheckFailed::SealedProof), "and more");
}

/// Points of a proof that are exchanged, with neighbours and with those of other messages.
#[test]
fn points_belong_where_they_are() {
    let forger = Forger::new();
    let k = forger.network.commitment.k() + 2;
    let forger = forger.at(k);
    let proof = forger.honest().unwrap();
    let (first, words) = (LINK_BYTES / 32, proof.len() / 32);
    let pairs: Vec<(usize, usize)> = (first..words).step_by(7).zip([1, 2, 5, 23].into_iter().cycle()).collect();
    pairs.into_par_iter().filter(|(word, apart)| word + apart < words).for_each(|(word, apart)| {
        let mut exchanged = proof.clone();
        let [one, other] = [word, word + apart].map(|word| <[u8; 32]>::try_from(&proof[32 * word..][..32]).unwrap());
        assert_ne!(one, other, "{word}");
        exchanged[32 * word..][..32].copy_from_slice(&other);
        exchanged[32 * (word + apart)..][..32].copy_from_slice(&one);
        assert_eq!(forger.verdict(&exchanged, None), Err(CheckFailed::SealedProof), "{word} and {}", word + apart);
    });
}

/// The largest words that there are, and the next ones.
#[test]
fn words_end_where_their_limbs_do() {
    let network = Network::new(1);
    let most: i64 = (1 << 31) - (1 << 15) - 1;
    for (value, fits) in [(most, true), (most + 1, false), (-(1 << 31) + 1, true)] {
        let mut builder = Builder::new(&network.commitment);
        let space = builder.space(1);
        let x = builder.public(space, 1, vec![value]);
        let same = Arc::new(Matrix::new("same", 1, vec![1 << 13], vec![13]).unwrap());
        let out = builder.project("same", same, &x).unwrap();
        assert_eq!(out.width(), 1);
        let plan = builder.unfinished();
        let filled = plan.fill(&[]).map(|cells| holds_at(&plan, &cells, &[], &first_of(1)));
        match filled {
            Ok(holds) => assert!(fits && holds, "{value}"),
            Err(error) => assert!(!fits && error.to_string().starts_with("output"), "{value}: {error}"),
        }
    }
}

/// Among others, whose errors cancel or not; and left, whenever the verifier does not want to go on.
#[test]
fn sealed_claims_are_judged_with_others() {
    let forger = Forger::new();
    let Forger { network: Network { commitment, opening, factors, .. }, plan } = &forger;
    let (statement, key) = (forger.network.statement(), key(plan.k()));
    let other = StatementBytes { said: b"else".to_vec(), ..statement.clone() };
    let registration = register(key, commitment, opening, factors, &mut |_, _| {}).unwrap();
    let proofs = [forger.honest().unwrap(), forger.honest().unwrap()];
    let sealed = |proof| DeferredClaim::Sealed { key, statement: &statement, commitment, plan, proof };
    let registered = DeferredClaim::Registration { key, commitment, registration: &registration };
    let claims = [sealed(&proofs[0]), registered, sealed(&proofs[1])];
    assert_eq!(verify_all(&claims, &|_| false), vec![Ok(()); 3]);
    let about_else = DeferredClaim::Sealed { key, statement: &other, commitment, plan, proof: &proofs[0] };
    let verdicts = verify_all(&[claims[0], about_else, claims[1]], &|_| false);
    assert_eq!(verdicts, [Ok(()), Err(CheckFailed::SealedProof), Ok(())]);
    // A response of a link that is one more, and of another that is one less.
    let moved = |proof: &[u8], by: Fp| {
        let mut moved = proof.to_vec();
        let honest = Fp::from_repr(proof[32..64].try_into().unwrap()).unwrap();
        moved[32..64].copy_from_slice(&(honest + by).to_repr());
        moved
    };
    let pair = [moved(&proofs[0], Fp::ONE), moved(&proofs[1], -Fp::ONE)];
    let verdicts = verify_all(&[sealed(&pair[0]), registered, sealed(&pair[1]), claims[0]], &|_| false);
    let refused = Err(CheckFailed::SealedLink);
    assert_eq!(verdicts, [refused.clone(), Ok(()), refused, Ok(())]);
    let asked = AtomicUsize::new(0);
    let count = |_: usize| {
        asked.fetch_add(1, Ordering::Relaxed);
        false
    };
    assert_eq!(verify_all(&claims[..1], &count), [Ok(())]);
    let times = asked.into_inner();
    assert!(times > 3, "{times}");
    for last in 0..times {
        let asked = AtomicUsize::new(0);
        let stop = |_: usize| asked.fetch_add(1, Ordering::Relaxed) >= last;
        assert_eq!(verify_all(&claims[..1], &stop), [Err(CheckFailed::Stopped)], "{last}");
    }
}

/// What does not belong together is said before anything is computed: of the plan, which states what is not so, nothing
/// is.
#[test]
fn what_does_not_belong_together_is_not_sealed() {
    let network = Network::new(2);
    let mut logits = network.pass().logits;
    logits[3] += 1;
    let plan = network.plan(Head::Outputs(logits));
    let Network { commitment, opening, factors, .. } = &network;
    let (statement, own) = (network.statement(), plan.k());
    let tried = |k: u32, statement: &StatementBytes, opening: &Opening, factors: &[SiteFactors], plan: &SealedPlan| {
        let mut parts = 0;
        let refused = seal(key(k), statement, commitment, opening, factors, plan, &mut |_, _| parts += 1);
        assert_eq!(parts, 0);
        refused.unwrap_err()
    };
    let error = tried(own, &statement, opening, factors, &plan);
    assert!(matches!(error, SealError::Fixed(_)), "{error}");
    let refused =
        |k: u32, statement: &StatementBytes, opening: &Opening, factors: &[SiteFactors], plan: &SealedPlan| {
            tried(k, statement, opening, factors, plan).to_string()
        };
    let nothing = |failed: CheckFailed| ProveError::Public(failed).to_string();
    assert_eq!(refused(own + 1, &statement, opening, factors, &plan), nothing(CheckFailed::Key(own)));
    let adapter = StatementBytes { adapter: Digest([8; 32]), ..statement.clone() };
    assert_eq!(refused(own, &adapter, opening, factors, &plan), nothing(CheckFailed::Adapter(commitment.digest())));
    let base = StatementBytes { base: Digest([8; 32]), ..statement.clone() };
    assert_eq!(refused(own, &base, opening, factors, &plan), nothing(CheckFailed::Base(commitment.base())));
    let other = Network::of(2, 23, VOCABULARY + 1);
    let of_other = other.plan(Head::Outputs(other.pass().logits));
    let coverage = "the plan is for other sites, shapes or scales";
    assert_eq!(refused(own, &statement, opening, factors, &of_other), nothing(CheckFailed::Coverage(coverage.into())));
    for (factors, named) in [(&other.factors[..], "head"), (&factors[..3], "head"), (&factors[1..], "v")] {
        let named = format!("factors do not have the shape of their site: {named}");
        assert_eq!(refused(own, &statement, opening, factors, &plan), named);
    }
    let short = Opening { blinds: opening.blinds[1..].to_vec() };
    assert_eq!(refused(own, &statement, &short, factors, &plan), ProveError::Opening.to_string());
}

#[test]
fn logits_that_are_not_so_are_not_sealed() {
    let network = Network::new(2);
    let mut logits = network.pass().logits;
    logits[3] += 1;
    let plan = network.plan(Head::Outputs(logits));
    let refused = plan.fill(&network.factors).err().map(|error| error.to_string());
    assert_eq!(refused.as_deref(), Some("stated output does not fit the shape of site: head"));
}

#[test]
fn what_is_not_so_is_not_sealed() {
    let network = Network::new(2);
    let pass = network.pass();
    let mut stated = pass.greedy();
    stated[1] = (stated[1] + 1) % VOCABULARY;
    let plan = network.plan(Head::Largest(stated));
    let error = seal(
        key(plan.k()),
        &network.statement(),
        &network.commitment,
        &network.opening,
        &network.factors,
        &plan,
        &mut |_, _| {},
    );
    assert!(matches!(error, Err(SealError::Fixed(_))));
}

/// What is counted of a plan is what a proof of it has.
#[test]
fn a_proof_is_as_long_as_its_plan_says() {
    let network = Network::new(1);
    let pass = network.pass();
    for head in [Head::Largest(pass.greedy()), Head::Outputs(pass.logits.clone())] {
        let plan = network.plan(head);
        let (statement, commitment) = (network.statement(), &network.commitment);
        let work = Work::of(&plan, commitment).unwrap();
        let key = key(plan.k());
        let mut parts = Vec::new();
        let mut progress = |done, all: usize| parts.push((done, all));
        let proof =
            seal(key, &statement, commitment, &network.opening, &network.factors, &plan, &mut progress).unwrap();
        assert_eq!(work.bytes, proof.len() as u64, "{work:?} {plan:?}");
        // Cells, trees, the first stage, and all the rest; the last step is to the end.
        let all = (work.nanoseconds() / 1_000_000 + 1) as usize;
        assert_eq!(parts.len(), work.trees as usize + 4);
        assert!(parts.is_sorted() && parts[0] == (0, all) && parts[parts.len() - 1] == (all, all), "{parts:?}");
        assert!(work.leaves > work.cells && work.memory > 4 * work.cells && work.products > 0, "{work:?}");
    }
}
