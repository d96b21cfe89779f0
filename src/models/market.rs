//! The base model of markets that ships inside the program (`recipes/defi/README.md`). Its ids are bins, not text, so it
//! has no tokenizer.

use std::path::Path;

use super::{ModelError, Source, village};

/// Files of the base.
const BASE: [(&str, &[u8]); 2] = [
    ("config.json", include_bytes!("../../recipes/defi/base/config.json")),
    ("model.safetensors", include_bytes!("../../recipes/defi/base/model.safetensors")),
];

/// Opens the base.
pub(super) fn open(name: &Path) -> Result<Source, ModelError> {
    village::shipped(name, &BASE)
}
