//! Nothing that holds a secret can be printed with its values, so no log, error or panic can show them by accident.

use std::fmt::Debug;

use super::support::Case;
use crate::columns::{Committed, Randomness};
use crate::fixed::linear::FixedFactors;
use crate::folding::circuit::FoldCircuit;
use crate::folding::{Folded, Witness};
use crate::link::Equation;
use crate::messages::Sender;

/// Has one implementation for a type without `Debug`, and two for one with it.
trait Unprintable<Because> {
    fn holds() {}
}

impl<T: ?Sized> Unprintable<()> for T {}
impl<T: ?Sized + Debug> Unprintable<bool> for T {}

/// Fails to compile, with "type annotations needed", as soon as one of them derives `Debug`.
#[test]
fn witnesses_cannot_be_printed() {
    <Randomness as Unprintable<_>>::holds();
    <Committed as Unprintable<_>>::holds();
    <Equation<Committed> as Unprintable<_>>::holds();
    <Witness<'_> as Unprintable<_>>::holds();
    <Folded as Unprintable<_>>::holds();
    <Sender<'_> as Unprintable<_>>::holds();
    <FoldCircuit<'_> as Unprintable<_>>::holds();
}

#[test]
fn adapters_and_openings_print_their_shapes_alone() {
    let case = Case::small();
    let site = &case.factors[0];
    let dimensions = [site.shape.d_in, site.shape.d_out].map(|dimension| dimension as usize);
    let shifts = [site.shape.shift_a, site.shape.shift_b];
    let factors =
        FixedFactors::new("q", site.shape.rank as usize, dimensions, site.a.clone(), site.b.clone(), shifts).unwrap();
    assert_eq!(format!("{factors:?}"), "Factors of rank 2, 20 to 5");
    assert_eq!(format!("{:?}", case.opening), format!("Opening of {} columns", case.commitment.points.len()));
    let shape = &site.shape;
    assert_eq!(format!("{site:?}"), format!("SiteFactors {{ shape: {shape:?}, .. }}"));
}
