//! Commitment keys, derived once and cached. A cached key is checked against the digest compiled
//! into the protocol, so a damaged or foreign file is only ever made anew.

use ftk_adapters::{atomic, cache, foreign};
use ftk_circuits::{CommitmentKey, KeyError};

/// The key for columns of `2^k` rows.
///
/// # Errors
/// No key of that size belongs to the protocol. A cache that cannot be used is no error.
pub fn commitment_key(k: u32) -> Result<CommitmentKey, KeyError> {
    let cached = cache::folder().map(|folder| folder.join(format!("commitment-key-{k}.bin")));
    if let Some(bytes) = cached.as_ref().and_then(|path| foreign::read(path, foreign::DOCUMENT).ok())
        && let Ok(key) = CommitmentKey::from_bytes(&bytes)
        && key.k() == k
    {
        return Ok(key);
    }
    let key = CommitmentKey::generate(k)?;
    if let Some(path) = cached {
        // Without a cache the next command takes longer, and nothing else is lost.
        let _ =
            path.parent().map(std::fs::create_dir_all).transpose().and_then(|_| atomic::write(&path, &key.to_bytes()));
    }
    Ok(key)
}
