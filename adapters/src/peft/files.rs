//! The files of an adapter folder: their names, what can be wrong with them, and the names of tensors in them.

use std::path::{Path, PathBuf};

use crate::hint::Hint;
use crate::{atomic, foreign};

/// File name of the configuration.
pub const CONFIG: &str = "adapter_config.json";
/// File name of the factors.
pub const FACTORS: &str = "adapter_model.safetensors";

/// What a file begins with that Git LFS left in the place of a large one (github.com/git-lfs/git-lfs, docs/spec.md).
pub const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";

/// An adapter folder that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PeftError {
    /// The file system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The refusal.
        error: std::io::Error,
    },
    /// Git LFS left a pointer in the place of a file.
    #[error("{}: a Git LFS pointer, not the file it stands for", path.display())]
    Pointer {
        /// The file.
        path: PathBuf,
    },
    /// A file does not hold what it must.
    #[error("{}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A tensor that is no factor of LoRA as PEFT writes them; leaving it out would be another adapter.
    #[error("{}: not a LoRA factor: {tensor}", path.display())]
    NoFactor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A kind of adapter that is not understood; applying it without would be wrong.
    #[error("{}:{key}: this kind of adapter is not supported: {value}", path.display())]
    Unsupported {
        /// The configuration.
        path: PathBuf,
        /// The key that asks for it.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// A key of a later PEFT or of somebody else, with a value that asks for something.
    #[error("{}:{key}: is not known here, and may change what the adapter computes: {value}", path.display())]
    UnknownKey {
        /// The configuration.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
}

impl Hint for PeftError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Io { path, error } if error.kind() == std::io::ErrorKind::NotFound => return Some(instead(path)),
            Self::Io { .. } => Some("an adapter folder holds adapter_config.json and adapter_model.safetensors"),
            Self::Pointer { .. } => Some("fetch the file: git lfs pull in its folder, or ftk pull"),
            Self::Malformed { .. } => None,
            Self::NoFactor { tensor, .. } => made_by(tensor),
            Self::Unsupported { key: "use_dora", .. } => Some(
                "DoRA rescales the base's own output beside adding to it; proofs are about what is added, so only plain \
                 LoRA is read",
            ),
            Self::Unsupported { key: "peft_type", value, .. } if value == "null" => Some(
                "PEFT writes this key; adapters of other tools, such as MLX, are to be converted to PEFT's files first",
            ),
            Self::Unsupported { .. } => Some("plain LoRA is read; convert or merge the adapter with PEFT first"),
            Self::UnknownKey { .. } => {
                Some("take the key out if the adapter is plain LoRA without it; else merge the adapter with PEFT first")
            }
        };
        hint.map(str::to_owned)
    }
}

/// What to do about a tensor that is no factor, by whose it looks like.
fn made_by(tensor: &str) -> Option<&'static str> {
    let hints: [(&[&str], &str); 4] = [
        (
            &[".lora_embedding_A", ".lora_embedding_B"],
            "PEFT trained an embedding there, and linear layers are read: merge the adapter with PEFT first, or train it \
             once more without the embedding in target_modules",
        ),
        (
            &[".lora_a", ".lora_b"],
            "MLX names factors so; convert them to PEFT's first: lora_A.weight is lora_a transposed, lora_B.weight is \
             lora_b transposed",
        ),
        (
            &["lora_unet_", "lora_te_", "lora_te1_", "lora_te2_"],
            "kohya's scripts name tensors so, in adapters of models that make images; ftk reads those of language models",
        ),
        (
            &[".lora_down", ".lora_up", ".alpha"],
            "kohya's scripts name tensors so; convert them to PEFT's first: lora_A.weight is lora_down.weight, \
             lora_B.weight is lora_up.weight, and lora_alpha in adapter_config.json is alpha",
        ),
    ];
    hints.into_iter().find_map(|(names, hint)| names.iter().any(|name| tensor.contains(name)).then_some(hint))
}

/// What to do where a file of an adapter folder is missing, by what there is.
fn instead(path: &Path) -> String {
    let folder = path.parent().unwrap_or(Path::new(""));
    if folder.join("adapter_model.bin").is_file() {
        return "there is adapter_model.bin, which is not read: load it with PEFT and save it with \
                save_pretrained(FOLDER, safe_serialization=True)"
            .to_owned();
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut named: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.join(CONFIG).is_file()).collect();
    named.sort();
    match named.first() {
        Some(first) => format!("there is an adapter in a folder of its own: {}", first.display()),
        None => format!("an adapter folder holds {CONFIG} and {FACTORS}"),
    }
}

/// Module names that wrappers put into those of tensors: torch.compile, activation checkpointing, FSDP.
const WRAPPERS: [&str; 3] = ["_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"];

/// A tensor's name without what wrappers add to it: DDP's `module.` in front, the wrappers' modules anywhere.
pub fn unwrapped(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').filter(|part| !WRAPPERS.contains(part)).collect();
    let name = parts.join(".");
    name.strip_prefix("module.").map(str::to_owned).unwrap_or(name)
}

/// The same without PEFT's own beginning, which an adapter of a model that was wrapped twice has twice, and without the
/// adapter's name behind a factor, which PEFT keeps in memory only.
pub(super) fn bare(name: &str) -> String {
    let name = unwrapped(name);
    let name = name.trim_start_matches("base_model.model.");
    match name.strip_suffix(".default.weight") {
        Some(factor) if [".lora_A", ".lora_B"].iter().any(|end| factor.ends_with(end)) => format!("{factor}.weight"),
        _ => name.to_owned(),
    }
}

/// The bytes of a file of an adapter folder.
///
/// # Errors
/// The file system's; a pointer in the place of the file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, PeftError> {
    match foreign::read(path, foreign::DATA) {
        Ok(bytes) if bytes.starts_with(LFS) => Err(PeftError::Pointer { path: path.to_owned() }),
        other => other.map_err(|error| PeftError::Io { path: path.to_owned(), error }),
    }
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), PeftError> {
    atomic::write(path, bytes).map_err(|error| PeftError::Io { path: path.to_owned(), error })
}

pub(super) fn malformed(path: &Path, message: String) -> PeftError {
    PeftError::Malformed { path: path.to_owned(), message }
}
