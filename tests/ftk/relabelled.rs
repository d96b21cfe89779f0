//! Commitments that say something else about the same points, and deltas of other sites and rows: what a seller could
//! try who proves honestly and then relabels. The digest of the commitment is computed anew and stated, and the buyer
//! expects no certain adapter.

use ftk_circuits::{AdapterCommitment, CheckFailed};
use ftk_proofs::bundle::Bundle;
use ftk_proofs::{Input, Output};

use crate::seller::{Seller, forged, verify};

const PROMPT: &str = "Where does Nora have the stall?";

/// A commitment's encoding in parts: what stands before the sites, each site, the points.
#[derive(Clone)]
struct Parts {
    head: Vec<u8>,
    sites: Vec<Vec<u8>>,
    points: Vec<u8>,
}

/// A way to relabel.
type Change = fn(&mut Parts);

/// Bytes of a site after its name: rank, d_in, d_out, and two shifts.
const SHAPE: usize = 3 * 4 + 2;

impl Parts {
    fn of(commitment: &AdapterCommitment) -> Self {
        let bytes = commitment.encode();
        // Tag, version, base; then the number of sites.
        let (head, mut rest) = bytes.split_at(b"ftk adapter\0".len() + 4 + 32);
        rest = &rest[4..];
        let sites = commitment.shapes().iter().map(|shape| {
            let (site, after) = rest.split_at(2 + shape.name.len() + SHAPE);
            rest = after;
            site.to_vec()
        });
        let sites = sites.collect();
        Self { head: head.to_vec(), sites, points: rest.to_vec() }
    }

    fn decode(&self) -> Result<AdapterCommitment, CheckFailed> {
        let count = (self.sites.len() as u32).to_le_bytes();
        AdapterCommitment::decode(&[&self.head[..], &count, &self.sites.concat(), &self.points].concat())
    }

    /// A byte of what stands after the name of a site.
    fn shape(&mut self, site: usize, at: usize) -> &mut u8 {
        let start = self.sites[site].len() - SHAPE;
        &mut self.sites[site][start + at]
    }
}

const RANK: usize = 0;
const D_IN: usize = 4;
const D_OUT: usize = 8;
const SHIFT_A: usize = 12;
const SHIFT_B: usize = 13;

#[test]
fn relabelled_commitments_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::new(folder.path().join("seller"), 8);
    let honest = seller.prove("bundle", PROMPT);
    let parts = Parts::of(&seller_commitment(&honest));
    assert_eq!(parts.decode().unwrap(), seller_commitment(&honest));

    // What cannot be written down is refused where it is read.
    let unreadable: [(&str, Change); 5] = [
        ("rank of all", |parts| (0..parts.sites.len()).for_each(|site| *parts.shape(site, RANK) += 1)),
        ("no rank", |parts| *parts.shape(0, RANK) = 0),
        ("site twice", |parts| parts.sites[1] = parts.sites[0].clone()),
        ("shift", |parts| *parts.shape(0, SHIFT_A) = 64),
        ("point twice", |parts| parts.points.copy_within(..32, 32)),
    ];
    for (name, change) in unreadable {
        let mut changed = parts.clone();
        change(&mut changed);
        assert!(matches!(changed.decode(), Err(CheckFailed::CommitmentEncoding(_))), "{name}");
    }

    let refused: [(&str, &str, Change); 8] = [
        ("scale between factors", "delta proof", |parts| {
            *parts.shape(0, SHIFT_A) -= 1;
            *parts.shape(0, SHIFT_B) += 1;
        }),
        ("rank of one", "delta proof", |parts| *parts.shape(0, RANK) -= 1),
        ("inputs", "coverage", |parts| *parts.shape(0, D_IN) -= 1),
        ("outputs", "coverage", |parts| *parts.shape(0, D_OUT) -= 1),
        ("inputs for outputs", "coverage", |parts| {
            let at = parts.sites[1].len() - SHAPE;
            let (inputs, outputs) = parts.sites[1][at + D_IN..].split_at_mut(4);
            inputs.swap_with_slice(&mut outputs[..4]);
        }),
        ("unknown", "coverage", |parts| {
            let at = parts.sites[0].len() - SHAPE - 1;
            parts.sites[0][at] ^= 1;
        }),
        ("swapped", "coverage", |parts| parts.sites.swap(0, 1)),
        ("base", "base", |parts| *parts.head.last_mut().unwrap() ^= 1),
    ];
    for (name, check, change) in refused {
        let mut changed = parts.clone();
        change(&mut changed);
        // A relabelled commitment of another layout has no place for the points, and is no commitment at all.
        let Ok(commitment) = changed.decode() else {
            panic!("{name}: not a commitment");
        };
        let bundle = forged(&honest, &name.replace(' ', "-"), |bundle| {
            let (old, new) = (bundle.commitment.shapes(), commitment.shapes());
            for (deltas, (old, new)) in bundle.deltas.iter_mut().zip(old.iter().zip(new)) {
                *deltas = with_width(deltas, old.d_out as usize, new.d_out as usize);
            }
            bundle.commitment = commitment;
            bundle.statement.adapter = bundle.commitment.digest();
        });
        assert_eq!(verify(&bundle, &["--any-input"]), (1, check.to_owned()), "{name}");
    }
}

/// Rows of another width: cut, or filled up with zeros.
fn with_width(rows: &[i128], from: usize, to: usize) -> Vec<i128> {
    let row = |row: &[i128]| row.iter().copied().chain(std::iter::repeat(0)).take(to).collect::<Vec<_>>();
    rows.chunks(from).flat_map(row).collect()
}

fn seller_commitment(bundle: &std::path::Path) -> AdapterCommitment {
    AdapterCommitment::decode(&std::fs::read(bundle.join("commitment.bin")).unwrap()).unwrap()
}

/// Moves the end of the prompt by one token; tokens, rows and deltas stay.
fn boundary(bundle: &mut Bundle, later: bool) {
    let case = &mut bundle.statement.cases[0];
    let Input::Tokens(input) = &mut case.input else { panic!("tokens") };
    let Output::Completion(ftk_proofs::Completion { ids, max_tokens, .. }) = &mut case.output else {
        panic!("a completion")
    };
    if later {
        input.push(ids.remove(0));
    } else {
        ids.insert(0, input.pop().unwrap());
    }
    *max_tokens = ids.len() as u32;
}

#[test]
fn rows_belong_to_their_statement() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::new(folder.path().join("seller"), 9);
    let honest = seller.prove("bundle", PROMPT);
    let all = ["--expect-adapter", &seller.digest, "--expect-input", PROMPT];
    let lax = ["--expect-adapter", &seller.digest, "--any-input"];
    let no = |check: &str| (1, check.to_owned());

    // The first answer asked as part of the question, which the model answers so indeed; and the question's last token
    // answered.
    let later = forged(&honest, "later", |bundle| boundary(bundle, true));
    assert_eq!(verify(&later, &all), no("expected input"));
    assert_eq!(verify(&later, &lax), no("delta proof"));
    let earlier = forged(&honest, "earlier", |bundle| boundary(bundle, false));
    assert_eq!(verify(&earlier, &all), no("expected input"));
    assert_eq!(verify(&earlier, &lax), no("output"));

    // A row more for every site, of a token more in the question or in the answer.
    let more = |bundle: &mut Bundle| {
        for (deltas, shape) in bundle.deltas.iter_mut().zip(bundle.commitment.shapes()) {
            let last = deltas[deltas.len() - shape.d_out as usize..].to_vec();
            deltas.extend(last);
        }
    };
    let longer = forged(&honest, "longer", |bundle| {
        let Output::Completion(ftk_proofs::Completion { ids, max_tokens, .. }) = &mut bundle.statement.cases[0].output
        else {
            panic!()
        };
        ids.push(ids[0]);
        *max_tokens = ids.len() as u32;
        more(bundle);
    });
    assert_eq!(verify(&longer, &all), no("output"));
    let asked = forged(&honest, "asked", |bundle| {
        let Input::Tokens(input) = &mut bundle.statement.cases[0].input else { panic!("tokens") };
        input.insert(0, input[0]);
        more(bundle);
    });
    assert_eq!(verify(&asked, &all), no("expected input"));

    // Deltas of one site at another of its shape.
    let exchanged = forged(&honest, "exchanged", |bundle| {
        let shapes = bundle.commitment.shapes();
        let alike = (1..shapes.len()).find(|&site| shapes[site].d_out == shapes[0].d_out).unwrap();
        bundle.deltas.swap(0, alike);
    });
    assert!(matches!(verify(&exchanged, &all), (1, check) if check == "output" || check == "delta proof"));
}
