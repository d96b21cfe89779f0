//! The base model of markets that ships inside the program (`recipes/defi/README.md`). Its ids are bins, not text, so it
//! has no tokenizer.

use ftk_adapters::staged::Temporary;

use super::error::ModelError;
use super::village;

/// Files of the base.
const BASE: [(&str, &[u8]); 2] = [
    ("config.json", include_bytes!("../../../recipes/defi/base/config.json")),
    ("model.safetensors", include_bytes!("../../../recipes/defi/base/model.safetensors")),
];

/// The base in a temporary folder.
pub(super) fn unpacked() -> Result<Temporary, ModelError> {
    village::temporary(&BASE)
}
