//! Everything that runs the `ftk` command or the library as a whole, in one binary.

/// That of the command itself, so that the budgets of foreign programs hold here, too.
#[global_allocator]
static ALLOCATOR: ftk_bases::budget::Metered = ftk_bases::budget::Metered;

mod agreement;
mod architecture;
mod audit;
mod average;
mod batch;
mod browser;
mod cases;
mod convert;
mod data;
mod defi;
mod delivery;
mod doctor;
mod documents;
mod engines;
mod equivalence;
mod errors;
mod estimate;
mod eval;
mod exits;
mod expected;
mod families;
mod following;
mod foreign;
mod forger;
mod forgery;
mod frozen;
mod fuzz;
mod generate;
mod gnn;
mod gradients;
mod help;
#[cfg(feature = "hub")]
mod hub;
mod inspect;
mod killed;
mod limits;
mod merge;
mod nodes;
mod noise;
mod operations;
mod oracle;
mod outputs;
mod packaging;
mod pages;
mod pairs;
mod parity;
mod preference;
mod promises;
mod ranks;
mod recipes;
mod relabelled;
mod report;
mod resume;
mod run;
mod run_folder;
mod sealed;
mod secrets;
mod seller;
mod statements;
mod terminal;
mod threads;
mod tie;
mod top;
