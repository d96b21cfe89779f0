//! Verifies a bundle that is held in memory, as a service would that got it over a network:
//!
//! ```sh
//! cargo run --release --example verify_bytes -- village runs/bundle DIGEST
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use ftk::prove::model;
use ftk_bases::BaseModel;
use ftk_proofs::bundle::Files;
use ftk_proofs::hex::parse_digest;
use ftk_proofs::limits::Limits;
use ftk_proofs::verdict::{Expectations, ExpectedInput};
use ftk_proofs::verifier::Verifier;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [base, bundle, digest] = arguments.as_slice() else {
        return Err("usage: verify_bytes BASE BUNDLE DIGEST".into());
    };
    // Stands in for what came over the network: file names and bytes.
    let mut files = BTreeMap::new();
    for file in std::fs::read_dir(bundle)? {
        let file = file?;
        files.insert(file.file_name().to_string_lossy().into_owned(), std::fs::read(file.path())?);
    }

    // Once for as many bundles as there are: the base as integers, keys, accepted registrations.
    let mut verifier = Verifier::new(model::read(&BaseModel::open(Path::new(base))?)?, Limits::default());
    let adapter = parse_digest(digest).ok_or("not a digest")?;
    let expectations = Expectations { adapter: Some(adapter), input: ExpectedInput::Any, ..Expectations::default() };
    let files: Files = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    match verifier.verify(&files, &expectations) {
        Ok(judged) if judged.verdict.is_valid() => println!("valid: {} cases", judged.statement.cases.len()),
        Ok(judged) => println!("consistent, but not expected: {:?}", judged.verdict.missing),
        Err(refusal) if refusal.is_no() => println!("invalid: {refusal}"),
        Err(refusal) => println!("undecided: {refusal}"),
    }
    Ok(())
}
