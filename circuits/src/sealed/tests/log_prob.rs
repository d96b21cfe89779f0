//! Log-probabilities over distances of every kind, and statements of them that are not so.

use super::network::{Head, Network, VOCABULARY};
use super::plain::{first_of, holds_at};
use super::reference::failures;
use super::sweep::in_tables;
use crate::sealed::cells::Cells;
use crate::sealed::{Bound, Ranking};

/// Outputs hardly below the largest, in the reach of the tables, beyond it, and too far away for any proof.
#[test]
fn distances_of_every_size_are_exact_or_refused() {
    let (mut beyond, mut near, mut refused) = (0, 0, 0);
    for shift in [13, 9, 7, 6, 5, 4, 3] {
        let network = Network::with_head(4, shift);
        let pass = network.pass();
        let plan = network.plan(pass.log_probs());
        match plan.fill(&network.factors) {
            Ok(cells) => {
                assert!(in_tables(&cells) && holds_at(&plan, &cells, &network.factors, &first_of(3)), "{shift}");
                for row in pass.logits.chunks_exact(VOCABULARY) {
                    let largest = row.iter().max().unwrap();
                    beyond += row.iter().filter(|logit| largest - **logit >= 1 << 22).count();
                    near += row.iter().filter(|logit| largest - **logit < 1 << 22).count();
                }
            }
            Err(error) => {
                assert!(error.to_string().starts_with("distance of a logit"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(beyond > 20 && near > 40 && refused > 0, "{beyond} {near} {refused}");
}

/// What is stated differs by the least there is: no prover fills it, and the honest cells do not show it.
#[test]
fn what_differs_from_log_probabilities_by_the_least_is_refused() {
    let network = Network::new(2);
    let pass = network.pass();
    let Head::LogProbs { sums, bounds, likeliest } = pass.log_probs() else { unreachable!("they are") };
    let honest = network.plan(pass.log_probs());
    let cells = honest.fill(&network.factors).unwrap();
    let refused = |head: Head, said: &str| {
        let plan = network.plan(head);
        let error = plan.fill(&network.factors).err().map(|error| error.to_string());
        assert_eq!(error, Some(format!("{said} does not fit the shape of site: head")));
        assert!(!holds_at(&plan, &cells, &network.factors, &first_of(7)), "{said}");
    };
    for by in [1, -1] {
        let mut more = sums.clone();
        more[0].log_prob += by;
        let head = Head::LogProbs { sums: more, bounds: bounds.clone(), likeliest: likeliest.clone() };
        refused(head, "stated log-probability");
        let mut other = likeliest.clone();
        other[1].likeliest[2].1 -= by.max(0) << 8;
        other[1].likeliest[0].1 -= by.min(0);
        let head = Head::LogProbs { sums: sums.clone(), bounds: bounds.clone(), likeliest: other };
        refused(head, "stated log-probability");
    }
    for (row, other) in [
        (0, Bound { bound: bounds[0].bound + 1, ..bounds[0] }),
        (0, Bound { holds: false, ..bounds[0] }),
        (1, Bound { bound: bounds[1].bound - 1, ..bounds[1] }),
        (1, Bound { holds: true, ..bounds[1] }),
    ] {
        let mut bounds = bounds.clone();
        bounds[row] = other;
        refused(Head::LogProbs { sums: sums.clone(), bounds, likeliest: likeliest.clone() }, "stated bound");
    }
    // One that is less likely in the place of one that is among the likeliest, with the log-probability that it has.
    for left_out in 0..3 {
        let mut likeliest = likeliest.clone();
        likeliest[0] = pass.ranking(likeliest[0].row);
        likeliest[0].likeliest.remove(left_out);
        likeliest[0].likeliest.truncate(3);
        refused(Head::LogProbs { sums: sums.clone(), bounds: bounds.clone(), likeliest }, "stated ranking");
    }
}

/// Outputs that are equal, but not the largest, and each of them alone: what is said of all others goes by the first that
/// is listed, which has to be it.
#[test]
fn rankings_that_do_not_begin_with_the_largest_are_refused() {
    let network = Network::with_equal_outputs(6);
    let pass = network.pass();
    let Head::LogProbs { sums, bounds, likeliest } = pass.log_probs() else { unreachable!("they are") };
    let all = pass.ranking(0).likeliest;
    let lower: Vec<_> = all.iter().filter(|(output, log_prob)| *output < all[0].0 && *log_prob < all[0].1).collect();
    assert!(lower.len() > 1, "some lie before the largest");
    let mut tried = 0;
    for listed in lower.iter().map(|one| vec![**one]).chain(
        lower.windows(2).filter(|pair| pair[0].1 == pair[1].1).map(|pair| pair.iter().map(|one| **one).collect()),
    ) {
        let mut likeliest = likeliest.clone();
        let at = likeliest.iter().position(|ranking| ranking.row == 0).unwrap();
        likeliest[at].likeliest = listed;
        let plan = network.plan(Head::LogProbs { sums: sums.clone(), bounds: bounds.clone(), likeliest });
        let mut cells = Cells::new(&plan.arrangement);
        let filled: Vec<_> = plan.operations.iter().map(|own| own.fill(&mut cells, &network.factors)).collect();
        let refused: Vec<String> =
            filled.into_iter().filter_map(|own| own.err().map(|error| error.to_string())).collect();
        assert_eq!(refused, ["stated ranking does not fit the shape of site: head"]);
        // Whoever goes on all the same has cells of which only the first one's distance is not what it should be.
        assert!(in_tables(&cells) && !holds_at(&plan, &cells, &network.factors, &first_of(4)));
        let failed = failures(&plan, &cells, &network.factors);
        assert!(matches!(failed[..], [("first of a ranking", ..)]), "{failed:?}");
        tried += 1;
    }
    assert!(tried > 2);
}

/// Of equal outputs the one with the lower number is the likelier: two networks, of which one has its outputs twice.
#[test]
fn rankings_of_equal_outputs_go_by_their_numbers() {
    let network = Network::with_equal_outputs(6);
    let pass = network.pass();
    let Head::LogProbs { sums, bounds, likeliest } = pass.log_probs() else { unreachable!("they are") };
    // The last that is listed has an equal behind it.
    let cut = |ranking: &Ranking| {
        let at = ranking.likeliest.windows(2).position(|pair| pair[0].1 == pair[1].1).expect("some are equal");
        Ranking { likeliest: ranking.likeliest[..=at].to_vec(), ..ranking.clone() }
    };
    let short: Vec<Ranking> = likeliest.iter().map(cut).collect();
    let head = |likeliest: Vec<Ranking>| Head::LogProbs { sums: sums.clone(), bounds: bounds.clone(), likeliest };
    let plan = network.plan(head(short.clone()));
    let cells = plan.fill(&network.factors).unwrap();
    assert!(in_tables(&cells) && holds_at(&plan, &cells, &network.factors, &first_of(1)));
    // The other of the two.
    let other = |(short, all): (&Ranking, &Ranking)| {
        let mut other = short.clone();
        *other.likeliest.last_mut().unwrap() = all.likeliest[short.likeliest.len()];
        other
    };
    let plan = network.plan(head(short.iter().zip(&likeliest).map(other).collect()));
    let error = plan.fill(&network.factors).err().map(|error| error.to_string());
    assert_eq!(error.as_deref(), Some("stated ranking does not fit the shape of site: head"));
    assert!(!holds_at(&plan, &cells, &network.factors, &first_of(1)));
}
