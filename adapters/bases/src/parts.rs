//! What a base is beside its weights, whichever files it is read from.

use ftk_networks::Network;
use ftk_networks::texts::SpecialTokens;

use super::chat::ChatTemplate;
use super::tokenizer::Tokenizer;

/// The small parts of a base, read and checked.
#[derive(Debug)]
pub(super) struct BaseParts {
    pub(super) network: Network,
    pub(super) tokenizer: Option<Tokenizer>,
    pub(super) special: SpecialTokens,
    pub(super) template: Option<ChatTemplate>,
}

/// A file of a model folder that is kept as it is: name and bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextFile {
    /// Its path inside the model's folder.
    pub name: String,
    /// Content.
    pub bytes: Vec<u8>,
}
