//! Forged bundles against `ftk verify`. A forger recomputes whatever is public: files are written
//! anew from the forged content, and the verifier derives every digest and challenge itself. Each
//! forgery is refused with exit code 1 by the check that is there to refuse it.

use std::path::{Path, PathBuf};

use ftk::prove::bundle;
use ftk_bases::BaseModel;
use ftk_circuits::{AdapterCommitment, Digest, PROTOCOL_VERSION, SiteShape, encode_deltas};
use ftk_proofs::bundle::{Bundle, REGISTRATION};
use ftk_proofs::limits::Limits;
use ftk_proofs::{Input, Output};

use crate::run::{ftk, succeed};
use crate::seller::{Seller, forged, verify, verify_on};

const PROMPT: &str = "Where does Nora have the stall?";

/// Answer, longest answer and stop ids of a bundle about one completion.
fn completion(bundle: &mut Bundle) -> (&mut Vec<u32>, &mut u32, &mut Vec<u32>) {
    match &mut bundle.statement.cases[0].output {
        Output::Completion(ftk_proofs::Completion { ids, max_tokens, stop_ids }) => (ids, max_tokens, stop_ids),
        other => panic!("{other:?}"),
    }
}

fn input(bundle: &mut Bundle) -> &mut Vec<u32> {
    let Input::Tokens(ids) = &mut bundle.statement.cases[0].input else { panic!("tokens") };
    ids
}

#[test]
fn forged_bundles_are_refused_by_the_check_that_is_there_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::new(folder.path().join("seller"), 1);
    let other = Seller::new(folder.path().join("other"), 2);
    let honest = seller.prove("bundle", PROMPT);
    let second = seller.prove("second", "Where does Ada have the stall?");
    let foreign = other.prove("bundle", PROMPT);
    let all = ["--expect-adapter", &seller.digest, "--expect-input", PROMPT, "--expect-context", "buyer 7"];
    let lax = ["--expect-adapter", &seller.digest, "--any-input"];
    let no = |check: &str| (1, check.to_owned());

    assert_eq!(verify(&honest, &all), (0, "valid".to_owned()));
    assert_eq!(verify(&honest, &lax), (0, "valid".to_owned()));
    // Without expectations there is no yes.
    assert_eq!(verify(&honest, &[]), (2, "consistent".to_owned()));
    assert_eq!(verify(&honest, &lax[..2]), (2, "consistent".to_owned()));

    // Looking is not verifying: it says what is claimed.
    for (folder, kind) in [(&honest, "bundle, not verified"), (&seller.folder.join("commitment"), "commitment")] {
        let seen = succeed(ftk(&["inspect"]).arg(folder));
        assert!(seen.starts_with(&format!("kind\t{kind}\nadapter\t{}\n", seller.digest)), "{seen}");
    }

    // A delta, by the least amount: every rounding, and so the output, stays.
    let delta = forged(&honest, "delta", |bundle| bundle.deltas[0][0] += 1);
    assert_eq!(verify(&delta, &all), no("delta proof"));
    // The last of each site, the other way.
    for site in 0..bundle::read(&honest, &Limits::NONE).unwrap().deltas.len() {
        let delta = forged(&honest, &format!("delta-{site}"), |bundle| *bundle.deltas[site].last_mut().unwrap() -= 1);
        assert_eq!(verify(&delta, &all), no("delta proof"), "{site}");
    }
    // All deltas of another adapter.
    let theirs = bundle::read(&foreign, &Limits::NONE).unwrap();
    let deltas = forged(&honest, "deltas", |bundle| bundle.deltas = theirs.deltas.clone());
    // They change no rounding that the answer depends on: it is the proof that is not theirs.
    assert_eq!(verify(&deltas, &all), no("delta proof"));

    // The commitment: of another adapter, renamed or not; with one point of another.
    let commitment = forged(&honest, "commitment", |bundle| bundle.commitment = theirs.commitment.clone());
    assert_eq!(verify(&commitment, &all), no("adapter"));
    let renamed = forged(&honest, "renamed", |bundle| {
        bundle.commitment = theirs.commitment.clone();
        bundle.statement.adapter = theirs.statement.adapter;
    });
    assert_eq!(verify(&renamed, &all), no("expected adapter"));
    assert_eq!(verify(&renamed, &[]), no("delta proof"));
    let point = forged(&honest, "point", |bundle| {
        let (mut ours, theirs) = (bundle.commitment.encode(), theirs.commitment.encode());
        let last = ours.len() - 32;
        ours[last..].copy_from_slice(&theirs[last..]);
        bundle.commitment = AdapterCommitment::decode(&ours).unwrap();
        bundle.statement.adapter = bundle.commitment.digest();
    });
    assert_eq!(verify(&point, &all), no("expected adapter"));
    assert_eq!(verify(&point, &[]), no("delta proof"));

    // The output: its first token, its length, its end.
    let output = forged(&honest, "output", |bundle| {
        let (ids, ..) = completion(bundle);
        ids[0] ^= 1;
    });
    assert_eq!(verify(&output, &all), no("output"));
    let end = forged(&honest, "end", |bundle| {
        let (ids, _, stop_ids) = completion(bundle);
        let last = ids.len() - 1;
        ids[last] = stop_ids.iter().copied().find(|id| *id != ids[last]).unwrap_or(ids[last] ^ 1);
    });
    assert_eq!(verify(&end, &all), no("output"));
    // Cut short, under a limit that explains it: true of the adapter, but not what was proved.
    let shorter = forged(&honest, "shorter", |bundle| {
        let (ids, max_tokens, _) = completion(bundle);
        ids.pop();
        *max_tokens = ids.len() as u32;
        for (deltas, shape) in bundle.deltas.iter_mut().zip(bundle.commitment.shapes()) {
            deltas.truncate(deltas.len() - shape.d_out as usize);
        }
    });
    assert_eq!(verify(&shorter, &all), no("delta proof"));
    let rows = forged(&honest, "rows", |bundle| {
        let first = bundle.deltas[0].len() - bundle.commitment.shapes()[0].d_out as usize;
        bundle.deltas[0].truncate(first);
    });
    assert_eq!(verify(&rows, &all), no("coverage"));
    let stop = forged(&honest, "stop", |bundle| {
        let (.., stop_ids) = completion(bundle);
        stop_ids.push(900);
    });
    assert_eq!(verify(&stop, &all), no("stop rule"));

    // A prompt of ids the base has not, and one longer than it can see: neither can be replayed.
    let foreign_id = forged(&honest, "foreign-id", |bundle| input(bundle)[4] = u32::MAX);
    assert_eq!(verify(&foreign_id, &lax), no("replay"));
    let long = forged(&honest, "long", |bundle| {
        let rows = bundle.statement.rows();
        *input(bundle) = vec![5; 300];
        let more = bundle.statement.rows() - rows;
        for (deltas, shape) in bundle.deltas.iter_mut().zip(bundle.commitment.shapes()) {
            deltas.resize(deltas.len() + more * shape.d_out as usize, 0);
        }
    });
    assert_eq!(verify(&long, &lax), no("length"));
    // An answer of nothing.
    let nothing = forged(&honest, "nothing", |bundle| {
        let (_, max_tokens, _) = completion(bundle);
        *max_tokens = 0;
    });
    assert_eq!(verify(&nothing, &all), no("statement"));

    // The prompt.
    let prompt = forged(&honest, "prompt", |bundle| input(bundle)[4] ^= 1);
    assert_eq!(verify(&prompt, &all), no("expected input"));
    assert_eq!(verify(&prompt, &lax), no("delta proof"));
    assert_eq!(verify(&second, &all), no("expected input"));

    // The context.
    let context = forged(&honest, "context", |bundle| bundle.statement.context = b"buyer 8".to_vec());
    assert_eq!(verify(&context, &all), no("expected context"));
    assert_eq!(verify(&context, &lax), no("delta proof"));

    // The base: another name, and another base under the verifier's hands.
    let base = forged(&honest, "base", |bundle| bundle.statement.base = Digest([7; 32]));
    assert_eq!(verify(&base, &all), no("base"));
    let changed = changed_base(folder.path());
    assert_eq!(verify_on(&changed, &honest, &all), no("base"));
    let moved = forged(&honest, "moved", |bundle| {
        let source = BaseModel::open(&changed).unwrap();
        let digest = source.digest(&source.weights(&candle_core::Device::Cpu).unwrap()).unwrap();
        bundle.statement.base = Digest(digest.0);
    });
    assert_eq!(verify_on(&changed, &moved, &all), no("base"));

    // The adapter: an honest proof of another one, sold under this one's name.
    let sold = forged(&foreign, "sold", |bundle| {
        bundle.statement.adapter = bundle::read(&honest, &Limits::NONE).unwrap().statement.adapter;
    });
    assert_eq!(verify(&sold, &all), no("adapter"));
    assert_eq!(verify(&foreign, &all), no("expected adapter"));

    // Parts of other proofs.
    let again = bundle::read(&seller.prove("again", PROMPT), &Limits::NONE).unwrap();
    let link = forged(&honest, "link", |bundle| bundle.proof.link = again.proof.link.clone());
    assert_eq!(verify(&link, &all), no("link"));
    let proof = forged(&honest, "proof", |bundle| bundle.proof.proof = again.proof.proof.clone());
    assert_eq!(verify(&proof, &all), no("link"));
    let registration = forged(&honest, "registration", |bundle| bundle.registration = theirs.registration.clone());
    assert_eq!(verify(&registration, &all), no("registration proof"));
    let none = forged(&honest, "none", |bundle| bundle.registration = None);
    assert_eq!(verify(&none, &all), (2, "consistent".to_owned()));
}

#[test]
fn files_that_are_not_canonical_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::new(folder.path().join("seller"), 3);
    let honest = seller.prove("bundle", PROMPT);
    let all = ["--expect-adapter", &seller.digest, "--expect-input", PROMPT];
    let files = [
        ("statement.json", "statement.json"),
        ("deltas.bin", "deltas.bin"),
        ("proof.bin", "delta proof"),
        ("link.bin", "link"),
        ("commitment.bin", "commitment encoding"),
        (REGISTRATION, "registration proof"),
    ];
    for (file, check) in files {
        let path = honest.join(file);
        let bytes = std::fs::read(&path).unwrap();
        let longer = [bytes.as_slice(), b"\n"].concat();
        for changed in [longer, bytes[..bytes.len() - 1].to_vec(), Vec::new()] {
            std::fs::write(&path, &changed).unwrap();
            let (code, said) = verify(&honest, &all);
            // A registration of no bytes has no link to be read from its end.
            let check = if file == REGISTRATION && changed.is_empty() { "registration encoding" } else { check };
            assert_eq!((code, said.as_str()), (1, check), "{file} of {} bytes", changed.len());
        }
        std::fs::write(&path, bytes).unwrap();
    }
    assert_eq!(verify(&honest, &all), (0, "valid".to_owned()));

    // A statement of so many rows that a small file could expand beyond all memory.
    let bomb = forged(&honest, "bomb", |bundle| {
        *input(bundle) = vec![5; 1 << 20];
        *completion(bundle).1 = 6;
    });
    assert_eq!(verify(&bomb, &[]), (2, "limit".to_owned()));
    let open = ["--max-tokens", "2000000", "--max-memory", "1000000000000"];
    assert_eq!(verify(&bomb, &open), (1, "deltas.bin".to_owned()));

    // What cannot be judged is no verdict: a folder that is none, a protocol of the future.
    assert_eq!(verify(&folder.path().join("nowhere"), &all).0, 2);
    let statement = honest.join("statement.json");
    let text = std::fs::read_to_string(&statement).unwrap();
    let protocol = |version: u32| format!("\"protocol\": {version}");
    let of_the_future = text.replace(&protocol(PROTOCOL_VERSION), &protocol(PROTOCOL_VERSION + 1));
    assert_ne!(of_the_future, text);
    std::fs::write(&statement, of_the_future).unwrap();
    assert_eq!(verify(&honest, &all).0, 2);
}

/// A site or a row that is left out, given twice or added, all else as it was.
#[test]
fn deltas_of_other_sites_or_rows_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::new(folder.path().join("seller"), 3);
    let honest = seller.prove("bundle", PROMPT);
    let bundle = bundle::read(&honest, &Limits::NONE).unwrap();
    let shapes = bundle.commitment.shapes();
    let deltas: Vec<&[i128]> = bundle.deltas.iter().map(Vec::as_slice).collect();
    let refusal = |name: &str, shapes: &[SiteShape], deltas: &[&[i128]]| {
        let out = forged(&honest, name, |_| {});
        let bytes = encode_deltas(shapes, deltas).unwrap();
        std::fs::write(out.join("deltas.bin"), zstd::encode_all(bytes.as_slice(), 3).unwrap()).unwrap();
        verify(&out, &["--any-input"])
    };
    let refused = (1, "coverage".to_owned());
    assert_eq!(refusal("same", shapes, &deltas), (2, "consistent".to_owned()));
    let last = shapes.len() - 1;
    assert_eq!(refusal("dropped", &shapes[..last], &deltas[..last]), refused);
    let twice = [&deltas[..last], &deltas[last - 1..last]].concat();
    let named: Vec<SiteShape> = [&shapes[..last], &shapes[last - 1..last]].concat();
    assert_eq!(refusal("twice", &named, &twice), (1, "deltas encoding".to_owned()));
    let width = shapes[0].d_out as usize;
    let (fewer, more) = (&deltas[0][width..], [deltas[0], &deltas[0][..width]].concat());
    for (name, first) in [("fewer", fewer), ("more", &more)] {
        let deltas: Vec<&[i128]> = std::iter::once(first).chain(deltas[1..].iter().copied()).collect();
        assert_eq!(refusal(name, shapes, &deltas), refused, "{name}");
    }
}

/// The village base with one weight changed by a little.
fn changed_base(folder: &Path) -> PathBuf {
    let base = folder.join("changed");
    ftk_bases::village::unpack(&base).unwrap();
    let weights = base.join("base/model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    base.join("base")
}
