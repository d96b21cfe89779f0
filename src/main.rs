//! The `ftk` command.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: ftk::budget::Metered = ftk::budget::Metered;

fn main() -> ExitCode {
    ftk::cli::main()
}
