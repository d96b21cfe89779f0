//! The update of AdamW (Loshchilov and Hutter 2019) as PyTorch computes it, one entry after another.

/// What an update needs beside the numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Learning rate.
    pub rate: f64,
    /// Updates with this one.
    pub updates: u32,
    /// Decay of first and second moment.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Share of the learning rate by which values are pulled to zero; 0 of what is not.
    pub weight_decay: f64,
    /// Norm that all gradients together are cut to; 0 for none.
    pub max_norm: f64,
}

/// The norm of gradients taken together.
pub fn norm<'a>(gradients: impl Iterator<Item = &'a [f32]>) -> f64 {
    let squares = |g: &[f32]| g.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>();
    gradients.map(squares).sum::<f64>().sqrt()
}

impl Update {
    /// Updates values and their moments by a gradient; `norm` is that of all gradients of the step.
    pub fn apply(&self, [value, first, second]: [&mut [f32]; 3], gradient: &[f32], norm: f64) {
        let limit = self.max_norm;
        let clip = if limit > 0.0 { (limit / (norm + 1e-6)).min(1.0) as f32 } else { 1.0 };
        let [beta1, beta2] = self.betas;
        let rate = (self.rate / (1.0 - libm::pow(beta1, f64::from(self.updates)))) as f32;
        let root = (1.0 - libm::pow(beta2, f64::from(self.updates))).sqrt() as f32;
        let (beta1, beta2, eps) = (beta1 as f32, beta2 as f32, self.eps as f32);
        let decay = 1.0 - (self.rate * self.weight_decay) as f32;
        let moments = first.iter_mut().zip(second.iter_mut());
        for ((p, (m, v)), &g) in value.iter_mut().zip(moments).zip(gradient) {
            let g = g * clip;
            *p *= decay;
            *m += (g - *m) * (1.0 - beta1);
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *p -= rate * *m / (v.sqrt() / root + eps);
        }
    }
}
