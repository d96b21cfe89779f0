//! A policy: a base, with or without an adapter, that answers a window with one of the listed actions. It answers in
//! exact integers, as proofs do, so that what is logged is what can be proved.

use std::path::Path;

use anyhow::Result;
use candle_core::Device;
use ftk_bases::BaseModel;
use ftk_defi::DefiError;
use ftk_proofs::fixed::{Adaptation, FixedAdapter};
use ftk_proofs::{Case, Choice, Deadline, FixedModel, Input, Output, replay};

use super::super::commit::committed_form;
use super::super::fitting;
use crate::prove::model;

/// The policy.
pub struct Policy {
    fixed: FixedModel,
    adapter: Option<FixedAdapter>,
    /// Ids to choose among.
    among: Vec<u32>,
}

impl Policy {
    /// Loads a base and an adapter; `(first, count)` are the ids of the actions.
    ///
    /// # Errors
    /// A model or adapter that cannot be read, or has no integer form.
    pub fn load(source: &BaseModel, adapter: Option<&Path>, (first, count): (u32, usize)) -> Result<Self> {
        let weights = source.weights(&Device::Cpu)?;
        let fixed = model::of(source, &weights)?;
        let adapter = match adapter {
            Some(folder) => Some(committed_form(&fixed, &fitting(source, folder)?, &[], folder)?.0),
            None => None,
        };
        Ok(Self { fixed, adapter, among: (first..).take(count).collect() })
    }

    /// Digest of the base.
    pub fn base(&self) -> String {
        self.fixed.digest().to_string()
    }

    /// The action for a window, by its position.
    ///
    /// # Errors
    /// Ids that the base has not.
    pub fn choose(&self, ids: &[u32]) -> Result<usize, DefiError> {
        let output = Choice::among(self.among.clone()).into();
        let case = Case { input: Input::Tokens(ids.to_vec()), output };
        let adaptation = self.adapter.as_ref().map_or(Adaptation::Base, Adaptation::Factors);
        let replayed = replay(&self.fixed, adaptation, &[case], None, Deadline::NONE);
        let outputs = replayed.map_err(|error| DefiError::Policy(error.to_string()))?.outputs;
        match outputs.as_slice() {
            [Output::Choice(choice)] => Ok((choice.chosen - self.among[0]) as usize),
            _ => Err(DefiError::Policy("a choice was asked for".to_owned())),
        }
    }
}
