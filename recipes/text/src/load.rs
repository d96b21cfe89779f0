//! The rows of a file as a task trains on them: read, encoded, cut to length, counted. Everything that can be wrong
//! with them is found here, before any weight is read.

use std::path::Path;

use ftk_bases::BaseModel;
use ftk_recipes::preference;
use ftk_recipes::{Data, Recipe, Task};
use rayon::prelude::*;

use super::counts::RowCounts;
use super::encode::{Encoder, Pair, ScoredSequence, Unpaired};
use super::error::TextError;
use super::examples::{Alone, Examples};
use super::pack::pack;
use super::place::RowPlace;
use super::rows::{self, Options, Row, RowFile};

/// What the rows of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatasetKind {
    /// Of supervised fine-tuning.
    Sft,
    /// Of preferences: a chosen and a rejected completion.
    Pairs,
    /// Of preferences: pairs that are taken together where one completion is chosen among several.
    Choices,
    /// Of preferences: completions alone, so many in a step.
    Unpaired(usize),
}

impl DatasetKind {
    /// What the rows of a recipe for text are.
    pub fn of(recipe: &Recipe) -> Self {
        if recipe.task == Task::Sft {
            return Self::Sft;
        }
        match recipe.dpo.cost().rows() {
            preference::RowKind::Pairs => Self::Pairs,
            preference::RowKind::Choices => Self::Choices,
            preference::RowKind::Unpaired => Self::Unpaired(recipe.run.batch * recipe.run.accumulate),
        }
    }
}

/// The rows of a file that have something scored, in order.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The rows.
    pub rows: Examples,
    /// Where each stands in the file.
    pub places: Vec<RowPlace>,
    /// What became of all rows of the file.
    pub counts: RowCounts,
}

impl Loaded {
    /// Packs the rows of supervised fine-tuning ([`pack`]); their places in the file are lost.
    pub fn pack(mut self) -> Self {
        if let Examples::Sft(rows) = self.rows {
            let rows = pack(rows, self.counts.max_length);
            self.counts.packed = Some(rows.len());
            self.rows = Examples::Sft(rows);
            self.places.clear();
        }
        self
    }

    /// Makes one choice of pairs that follow each other with one chosen completion; it stands where its first pair does.
    fn choices(mut self) -> Self {
        if let Examples::Dpo(rows) = self.rows {
            let mut choices: Vec<Vec<Pair>> = Vec::new();
            let mut places = Vec::new();
            let placed = rows.into_iter().zip(self.places);
            for (pair, place) in placed.flat_map(|(row, place)| row.into_iter().map(move |pair| (pair, place))) {
                let same = |known: &Pair| known.prompt == pair.prompt && known.chosen == pair.chosen;
                match choices.last_mut().filter(|last| last.last().is_some_and(same)) {
                    Some(last) => last.push(pair),
                    None => {
                        choices.push(vec![pair]);
                        places.push(place);
                    }
                }
            }
            self.counts.choices = Some(choices.len());
            (self.rows, self.places) = (Examples::Dpo(choices), places);
        }
        self
    }
}

/// Reads the rows of `path`, as `data` says.
///
/// # Errors
/// What [`rows::read`] and [`Encoder`] refuse, the first row at fault being named; a file in which nothing is scored.
pub fn load(source: &BaseModel, data: &Data, kind: DatasetKind, path: &Path) -> Result<Loaded, TextError> {
    let template = source.chat_template().ok().cloned();
    let options = Options { columns: data.columns.clone(), replace: data.replace.clone(), template };
    // A network with a row for each position, or with a window, cannot go beyond them.
    let longest = source.network().most_positions().map_or(data.max_length, |most| most.min(data.max_length));
    let data = &Data { max_length: longest, ..data.clone() };
    let encoder = Encoder::new(source, path, data.loss, longest);
    match kind {
        DatasetKind::Sft => collect(data, &encoder, rows::read(path, &options)?, Encoder::sft, Examples::Sft),
        DatasetKind::Pairs => collect(data, &encoder, rows::read(path, &options)?, Encoder::pair, Examples::pairs),
        DatasetKind::Choices => {
            let loaded = collect(data, &encoder, rows::read(path, &options)?, Encoder::pair, Examples::pairs);
            loaded.map(Loaded::choices)
        }
        DatasetKind::Unpaired(step) => {
            let make = |rows: Vec<Unpaired>| Examples::Unpaired(Alone::mismatched(rows, step, longest));
            collect(data, &encoder, rows::read(path, &options)?, Encoder::unpaired, make)
        }
    }
}

/// A row that can be shortened.
trait Cut {
    /// Ids of its longest sequence.
    fn length(&self) -> usize;
    /// All its ids, and those that are scored.
    fn size(&self) -> (usize, usize);
    /// Whether the loss looks at it.
    fn counts(&self) -> bool;
    /// Whether it compares two equal halves.
    fn equal(&self) -> bool;
    fn cut(&mut self, length: usize);
}

impl Cut for ScoredSequence {
    fn length(&self) -> usize {
        self.ids.len()
    }

    fn size(&self) -> (usize, usize) {
        (self.ids.len(), self.items())
    }

    fn counts(&self) -> bool {
        self.items() > 0
    }

    fn equal(&self) -> bool {
        false
    }

    fn cut(&mut self, length: usize) {
        ScoredSequence::cut(self, length);
    }
}

impl Cut for Pair {
    fn length(&self) -> usize {
        self.chosen.length().max(self.rejected.length())
    }

    fn size(&self) -> (usize, usize) {
        let ((a, b), (c, d)) = (self.chosen.size(), self.rejected.size());
        (a + c, b + d)
    }

    fn counts(&self) -> bool {
        self.chosen.counts() && self.rejected.counts()
    }

    fn equal(&self) -> bool {
        self.chosen == self.rejected
    }

    fn cut(&mut self, length: usize) {
        self.chosen.cut(length);
        self.rejected.cut(length);
    }
}

impl Cut for Unpaired {
    fn length(&self) -> usize {
        self.own.length()
    }

    fn size(&self) -> (usize, usize) {
        self.own.size()
    }

    fn counts(&self) -> bool {
        self.own.counts()
    }

    fn equal(&self) -> bool {
        false
    }

    fn cut(&mut self, length: usize) {
        Cut::cut(&mut self.own, length);
    }
}

fn collect<'a, R: Row + Send, E: Cut + Send>(
    data: &Data,
    encoder: &Encoder<'a>,
    RowFile { rows, filled, open, unread }: RowFile<R>,
    encode: impl Fn(&Encoder<'a>, RowPlace, R) -> Result<E, TextError> + Sync,
    make: impl Fn(Vec<E>) -> Examples,
) -> Result<Loaded, TextError> {
    let path = encoder.path();
    // What fills nothing in the rows that are trained on is a slip of the pen.
    if let Some(name) = data.replace.keys().find(|name| path == data.train && !filled.contains(*name)) {
        return Err(TextError::Replace { path: path.to_owned(), name: name.clone() });
    }
    let encoded: Vec<(RowPlace, Result<E, TextError>)> =
        rows.into_par_iter().map(|(place, row)| (place, encode(encoder, place, row))).collect();
    let mut counts = RowCounts {
        path: path.to_owned(),
        rows: encoded.len(),
        tokens: 0,
        scored: 0,
        cut: 0,
        dropped: 0,
        unscored: 0,
        longest: 0,
        max_length: data.max_length,
        packed: None,
        choices: None,
        open: open.into_iter().collect(),
        unread,
        parted: encoder.parted(),
        begun: encoder.begun(),
        blank: encoder.blank(),
        shortened: encoder.shortened(),
        said: encoder.said(),
        equal: 0,
        beyond: (0, encoder.context()),
    };
    let (mut kept, mut places) = (Vec::new(), Vec::new());
    for (place, row) in encoded {
        let mut row = row.map_err(|error| error.at(path, place))?;
        counts.longest = counts.longest.max(row.length());
        if !row.counts() {
            counts.unscored += 1;
            continue;
        }
        let long = row.length() > data.max_length;
        row.cut(data.max_length);
        if !row.counts() {
            counts.dropped += 1;
            continue;
        }
        counts.cut += usize::from(long);
        let (tokens, scored) = row.size();
        counts.tokens += tokens;
        counts.scored += scored;
        counts.equal += usize::from(row.equal());
        counts.beyond.0 += usize::from(row.length() > counts.beyond.1);
        kept.push(row);
        places.push(place);
    }
    if kept.is_empty() {
        return Err(TextError::Unscored(Box::new(counts)));
    }
    Ok(Loaded { rows: make(kept), places, counts })
}
