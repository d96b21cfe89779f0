//! What is stated of the outputs of a linear site, which are those of the network.

use std::sync::Arc;

use super::Builder;
use crate::fixed::linear::Matrix;
use crate::fixed::log_prob::MAX_VOCABULARY;
use crate::fixed::{FixedError, WORD_BITS};
use crate::sealed::arrangement::{LIMB, Tensor};
use crate::sealed::operations::choice::{KnownOutputs, Largest, unsigned_class, word_class};
use crate::sealed::operations::linear::LinearOperation;
use crate::sealed::operations::log_prob::{
    Bound, Bounded, LogProbs, LogSumExp, Ranked, Ranking, TotalLogProb, TotalLogProbs, bound_class, bracket_class,
    output_class, rank_class, row_class,
};
use crate::sealed::operations::norm::whole_limbs;

impl Builder {
    /// Outputs of a site of which something is stated, all or those listed; of the same site it may be stated several times.
    fn stated(
        &mut self,
        site: &str,
        matrix: Arc<Matrix>,
        among: Option<&[u32]>,
        x: &Tensor,
    ) -> Result<LinearOperation, FixedError> {
        let adapter = self.adapter_of(site, &matrix)?;
        let missing = || FixedError::Shape { what: "listed output", site: site.to_owned() };
        let selected = match among {
            None => matrix,
            Some(among) => Arc::new(matrix.select(among).ok_or_else(missing)?),
        };
        let shift = whole_limbs(LinearOperation::least_shift(&selected, self.shape_of(site)));
        let linear = self.noted_linear(site, selected, x, shift, adapter)?;
        let listed = among.map(|among| among.iter().map(|output| *output as usize).collect());
        Ok(LinearOperation { listed, ..linear })
    }

    /// States of each row which output of a linear site is the largest, by its number among all or among those listed, which
    /// ascend; of equal ones it is the lowest.
    ///
    /// # Errors
    /// As [`Builder::project`], but that a site may be met again; [`FixedError::Shape`] of an output that is not there.
    pub fn largest(
        &mut self,
        site: &str,
        matrix: Arc<Matrix>,
        among: Option<&[u32]>,
        x: &Tensor,
        stated: Vec<usize>,
    ) -> Result<(), FixedError> {
        let ascending = among.is_none_or(|among| among.is_sorted_by(|one, next| one < next));
        FixedError::require(ascending, "listed output", site)?;
        let outputs = among.map_or(matrix.d_out(), <[u32]>::len);
        let fits = stated.len() == self.rows(x.space) && stated.iter().all(|output| *output < outputs);
        FixedError::require(fits, "stated output", site)?;
        let linear = self.stated(site, matrix, among, x)?;
        let shift = linear.shift;
        self.note_of("largest", site, x, stated.iter().map(|stated| *stated as i64));
        let word = self.span(x.space, word_class(), 1);
        let below = self.span(x.space, unsigned_class(Largest::limbs(shift)), linear.width());
        self.add(Largest { linear, stated, word, below });
        Ok(())
    }

    /// States of each row what the outputs of a linear site are, rounded.
    ///
    /// # Errors
    /// As [`Builder::project`], but that a site may be met again; [`FixedError::Shape`] of a row of another number of outputs
    /// than the site has, [`FixedError::Overflow`] of one that is no output.
    pub fn outputs(
        &mut self,
        site: &str,
        matrix: Arc<Matrix>,
        x: &Tensor,
        outputs: &[&[i64]],
    ) -> Result<(), FixedError> {
        // Of each row by itself: what one has too few another may have too many.
        let fits = outputs.len() == self.rows(x.space) && outputs.iter().all(|row| row.len() == matrix.d_out());
        FixedError::require(fits, "stated output", site)?;
        let outputs = outputs.concat();
        if let Some(entry) = outputs.iter().position(|output| output.unsigned_abs() >> WORD_BITS != 0) {
            return Err(FixedError::overflow("stated output", site, entry, WORD_BITS));
        }
        let linear = self.stated(site, matrix, None, x)?;
        let shift = linear.shift;
        self.note_of("outputs", site, x, outputs.iter().copied());
        let rest = self.span(x.space, unsigned_class((shift / LIMB) as usize), linear.width());
        self.add(KnownOutputs { linear, outputs, rest });
        Ok(())
    }

    /// Log-probabilities of each row's outputs, as [`crate::fixed::log_prob`] has them; nothing is stated of them yet.
    ///
    /// # Errors
    /// As [`Builder::project`], but that a site may be met again; [`FixedError::Shape`] of more outputs than a softmax may
    /// have.
    pub fn log_probs(&mut self, site: &str, matrix: Arc<Matrix>, x: &Tensor) -> Result<LogProbs, FixedError> {
        FixedError::require(matrix.d_out() <= MAX_VOCABULARY, "vocabulary", site)?;
        let linear = self.stated(site, matrix, None, x)?;
        let shift = linear.shift;
        self.note_of("softmax", site, x, []);
        let outputs = self.span(x.space, output_class(shift), linear.width());
        let rows = self.span(x.space, row_class(), 1);
        let brackets = self.span(x.space, bracket_class(), 2);
        let softmax = LogSumExp { linear, outputs, rows, brackets };
        let log_probs = softmax.log_probs();
        self.add(softmax);
        Ok(log_probs)
    }

    fn has(&self, log_probs: &LogProbs, row: usize, output: usize) -> bool {
        row < self.rows(log_probs.distance.space) && output < log_probs.distance.width
    }

    /// States what log-probabilities add up to.
    ///
    /// # Errors
    /// [`FixedError::Shape`] of an output that is not there.
    pub fn add_up(&mut self, site: &str, log_probs: &LogProbs, sums: Vec<TotalLogProb>) -> Result<(), FixedError> {
        let fits = sums.iter().flat_map(|sum| &sum.of).all(|(row, output)| self.has(log_probs, *row, *output));
        FixedError::require(fits, "stated output", site)?;
        let of = |sum: &TotalLogProb| {
            let places = sum.of.iter().flat_map(|(row, output)| [*row as i64, *output as i64]);
            [sum.of.len() as i64, sum.log_prob].into_iter().chain(places).collect::<Vec<i64>>()
        };
        self.note_of("log-probabilities", site, &log_probs.distance, sums.iter().flat_map(of));
        self.add(TotalLogProbs { site: site.to_owned(), log_probs: log_probs.clone(), sums });
        Ok(())
    }

    /// States whether log-probabilities are at least so much.
    ///
    /// # Errors
    /// [`FixedError::Shape`] of an output that is not there.
    pub fn at_least(&mut self, site: &str, log_probs: &LogProbs, bounds: Vec<Bound>) -> Result<(), FixedError> {
        let fits = bounds.iter().all(|bound| self.has(log_probs, bound.row, bound.output));
        FixedError::require(fits, "stated output", site)?;
        let of = |bound: &Bound| [bound.row as i64, bound.output as i64, bound.bound, i64::from(bound.holds)];
        self.note_of("bounds", site, &log_probs.distance, bounds.iter().flat_map(of));
        let space = self.space(bounds.len());
        let rest = self.span(space, bound_class(), 1);
        self.add(Bounded { site: site.to_owned(), log_probs: log_probs.clone(), bounds, rest });
        Ok(())
    }

    /// States which outputs of rows are the likeliest, with their log-probabilities.
    ///
    /// # Errors
    /// [`FixedError::Shape`] of an output that is not there, or of outputs in another order.
    pub fn likeliest(&mut self, site: &str, log_probs: &LogProbs, rankings: Vec<Ranking>) -> Result<(), FixedError> {
        FixedError::require(rankings.iter().all(Ranking::is_in_order), "stated ranking", site)?;
        let each = |Ranking { row, likeliest }: &Ranking| {
            let listed =
                |(output, log_prob): &(usize, i64)| TotalLogProb { of: vec![(*row, *output)], log_prob: *log_prob };
            likeliest.iter().map(listed).collect::<Vec<TotalLogProb>>()
        };
        self.add_up(site, log_probs, rankings.iter().flat_map(each).collect())?;
        self.note_of("rankings", site, &log_probs.distance, rankings.iter().map(|own| own.likeliest.len() as i64));
        let rows: Vec<usize> = rankings.iter().map(|ranking| ranking.row).collect();
        let distance = self.select(site, &log_probs.distance, &rows)?;
        let rest = self.span(distance.space, rank_class(), distance.width);
        self.add(Ranked { site: site.to_owned(), rankings, distance, rest });
        Ok(())
    }
}
