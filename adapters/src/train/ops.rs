//! The operations of networks on the tape: what each gives, and how it is undone. Products with weights are in `lora`.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use ftk_kernels::float::attention::FactorFormat;
use ftk_kernels::float::relu::Drop;
use ftk_kernels::float::rotary::Turn;
use ftk_networks::ops::graph::Propagation;
use ftk_networks::ops::{Bias, Heads, Nodes, Ops, Rope, TableShape, Tokens};

use super::messages::Way;
use super::operation::Operation;
use super::rotary::{Angles, TokenPlaces};
use super::tape::sum;
use super::{Learns, Train, attention, cached, gelu, graph, host, messages, norm, swiglu, trace};
use crate::Error;

impl Ops for Train<'_> {
    type Value = Tensor;
    type Error = Error;

    fn embed(&mut self, site: &str, TableShape { scale, .. }: TableShape, tokens: &Tokens) -> Result<Tensor, Error> {
        let name = format!("{site}.weight");
        let (table, format) = (self.weights.held(&name)?.clone(), self.format_of_tables());
        self.place(tokens)?;
        for (cache, span) in self.caches.iter_mut().flatten().zip(&self.spans) {
            cache.extend(span.rows.len());
        }
        let ids = Tensor::from_slice(tokens.ids(), tokens.ids().len(), &self.weights.device())?;
        // Of 1 there is nothing to compute.
        let scaled = move |x: Tensor| if scale == 1.0 { Ok(x) } else { x * f64::from(scale) };
        let [value] = trace::seen([scaled(table.rows(&ids, format)?)?], || {
            let table = table.in_format(format)?.to_dtype(DType::F32)?;
            Ok((Operation::Embed { scale: f64::from(scale).into() }, vec![table, ids.clone()]))
        })?;
        self.step(&value, self.learns(Learns::Base), move |g, gradients| {
            let nothing = table.in_format(DType::F32)?.zeros_like()?;
            let of = nothing.dim(0)?;
            let [learnt] = trace::seen([nothing.index_add(&ids, &scaled(g.clone())?, 0)?], || {
                Ok((Operation::EmbedBack { scale: f64::from(scale).into(), of }, vec![g, ids]))
            })?;
            gradients.add_trained(name, learnt)
        });
        Ok(value)
    }

    fn add_positions(&mut self, site: &str, _: usize, x: &Tensor) -> Result<Tensor, Error> {
        let name = format!("{site}.weight");
        let table = self.weights.held(&name)?.in_format(self.format_of_tables())?.to_dtype(DType::F32)?;
        let (rows, needed) = (table.dim(0)?, self.longest());
        if needed > rows {
            return Err(Error::Positions { site: site.to_owned(), rows, positions: needed });
        }
        let positions = self.places.clone().ok_or(Error::NoTokens)?.tensor;
        let [of_positions] = trace::seen([table.index_select(&positions, 0)?], || {
            Ok((Operation::Embed { scale: 1.0.into() }, vec![table.clone(), positions.clone()]))
        })?;
        let value = sum(x, &of_positions)?;
        let (base, id) = (self.learns(Learns::Base), x.id());
        self.step(&value, base || self.tracks(x), move |g, gradients| {
            if base {
                let [learnt] = trace::seen([table.zeros_like()?.index_add(&positions, &g, 0)?], || {
                    Ok((Operation::EmbedBack { scale: 1.0.into(), of: rows }, vec![g.clone(), positions]))
                })?;
                gradients.add_trained(name, learnt)?;
            }
            gradients.add(id, g)
        });
        Ok(value)
    }

    fn linear(&mut self, site: &str, _: usize, bias: Bias, x: &Tensor) -> Result<Tensor, Error> {
        let y = self.product(site, site, x)?;
        match bias {
            Bias::Absent => Ok(y),
            Bias::Present => self.add_bias(site, &y),
        }
    }

    fn linear_rope(&mut self, site: &str, d_out: usize, bias: Bias, x: &Tensor, rope: &Rope) -> Result<Tensor, Error> {
        let y = self.linear(site, d_out, bias, x)?;
        self.rotate(&y, rope)
    }

    fn norm_rope(&mut self, site: &str, x: &Tensor, eps: f64, rope: &Rope) -> Result<Tensor, Error> {
        // A norm whose weight has a head's width takes each head on its own.
        let y = self.rms_norm(site, x, eps)?;
        self.rotate(&y, rope)
    }

    fn layer_norm(&mut self, site: &str, x: &Tensor, eps: f64) -> Result<Tensor, Error> {
        let [weight_name, bias_name] = ["weight", "bias"].map(|kind| format!("{site}.{kind}"));
        let (weight, bias) = (self.weight(&weight_name)?, self.weight(&bias_name)?);
        let [value] = trace::seen([norm::layer_norm(x, [&weight, &bias], eps)?], || {
            Ok((Operation::LayerNorm { eps: eps.into() }, vec![x.clone(), weight.clone(), bias.clone()]))
        })?;
        let (base, input, x) = (self.learns(Learns::Base), self.tracks(x), x.clone());
        self.step(&value, base || input, move |g, gradients| {
            if base {
                let [of_weight] = trace::seen([norm::layer_backward_weight(&x, eps, &g)?], || {
                    Ok((Operation::LayerNormWeightBack { eps: eps.into() }, vec![x.clone(), g.clone()]))
                })?;
                let [of_bias] = trace::seen([host::column_sums(&g)?], || Ok((Operation::RowBack {}, vec![g.clone()])))?;
                gradients.add_trained(weight_name, of_weight)?;
                gradients.add_trained(bias_name, of_bias)?;
            }
            if !input {
                return Ok(());
            }
            let [dx] = trace::seen([norm::layer_backward(&x, &weight, eps, &g)?], || {
                Ok((Operation::LayerNormBack { eps: eps.into() }, vec![x.clone(), weight, g]))
            })?;
            gradients.add(x.id(), dx)
        });
        Ok(value)
    }

    fn part(&mut self, x: &Tensor, features: Range<usize>) -> Result<Tensor, Error> {
        let all = x.dim(1)?;
        let (from, count) = (features.start, features.len());
        let [value] = trace::seen([x.narrow(1, from, count)?.contiguous()?], || {
            Ok((Operation::Part { from, count }, vec![x.clone()]))
        })?;
        let id = x.id();
        self.step(&value, self.tracks(x), move |g, gradients| {
            let [dx] = trace::seen([g.pad_with_zeros(1, from, all - features.end)?], || {
                Ok((Operation::PartBack { from, of: all }, vec![g]))
            })?;
            gradients.add(id, dx)
        });
        Ok(value)
    }

    fn rope(&mut self, x: &Tensor, rope: &Rope) -> Result<Tensor, Error> {
        self.rotate(x, rope)
    }

    fn gelu(&mut self, x: &Tensor) -> Result<Tensor, Error> {
        let [value] = trace::seen([gelu::gelu(x)?], || Ok((Operation::Gelu {}, vec![x.clone()])))?;
        let input = x.clone();
        self.step(&value, self.tracks(x), move |g, gradients| {
            let [dx] =
                trace::seen([gelu::backward(&input, &g)?], || Ok((Operation::GeluBack {}, vec![input.clone(), g])))?;
            gradients.add(input.id(), dx)
        });
        Ok(value)
    }

    fn rms_norm(&mut self, site: &str, x: &Tensor, eps: f64) -> Result<Tensor, Error> {
        let name = format!("{site}.weight");
        let weight = self.weight(&name)?;
        let [value] = trace::seen([norm::rms_norm(x, &weight, eps)?], || {
            Ok((Operation::RmsNorm { eps: eps.into() }, vec![x.clone(), weight.clone()]))
        })?;
        let (base, input, x) = (self.learns(Learns::Base), self.tracks(x), x.clone());
        self.step(&value, base || input, move |g, gradients| {
            if base {
                let width = weight.dim(0)?;
                let [learnt] = trace::seen([norm::backward_weight(&x, width, eps, &g)?], || {
                    Ok((Operation::RmsNormWeightBack { eps: eps.into(), width }, vec![x.clone(), g.clone()]))
                })?;
                gradients.add_trained(name, learnt)?;
            }
            if !input {
                return Ok(());
            }
            let [dx] = trace::seen([norm::backward(&x, &weight, eps, &g)?], || {
                Ok((Operation::RmsNormBack { eps: eps.into() }, vec![x.clone(), weight, g]))
            })?;
            gradients.add(x.id(), dx)
        });
        Ok(value)
    }

    fn attention(
        &mut self,
        site: &str,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        heads: Heads,
        window: Option<usize>,
    ) -> Result<Tensor, Error> {
        let positions = self.longest();
        if let Some(window) = window.filter(|&window| window < positions) {
            return Err(Error::Window { site: site.to_owned(), window, positions });
        }
        let format = if self.format == DType::BF16 { FactorFormat::Bf16 } else { FactorFormat::F32 };
        if let Some(caches) = &mut self.caches {
            return Ok(cached::attention(caches, site, [q, k, v], heads, format, &self.spans)?);
        }
        let [value] = trace::seen([attention::attention([q, k, v], heads, format, &self.spans)?], || {
            Ok((Operation::attention(heads, format, &self.spans, false), vec![q.clone(), k.clone(), v.clone()]))
        })?;
        let needed = [q, k, v].into_iter().any(|x| self.tracks(x));
        let (q, k, v, spans) = (q.clone(), k.clone(), v.clone(), self.spans.clone());
        self.step(&value, needed, move |g, gradients| {
            let [dq, dk, dv] = trace::seen(attention::backward([&q, &k, &v], heads, format, &spans, &g)?, || {
                Ok((Operation::attention(heads, format, &spans, true), vec![q.clone(), k.clone(), v.clone(), g]))
            })?;
            gradients.add(q.id(), dq)?;
            gradients.add(k.id(), dk)?;
            gradients.add(v.id(), dv)
        });
        Ok(value)
    }

    fn swiglu(&mut self, gate: &Tensor, up: &Tensor) -> Result<Tensor, Error> {
        let [value] =
            trace::seen([swiglu::swiglu(gate, up)?], || Ok((Operation::Swiglu {}, vec![gate.clone(), up.clone()])))?;
        let (gate, up) = (gate.clone(), up.clone());
        self.step(&value, self.tracks(&gate) || self.tracks(&up), move |g, gradients| {
            let [d_gate, d_up] = trace::seen(swiglu::backward(&gate, &up, &g)?, || {
                Ok((Operation::SwigluBack {}, vec![gate.clone(), up.clone(), g]))
            })?;
            gradients.add(gate.id(), d_gate)?;
            gradients.add(up.id(), d_up)
        });
        Ok(value)
    }

    fn geglu(&mut self, gate: &Tensor, up: &Tensor) -> Result<Tensor, Error> {
        let [value] =
            trace::seen([gelu::geglu(gate, up)?], || Ok((Operation::Geglu {}, vec![gate.clone(), up.clone()])))?;
        let (gate, up) = (gate.clone(), up.clone());
        self.step(&value, self.tracks(&gate) || self.tracks(&up), move |g, gradients| {
            let [d_gate, d_up] = trace::seen(gelu::geglu_backward(&gate, &up, &g)?, || {
                Ok((Operation::GegluBack {}, vec![gate.clone(), up.clone(), g]))
            })?;
            gradients.add(gate.id(), d_gate)?;
            gradients.add(up.id(), d_up)
        });
        Ok(value)
    }

    fn add(&mut self, x: &Tensor, y: &Tensor) -> Result<Tensor, Error> {
        let value = sum(x, y)?;
        let operands = [x.id(), y.id()];
        self.step(&value, self.tracks(x) || self.tracks(y), move |g, gradients| {
            gradients.add(operands[0], g.clone())?;
            gradients.add(operands[1], g)
        });
        Ok(value)
    }

    fn select(&mut self, x: &Tensor, rows: &[usize]) -> Result<Tensor, Error> {
        let tokens = x.dim(0)?;
        if let Some(dropout) = &mut self.dropout {
            dropout.keys = rows.iter().map(|&row| dropout.keys[row]).collect();
        }
        if rows.iter().copied().eq(0..tokens) {
            return Ok(x.clone());
        }
        let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let rows = Tensor::from_slice(&rows, rows.len(), x.device())?;
        let [value] =
            trace::seen([x.index_select(&rows, 0)?], || Ok((Operation::Select {}, vec![x.clone(), rows.clone()])))?;
        let x = x.clone();
        self.step(&value, self.tracks(&x), move |g, gradients| {
            let [dx] = trace::seen([x.zeros_like()?.index_add(&rows, &g, 0)?], || {
                Ok((Operation::SelectBack { of: x.dim(0)? }, vec![g, rows]))
            })?;
            gradients.add(x.id(), dx)
        });
        Ok(value)
    }

    fn convolve(
        &mut self,
        site: &str,
        _: usize,
        bias: Bias,
        x: Nodes<'_, Tensor>,
        over: &Arc<Propagation>,
    ) -> Result<Tensor, Error> {
        let y = match x {
            Nodes::Features(x) => {
                let drop = self.drops(false);
                match x.dense() {
                    None => {
                        let drop = drop.map(|(share, key)| Drop::new(share, key));
                        let y = self.sparse_product(site, x, drop)?;
                        self.propagate(over, &y)?
                    }
                    Some(values) => {
                        let device = self.weights.device();
                        let x = messages::stated(Tensor::from_slice(values, (x.rows(), x.width()), &device)?)?;
                        let x = match drop {
                            Some((share, key)) => messages::thinned(&x, share, key)?,
                            None => x,
                        };
                        self.convolve_value(site, &x, over)?
                    }
                }
            }
            Nodes::Value(x) => self.convolve_value(site, x, over)?,
        };
        match bias {
            Bias::Absent => Ok(y),
            Bias::Present => self.add_bias(site, &y),
        }
    }

    fn attend_neighbours(
        &mut self,
        site: &str,
        x: &Tensor,
        heads: usize,
        over: &Arc<Propagation>,
    ) -> Result<Tensor, Error> {
        let names = ["att_src", "att_dst"].map(|kind| format!("{site}.{kind}"));
        let [source, target] = [self.weight(&names[0])?, self.weight(&names[1])?];
        let drop = self.drops(true);
        let attention = graph::Attention { x: x.clone(), source, target, heads, drop };
        let [value, shares] = attention.attend(over)?;
        let learnt = names.each_ref().map(|name| self.learns_weight(name));
        let (over, id) = (over.clone(), x.id());
        self.step(&value, learnt.contains(&true) || self.tracks(x), move |g, gradients| {
            let [dx, source, target] = attention.attend_back(&over, &shares, &g)?;
            for ((name, learnt), gradient) in names.into_iter().zip(learnt).zip([source, target]) {
                if learnt {
                    gradients.add_trained(name, gradient)?;
                }
            }
            gradients.add(id, dx)
        });
        self.add_bias(site, &value)
    }

    fn relu(&mut self, x: &Tensor) -> Result<Tensor, Error> {
        let [value] = trace::seen([graph::relu(x)?], || Ok((Operation::Relu {}, vec![x.clone()])))?;
        let (id, kept) = (x.id(), value.clone());
        self.step(&value, self.tracks(x), move |g, gradients| {
            let [dx] = trace::seen([graph::relu_backward(&kept, &g)?], || Ok((Operation::ReluBack {}, vec![kept, g])))?;
            gradients.add(id, dx)
        });
        Ok(value)
    }

    fn dropout(&mut self, x: &Tensor) -> Result<Tensor, Error> {
        let Some((share, key)) = self.drops(false) else { return Ok(x.clone()) };
        let (value, id) = (messages::thinned(x, share, key)?, x.id());
        self.step(&value, self.tracks(x), move |g, gradients| gradients.add(id, messages::thinned(&g, share, key)?));
        Ok(value)
    }

    fn head(&mut self, site: &str, weight: &str, _: usize, x: &Tensor) -> Result<Tensor, Error> {
        match self.scoring.take() {
            None => self.product(site, weight, x),
            Some(scoring) => self.scored_head(self.layer(site, weight, x)?, x, scoring),
        }
    }
}

impl Train<'_> {
    /// `y` with its heads turned by their positions.
    fn rotate(&mut self, y: &Tensor, rope: &Rope) -> Result<Tensor, Error> {
        let places = self.places.clone().ok_or(Error::NoTokens)?;
        // Behind cached positions there are few tokens, and a table of all positions would be made for each pass anew.
        let (rows, needed) = match self.caches {
            Some(_) => (TokenPlaces::new((0..places.at.len() as u32).collect(), y.device())?, places.at.len()),
            None => (places.clone(), self.longest()),
        };
        self.angles.retain(|(of, angles)| of != rope || angles.positions() >= needed);
        let angles = match self.angles.iter().find(|(of, _)| of == rope) {
            Some((_, angles)) => angles.clone(),
            None => {
                let angles = match self.caches {
                    Some(_) => Angles::at(rope, &places.at, y.device())?,
                    None => Angles::new(rope, needed, y.device())?,
                };
                self.angles.push((rope.clone(), angles.clone()));
                angles
            }
        };
        let positions = places.tensor;
        let [value] = trace::seen([angles.rotate(y, &rows, Turn::Forward)?], || {
            Ok((Operation::rotate(rope, Turn::Forward), vec![y.clone(), positions.clone()]))
        })?;
        let (id, rope) = (y.id(), rope.clone());
        self.step(&value, self.tracks(y), move |g, gradients| {
            // A rotation's transpose is the rotation back.
            let [dx] = trace::seen([angles.rotate(&g, &rows, Turn::Back)?], || {
                Ok((Operation::rotate(&rope, Turn::Back), vec![g, positions]))
            })?;
            gradients.add(id, dx)
        });
        Ok(value)
    }

    /// `P x`.
    fn propagate(&mut self, over: &Arc<Propagation>, x: &Tensor) -> Result<Tensor, Error> {
        if over.is_identity() {
            return Ok(x.clone());
        }
        let value = messages::propagate(over, x, Way::Forward)?;
        let (over, id) = (over.clone(), x.id());
        self.step(&value, self.tracks(x), move |g, gradients| {
            gradients.add(id, messages::propagate(&over, &g, Way::Back)?)
        });
        Ok(value)
    }

    /// `P x W^T` in the cheaper order.
    fn convolve_value(&mut self, site: &str, x: &Tensor, over: &Arc<Propagation>) -> Result<Tensor, Error> {
        let (d_out, d_in) = self.weight(&format!("{site}.weight"))?.dims2()?;
        let entries = over.coefficients().entries();
        let cost = |rows: usize, width: usize| rows * d_in * d_out / graph::DENSE_SPEED + entries * width;
        if cost(over.rows(), d_in) < cost(over.senders(), d_out) {
            let x = self.propagate(over, x)?;
            self.product(site, site, &x)
        } else {
            let y = self.product(site, site, x)?;
            self.propagate(over, &y)
        }
    }
}
