//! The two halo2 circuits. Both are universal: whatever depends on an adapter's shapes is an instance value.

pub(crate) mod delta;
pub(crate) mod digits;
