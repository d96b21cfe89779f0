//! Makes the guilds: villagers of four guilds who know each other, in `guilds/nodes.csv` and `guilds/edges.csv`.
//!
//! More than half of those whom a villager knows are of the same guild (a stochastic block model, Holland et al. 1983),
//! and what can be seen of a villager hints at the guild: neither says enough alone, which leaves a network something
//! to win over predictors that look at one of them. `cargo run --release -p ftk-gnn --example guilds` writes the files, its test
//! compares them.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

const GUILDS: [&str; 4] = ["bakers", "fishers", "smiths", "weavers"];
const VILLAGERS: usize = 240;
/// Signs that can be seen of a villager.
const SIGNS: usize = 8;
/// Chance, of a thousand, that two villagers of one guild know each other.
const WITHIN: u64 = 70;
/// The same for two of different guilds.
const ACROSS: u64 = 15;
/// Villagers of each guild to train on, all to validate on; the others are for testing.
const TRAIN: usize = 8;
const VALIDATE: usize = 80;

fn files() -> [(&'static str, String); 2] {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut below = |bound: u64| rng.next_u64() % bound;
    let mut nodes = String::from("id,class,split");
    (0..SIGNS).for_each(|sign| write!(nodes, ",sign{sign}").expect("a string takes text"));
    nodes.push('\n');
    let guild = |villager: usize| villager % GUILDS.len();
    let name =
        |villager: usize| format!("{}-{}", ["ann", "bea", "cy", "dan", "eve", "fay"][villager % 6], villager / 6);
    for villager in 0..VILLAGERS {
        let turn = villager / GUILDS.len();
        let split = if turn < TRAIN {
            "train"
        } else if villager < TRAIN * GUILDS.len() + VALIDATE {
            "val"
        } else {
            "test"
        };
        write!(nodes, "{},{},{split}", name(villager), GUILDS[guild(villager)]).expect("a string takes text");
        for sign in 0..SIGNS {
            // Two signs of each guild are more frequent in it.
            let chance = if sign / 2 == guild(villager) { 65 } else { 20 };
            write!(nodes, ",{}", u8::from(below(100) < chance)).expect("a string takes text");
        }
        nodes.push('\n');
    }
    let mut edges = String::from("src,dst\n");
    for a in 0..VILLAGERS {
        for b in a + 1..VILLAGERS {
            let chance = if guild(a) == guild(b) { WITHIN } else { ACROSS };
            if below(1000) < chance {
                writeln!(edges, "{},{}", name(a), name(b)).expect("a string takes text");
            }
        }
    }
    [("nodes.csv", nodes), ("edges.csv", edges)]
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guilds")
}

fn main() -> std::io::Result<()> {
    std::fs::create_dir_all(folder())?;
    files().into_iter().try_for_each(|(name, text)| std::fs::write(folder().join(name), text))
}

#[test]
fn the_files_are_what_this_makes() {
    for (name, text) in files() {
        assert_eq!(std::fs::read_to_string(folder().join(name)).unwrap(), text, "{name}");
    }
}
