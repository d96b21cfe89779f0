//! The `ftk` command.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: ftk_bases::budget::Metered = ftk_bases::budget::Metered;

fn main() -> ExitCode {
    ftk::cli::main()
}
