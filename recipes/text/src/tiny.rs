//! Random weights and a random adapter for tests on small networks.

use candle_core::{Device, Tensor};
use ftk_adapters::lora::Adapter;
use ftk_adapters::train::{initial_factors, normal_values};
use ftk_adapters::weights::Weights;
use ftk_networks::Network;
use ftk_networks::sites::Role;

/// Weights of a network: matrices with that spread, vectors around one.
pub(crate) fn weights(network: &Network, spread: f64) -> Weights {
    let make = |(name, shape): (String, Vec<usize>)| {
        let (spread, centre) = if shape.len() == 1 { (0.2, 1.0) } else { (spread, 0.0) };
        let values = normal_values(&name, shape.iter().product(), spread, 3);
        let values: Vec<f32> = values.into_iter().map(|value| value + centre).collect();
        (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
    };
    network.shapes().into_iter().map(make).collect()
}

/// An adapter of rank 3 on all linears, as after some training: `B` is not zero.
pub(crate) fn adapter(network: &Network) -> Adapter {
    let shapes = network.shapes();
    let mut adapter = Adapter::default();
    for site in network.sites().into_iter().filter(|site| site.role == Role::Linear) {
        let shape = &shapes[&format!("{}.weight", site.weight)];
        let mut factors = initial_factors(&site.name, 3, (shape[0], shape[1]), 1.5, 5);
        factors.b = normal_values(&site.name, factors.b.len(), 0.3, 6);
        adapter.sites.insert(site.name, factors);
    }
    adapter
}
