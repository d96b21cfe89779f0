//! Everything that runs the `ftk` command or the library as a whole, in one binary.

mod agreement;
mod architecture;
mod data;
mod equivalence;
mod errors;
mod forgery;
mod gradients;
mod oracle;
mod parity;
mod resume;
mod run;
mod threads;
