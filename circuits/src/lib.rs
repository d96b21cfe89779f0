//! Fixed-point semantics, commitments and halo2 circuits: integers and field elements only.

pub mod fixed;
