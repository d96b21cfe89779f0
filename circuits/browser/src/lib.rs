//! The verifier in a browser: the files of a base and of a bundle, as somebody dropped them on a page, and what is
//! expected of the bundle in; a verdict out. `page.html` is the page, `scripts/browser-page` puts this crate into it.
//!
//! [`answer`] is all of it, from bytes to bytes, and the same on every machine; `exports` is how a page calls it. Text is
//! none of its business: tokenizers and chat templates stay outside, so inputs and answers are ids here, shown with the
//! entries that the base's vocabulary has for them. There is no clock, so a verification takes as long as it takes, and the
//! page can end it.

mod answer;
mod asked;
mod base;
#[cfg(target_family = "wasm")]
pub mod exports;
mod request;
mod weights;

pub use self::answer::answer;

#[cfg(test)]
mod tests;
