//! Makes what the base model of markets learns from: windows of generated bars. Run it from anywhere with
//! `cargo run --release -p ftk-defi --example market`; the rows are made on demand and not part of the project.

use std::path::Path;

use ftk_defi::rows::pretraining;

/// Seed of the shipped base's rows, and their number.
const SEED: u64 = 1;
const ROWS: usize = 48_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pretrain.jsonl");
    let rows = pretraining(SEED, ROWS)?;
    let lines: String = rows.iter().map(|ids| serde_json::json!({ "input_ids": ids }).to_string() + "\n").collect();
    ftk_adapters::atomic::write(&path, lines.as_bytes())?;
    println!("wrote {} rows to {}", rows.len(), path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use ftk_defi::window::{SPELT, VOCABULARY};

    #[test]
    fn the_configuration_is_that_of_the_vocabulary_and_holds_a_window() {
        let config: serde_json::Value = serde_json::from_str(include_str!("base/config.json")).unwrap();
        assert_eq!(config["vocab_size"], VOCABULARY);
        assert!(config["max_position_embeddings"].as_u64().unwrap() as usize >= 3 * SPELT + 8);
    }
}
