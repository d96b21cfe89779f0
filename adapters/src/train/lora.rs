//! Products with weights that may carry an adapter, and the head that scores labels.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use ftk_kernels::float::relu::Drop;
use ftk_networks::ops::graph::Features;

use super::layer::Layer;
use super::operation::Operation;
use super::{Gradients, Learns, Scoring, Train, host, log_prob, messages, scored_at_once, trace};
use crate::Error;

impl Train<'_> {
    pub(super) fn product(&mut self, site: &str, weight: &str, x: &Tensor) -> Result<Tensor, Error> {
        let layer = self.layer(site, weight, x)?;
        let (value, low) = layer.forward(x)?;
        let (needed, input) = (layer.needed(), x.clone());
        self.step(&value, needed, move |g, gradients| {
            if let Some(dx) = layer.backward(&input, low.as_ref(), &g, gradients)? {
                gradients.add(input.id(), dx)?;
            }
            Ok(())
        });
        Ok(value)
    }

    /// `y` with the bias of a site added to every row.
    pub(super) fn add_bias(&mut self, site: &str, y: &Tensor) -> Result<Tensor, Error> {
        let name = format!("{site}.bias");
        let row = self.weight(&name)?;
        let [value] =
            trace::seen([host::sum_rows(y, &row)?], || Ok((Operation::AddRow {}, vec![y.clone(), row.clone()])))?;
        let (base, id) = (self.learns_weight(&name), y.id());
        self.step(&value, base || self.tracks(y), move |g, gradients| {
            if base {
                let [learnt] = trace::seen([host::column_sums(&g)?], || Ok((Operation::RowBack {}, vec![g.clone()])))?;
                gradients.add_trained(name, learnt)?;
            }
            gradients.add(id, g)
        });
        Ok(value)
    }

    /// `x W^T` with the adapter's product for features most of which are zero.
    pub(super) fn sparse_product(
        &mut self,
        site: &str,
        x: &Arc<Features>,
        drop: Option<Drop>,
    ) -> Result<Tensor, Error> {
        let name = format!("{site}.weight");
        let (weight, lora) = (self.weight(&name)?, self.lora(site));
        let (base, trained) = (self.learns_weight(&name), lora.is_some() && self.learns(Learns::Adapter));
        let kept = messages::Kept::new(x, drop);
        let (value, low) = kept.forward(&weight, lora.as_ref())?;
        let site = site.to_owned();
        self.step(&value, base || trained, move |g, gradients| {
            if base {
                gradients.add_trained(name, kept.backward(&g)?)?;
            }
            if let (true, Some(lora), Some(low)) = (trained, &lora, &low) {
                let through = messages::product(lora.scale, &g, &lora.b, [false; 2])?;
                gradients.add_trained(format!("{site}.lora_A"), kept.backward(&through)?)?;
                gradients
                    .add_trained(format!("{site}.lora_B"), messages::product(lora.scale, &g, low, [true, false])?)?;
            }
            Ok(())
        });
        Ok(value)
    }

    pub(super) fn layer(&self, site: &str, weight: &str, x: &Tensor) -> Result<Layer, Error> {
        let name = format!("{weight}.weight");
        let lora = self.lora(site);
        Ok(Layer {
            weight: self.weights.held(&name)?.clone(),
            format: self.format,
            dropout: self.dropout.clone().filter(|_| lora.is_some()),
            trained: lora.is_some() && self.learns(Learns::Adapter),
            lora,
            base: self.learns_weight(&name),
            input: self.tracks(x),
            site: site.to_owned(),
            name,
        })
    }

    /// Log-probabilities of labels under the head, over some rows at a time.
    pub(super) fn scored_head(&mut self, layer: Layer, x: &Tensor, scoring: Scoring) -> Result<Tensor, Error> {
        let Scoring { labels, gradient } = scoring;
        let open = layer.widened()?;
        let rows = scored_at_once(open.d_out()?, open.trained || open.base);
        let chunks = (0..labels.len()).step_by(rows).map(|first| (first, rows.min(labels.len() - first)));
        let chunks: Vec<(usize, usize)> = chunks.collect();
        let (mut values, mut known) = (Vec::new(), Vec::new());
        let slopes = gradient.map(|gradient| Tensor::new(gradient, &Device::Cpu)).transpose()?;
        for &(first, count) in &chunks {
            let layer = open.of_rows(first, count);
            let (part, labels) = (rows_of(x, first, count)?, &labels[first..first + count]);
            let (logits, low) = layer.forward(&part)?;
            let sums = log_prob::log_sums(&logits, labels)?;
            let [value] = trace::seen([log_prob::log_prob(&logits, labels, sums.as_deref())?], || {
                Ok((Operation::LogProb {}, vec![logits.clone(), Tensor::new(labels, logits.device())?]))
            })?;
            values.push(value);
            self.hits.extend(log_prob::hits(&logits, labels)?);
            if let (Some(slopes), true) = (&slopes, layer.needed()) {
                let mut gradients = Gradients::default();
                let g = of_logits(logits, labels, sums.as_deref(), &rows_of(slopes, first, count)?)?;
                let dx = layer.backward(&part, low.as_ref(), &g, &mut gradients)?;
                known.push((dx, gradients));
            }
        }
        let value = join(&values)?;
        let x = x.clone();
        self.step(&value, layer.needed(), move |g, gradients| {
            let open = if known.is_empty() { layer.widened()? } else { layer };
            let mut known = known.into_iter();
            let mut parts = Vec::new();
            for (first, count) in chunks {
                let layer = open.of_rows(first, count);
                let dx = match known.next() {
                    Some((dx, of_trained)) => {
                        gradients.add_all(of_trained)?;
                        dx
                    }
                    None => {
                        let (part, labels) = (rows_of(&x, first, count)?, &labels[first..first + count]);
                        let (logits, low) = layer.forward(&part)?;
                        let sums = log_prob::log_sums(&logits, labels)?;
                        let g = of_logits(logits, labels, sums.as_deref(), &rows_of(&g, first, count)?)?;
                        layer.backward(&part, low.as_ref(), &g, gradients)?
                    }
                };
                parts.extend(dx);
            }
            if parts.is_empty() { Ok(()) } else { gradients.add(x.id(), join(&parts)?) }
        });
        Ok(value)
    }
}

fn rows_of(x: &Tensor, from: usize, count: usize) -> candle_core::Result<Tensor> {
    let [rows] = trace::seen([x.narrow(0, from, count)?], || Ok((Operation::Rows { from, count }, vec![x.clone()])))?;
    Ok(rows)
}

fn join(parts: &[Tensor]) -> candle_core::Result<Tensor> {
    let [whole] = trace::seen([Tensor::cat(parts, 0)?], || Ok((Operation::Join {}, parts.to_vec())))?;
    Ok(whole)
}

/// The gradient of logits, which it takes the place of.
fn of_logits(logits: Tensor, labels: &[u32], sums: Option<&[f32]>, slopes: &Tensor) -> candle_core::Result<Tensor> {
    let before = if trace::on() { Some(logits.copy()?) } else { None };
    let [g] = trace::seen([log_prob::backward(logits, labels, sums, &slopes.to_vec1::<f32>()?)?], || {
        let logits = before.into_iter();
        let beside = [Tensor::new(labels, &Device::Cpu)?, slopes.clone()];
        Ok((Operation::LogProbBack {}, logits.chain(beside).collect()))
    })?;
    Ok(g)
}
