//! Where adapters come from, as far as the folders of their runs say.

use std::path::Path;

use super::run::manifest::{MANIFEST, trained_on};

/// What to say of adapters whose runs trained on another base than this, whose digest is asked for if a run says on
/// which; nothing where it cannot be had.
pub fn other_bases<'a>(
    folders: impl IntoIterator<Item = &'a Path>,
    base: impl FnOnce() -> Option<[u8; 32]>,
) -> Vec<String> {
    let trained: Vec<_> = folders.into_iter().filter_map(|folder| Some((folder, trained_on(folder)?))).collect();
    if trained.is_empty() {
        return Vec::new();
    }
    let Some(base) = base().map(blake3::Hash::from) else { return Vec::new() };
    let others = trained.into_iter().filter(|(_, trained)| *trained != base);
    let note = |(folder, trained): (&Path, blake3::Hash)| {
        let what = "was trained on another base, or on this one in another number format or with another tokenizer, chat \
                    template or stop tokens";
        format!("{}: {what}: {MANIFEST} names {trained}, and this is {base}", folder.display())
    };
    others.map(note).collect()
}
