//! The `ftk` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ftk::cli::main()
}
