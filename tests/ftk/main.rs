//! Everything that runs the `ftk` command or the library as a whole, in one binary.

mod parity;
mod run;
mod threads;
