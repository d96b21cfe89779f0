//! How users and nodes are named.

use std::borrow::Cow;

/// A name as graphs, states and statements have it: addresses of Ethereum, whose capitals are a checksum and no part of them,
/// in small letters.
pub fn spelt(name: &str) -> Cow<'_, str> {
    let digits = name.strip_prefix("0x").filter(|digits| digits.len() == 40);
    match digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit())) {
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
    }
}
