//! Ratings as they come (`ftk gnn feedback`): scored before they are known, learnt from afterwards, in as many calls as
//! one likes.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{ftk, stderr, succeed};

const RECIPE: &str = r#"
task = "gnn"

[base]
model = "fresh"
train = true

[data]
train = "known.csv"

[gnn]
objective = "ratings"
network = "sage"
layers = 1
hidden = 8
dropout = 0.2
split = "stream"

[optim]
lr = 0.01
schedule = "constant"

[run]
out = "base"
batch = 64
steps = 150
eval_every = 25
best = "eval_loss"
seed = 1
"#;

/// Users whom all rate well and, from a moment on, badly; and the other way round.
pub fn ratings(from: u32, to: u32, turns: u32) -> Vec<String> {
    let mut lots = 7u32;
    let mut below = |bound: u32| {
        lots = lots.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (lots >> 16) % bound
    };
    let rating = |at: u32| {
        let (source, target) = (below(30), 100 + below(40));
        let good = target.is_multiple_of(2) ^ (at >= turns);
        // Two of each moment.
        format!("u{source},u{target},{},{}", if good { 4 } else { -6 }, 1000 + at / 2 * 600)
    };
    (0..to).map(rating).skip(from as usize).collect()
}

/// What feedback needs, made once.
pub struct Followed(tempfile::TempDir);

impl Followed {
    /// A folder with what is known, and a base that was trained on it.
    pub fn new(turns: u32) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.table("known.csv", &ratings(0, 600, turns));
        std::fs::write(place.path("r.toml"), RECIPE).unwrap();
        succeed(ftk(&["train", "--quiet"]).arg(place.path("r.toml")));
        let text = RECIPE.replace("\"fresh\"\ntrain = true", "\"base/base\"\n\n[lora]\nrank = 4");
        let left_out = ["steps = 150\n", "eval_every = 25\n", "best = \"eval_loss\"\n"];
        let text = left_out.iter().fold(text, |text, line| text.replace(line, ""));
        std::fs::write(place.path("f.toml"), text).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a table of ratings.
    pub fn table(&self, name: &str, rows: &[String]) {
        let mut text = "src,dst,rating,time\n".to_owned();
        rows.iter().for_each(|row| writeln!(text, "{row}").unwrap());
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The command that learns from tables; a path that begins at the root stays as it is.
    pub fn follow(&self, out: &str, tables: &[&str], more: &[&str]) -> Command {
        let mut command = ftk(&["gnn", "feedback"]);
        command.arg(self.path("f.toml")).arg("--out").arg(self.path(out)).args(more);
        for table in tables {
            command.arg("--ratings").arg(self.path(table));
        }
        command
    }

    fn refused(&self, out: &str, tables: &[&str], more: &[&str]) -> String {
        let output = self.follow(out, tables, more).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        stderr(&output)
    }

    fn scores(&self, out: &str) -> String {
        std::fs::read_to_string(self.path(out).join("scores.csv")).unwrap()
    }
}

fn figure(said: &str, name: &str) -> f64 {
    said.lines()
        .find_map(|line| line.strip_prefix(&format!("{name}\t"))?.parse().ok())
        .unwrap_or_else(|| panic!("{said}"))
}

fn bytes(folder: &Path) -> Vec<Vec<u8>> {
    let files = ["checkpoint.safetensors", "scores.csv", "adapter_model.safetensors", "known.graph"];
    files.map(|file| std::fs::read(folder.join(file)).unwrap()).to_vec()
}

#[test]
fn what_comes_in_parts_is_learnt_as_if_it_had_come_at_once() {
    let place = Followed::new(u32::MAX);
    let rows = ratings(600, 1000, 300);
    place.table("all.csv", &rows);
    let said = succeed(place.follow("once", &["all.csv"], &[]).env("RAYON_NUM_THREADS", "3"));
    assert!(said.contains("ratings\t400\n") && said.contains("steps\t6\n"), "{said}");
    // Neither part ends with a whole batch.
    place.table("first.csv", &rows[..150]);
    place.table("second.csv", &rows[150..]);
    succeed(&mut place.follow("parts", &["first.csv"], &[]));
    let said =
        succeed(place.follow("parts", &["first.csv", "second.csv"], &["--resume"]).env("RAYON_NUM_THREADS", "1"));
    assert!(said.contains("new_ratings\t250\n") && said.contains("new_steps\t4\n"), "{said}");
    assert!(bytes(&place.path("once")) == bytes(&place.path("parts")));
    // Nothing new is nothing learnt.
    let said = succeed(&mut place.follow("parts", &["all.csv"], &["--resume"]));
    assert!(said.contains("new_ratings\t0\n") && said.contains("new_steps\t0\n"), "{said}");
    assert!(bytes(&place.path("once")) == bytes(&place.path("parts")));

    // Whoever has no ratings yet may begin.
    place.table("none.csv", &[]);
    succeed(&mut place.follow("late", &["none.csv"], &[]));
    succeed(&mut place.follow("late", &["all.csv"], &["--resume"]));
    assert!(bytes(&place.path("once")) == bytes(&place.path("late")));

    // What is said of a rating is said by what came before its moment.
    let mut other = rows.clone();
    for row in &mut other[200..] {
        *row = if row.contains(",4,") { row.replace(",4,", ",-6,") } else { row.replace(",-6,", ",4,") };
    }
    place.table("other.csv", &other);
    succeed(&mut place.follow("other", &["other.csv"], &[]));
    let said = |line: &str| line.splitn(5, ',').nth(4).unwrap().to_owned();
    let (ours, theirs) = (place.scores("once"), place.scores("other"));
    let same = ours.lines().zip(theirs.lines()).take_while(|(ours, theirs)| said(ours) == said(theirs)).count();
    assert_eq!(same, 1 + 202, "the moment of the first that differs is scored by what came before it");
    // The model as it was says what `ftk gnn score` says of that moment.
    let line: Vec<&str> = ours.lines().nth(1).unwrap().split(',').collect();
    place.table("asked.csv", &[format!("{},{},0,0", line[0], line[1])]);
    let mut score = ftk(&["gnn", "score", "--before", line[2], "--base"]);
    score.arg(place.path("base/base")).arg("--graph").arg(place.path("once/known.graph"));
    let scored = succeed(score.arg("--pairs").arg(place.path("asked.csv")));
    assert_eq!(scored.lines().nth(1).unwrap(), [line[0], line[1], line[6], line[7]].join(","));
}

#[test]
fn who_turns_is_told_sooner_by_what_goes_on_learning() {
    let place = Followed::new(u32::MAX);
    place.table("new.csv", &ratings(600, 1600, 600));
    let said = succeed(&mut place.follow("live", &["new.csv"], &["--set", "optim.lr=0.02", "--set", "gnn.replay=0"]));
    let (learning, start) = (figure(&said, "sign_auc"), figure(&said, "start_sign_auc"));
    assert!(learning > start + 0.02, "{said}");
}

#[test]
fn what_is_no_feedback_is_refused_by_name() {
    let place = Followed::new(u32::MAX);
    let rows = ratings(600, 720, 300);
    place.table("new.csv", &rows);
    for (set, said) in [
        (
            "optim.schedule=linear",
            "optim.schedule: what comes as it comes has no end to go by\nhint: write optim.schedule",
        ),
        ("run.steps=5", "run.steps: what comes as it comes has no end to go by\nhint: leave it out"),
        ("gnn.split=temporal", "gnn.replay: is for gnn.split = \"stream\""),
    ] {
        let more = ["--set", set, "--set", "gnn.replay=8"];
        let refused = place.refused("x", &["new.csv"], &more);
        assert!(refused.contains(said), "{set}: {refused}");
    }
    let early = place.refused("x", &["known.csv"], &[]);
    assert!(early.contains("known.csv: is no later than what is known already, 180400: u"), "{early}");
    std::fs::write(place.path("untimed.csv"), "src,dst\na,b\n").unwrap();
    assert!(place.refused("x", &["untimed.csv"], &[]).contains("untimed.csv:1: ratings need a column rating"));

    succeed(&mut place.follow("live", &["new.csv"], &[]));
    assert!(place.refused("live", &["new.csv"], &[]).contains("holds a run already\nhint: continue it with --resume"));
    let resumed = |rows: &[String]| {
        place.table("again.csv", rows);
        place.refused("live", &["again.csv"], &["--resume"])
    };
    let mut other = rows.clone();
    other[4] = other[4].replace("u1", "w1");
    let wrong = resumed(&other);
    assert!(wrong.contains("scores.csv: line 6 is of another rating than is given\nhint: give all ratings"), "{wrong}");
    let fewer = resumed(&rows[..100]);
    assert!(fewer.contains("scores.csv: 120 ratings were learnt from, and 100 are given"), "{fewer}");
    let mut more = rows.clone();
    let time = rows[119].rsplit(',').next().unwrap();
    more.push(format!("z1,z2,3,{time}"));
    let late = resumed(&more);
    assert!(late.contains("scores.csv: a rating is of the moment of the last one that was learnt from"), "{late}");
    let changed = place.refused("live", &["new.csv"], &["--resume", "--set", "gnn.replay=7"]);
    assert!(changed.contains("was made by a different recipe, data or base"), "{changed}");
}
