//! A bundle of each released version of the protocol, which is never made anew: that of the present one keeps its
//! verdict, older ones are refused as what they are.
//!
//! `tests/fixtures/frozen/VERSION` holds an open bundle about the village, with what its buyer expected in
//! `expected.json`, and `VERSION-sealed` a sealed one. `FTK_FREEZE=1 cargo test --release --test ftk frozen` makes those
//! of the present version, if there are none.

use std::path::{Path, PathBuf};

use ftk_circuits::PROTOCOL_VERSION;
use serde_json::{Value, json};

use crate::run::fixture;
use crate::seller::{Seller, verify};

const PROMPT: &str = "What does Elsa sell?";

/// Those of the present version.
fn present() -> [PathBuf; 2] {
    ["", "-sealed"].map(|kind| fixture("frozen").join(format!("{PROTOCOL_VERSION}{kind}")))
}

fn freeze(into: &Path, is_sealed: bool) {
    let place = tempfile::tempdir().unwrap();
    let seller = Seller::new(place.path().join("seller"), 11);
    let bundle = match is_sealed {
        false => seller.prove("bundle", PROMPT),
        true => seller.seal("bundle", &["--max-tokens", "6", "--context", "buyer 7", "--prompt", PROMPT]),
    };
    std::fs::create_dir_all(into).unwrap();
    for file in std::fs::read_dir(bundle).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), into.join(file.file_name())).unwrap();
    }
    let expected = json!({ "adapter": seller.digest, "input": PROMPT, "context": "buyer 7" });
    std::fs::write(into.join("expected.json"), serde_json::to_string_pretty(&expected).unwrap() + "\n").unwrap();
}

#[test]
fn frozen_bundles_keep_their_verdict_or_are_called_old() {
    let present = present();
    for (folder, is_sealed) in present.iter().zip([false, true]) {
        if std::env::var_os("FTK_FREEZE").is_some() && !folder.exists() {
            freeze(folder, is_sealed);
        }
        let how = "FTK_FREEZE=1 cargo test --release --test ftk frozen";
        assert!(folder.is_dir(), "{} is missing: {how}", folder.display());
    }
    for version in std::fs::read_dir(fixture("frozen")).unwrap() {
        let bundle = version.unwrap().path();
        let expected: Value = serde_json::from_slice(&std::fs::read(bundle.join("expected.json")).unwrap()).unwrap();
        let text = |key: &str| expected[key].as_str().unwrap().to_owned();
        let (adapter, input, context) = (text("adapter"), text("input"), text("context"));
        let all = ["--expect-adapter", &adapter, "--expect-input", &input, "--expect-context", &context];
        if !present.contains(&bundle) {
            // Nothing of an older version is looked at but its number: no verdict, and nobody is accused.
            assert_eq!(verify(&bundle, &all), (2, "protocol version".to_owned()), "{}", bundle.display());
            continue;
        }
        assert_eq!(verify(&bundle, &all), (0, "valid".to_owned()), "{}", bundle.display());
        let other = ["--expect-adapter", &adapter, "--expect-input", &input, "--expect-context", "buyer 8"];
        assert_eq!(verify(&bundle, &other), (1, "expected context".to_owned()), "{}", bundle.display());
    }
}
