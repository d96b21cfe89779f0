//! Looking on while operations are computed, one after another, on the thread that asks for them. Nobody does in
//! training: it is for who records a step, so that two who disagree find the operation in which they do.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use candle_core::{Result, Tensor};

use super::operation::Operation;

/// An operation that was just computed.
#[derive(Debug)]
pub struct TracedOperation {
    /// Which.
    pub operation: Operation,
    /// What it was computed from.
    pub inputs: Vec<Tensor>,
    /// What it gave. What goes on is what the one who looks on leaves here.
    pub outputs: Vec<Tensor>,
}

/// Who looks on.
type Eye = Rc<RefCell<dyn FnMut(&mut TracedOperation) -> Result<()>>>;

thread_local! {
    static EYE: RefCell<Option<Eye>> = const { RefCell::new(None) };
    static ON: Cell<bool> = const { Cell::new(false) };
}

/// Does `work` while `see` sees every operation that this thread asks for.
///
/// # Panics
/// If somebody looks on already.
pub fn during<R>(see: impl FnMut(&mut TracedOperation) -> Result<()> + 'static, work: impl FnOnce() -> R) -> R {
    /// Takes the eye away also where the work panics.
    struct Until;
    impl Drop for Until {
        fn drop(&mut self) {
            ON.set(false);
            EYE.set(None);
        }
    }
    assert!(!on(), "one looks on at a time");
    EYE.set(Some(Rc::new(RefCell::new(see))));
    ON.set(true);
    let _until = Until;
    work()
}

/// Whether anybody looks on.
pub fn on() -> bool {
    ON.get()
}

/// Shows an operation and what it gave, if anybody looks on; gives what goes on.
///
/// # Errors
/// Those of whoever looks on.
pub fn seen<const N: usize>(
    outputs: [Tensor; N],
    describe: impl FnOnce() -> Result<(Operation, Vec<Tensor>)>,
) -> Result<[Tensor; N]> {
    if !on() {
        return Ok(outputs);
    }
    let seen = seen_all(outputs.to_vec(), describe)?;
    Ok(seen.try_into().expect("as many as there were"))
}

/// [`seen`] of any number of results.
///
/// # Errors
/// Those of whoever looks on.
pub fn seen_all(
    outputs: Vec<Tensor>,
    describe: impl FnOnce() -> Result<(Operation, Vec<Tensor>)>,
) -> Result<Vec<Tensor>> {
    let Some(eye) = EYE.with_borrow(Clone::clone) else { return Ok(outputs) };
    let (operation, inputs) = describe()?;
    let count = outputs.len();
    let mut seen = TracedOperation { operation, inputs, outputs };
    (eye.borrow_mut())(&mut seen)?;
    if seen.outputs.len() != count {
        candle_core::bail!("an operation has as many results as before");
    }
    Ok(seen.outputs)
}
