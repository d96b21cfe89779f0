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
    let eye = EYE.with_borrow(Clone::clone).expect("somebody looks on");
    let (operation, inputs) = describe()?;
    let mut seen = TracedOperation { operation, inputs, outputs: outputs.to_vec() };
    (eye.borrow_mut())(&mut seen)?;
    seen.outputs
        .try_into()
        .map_err(|_| candle_core::Error::Msg("an operation has as many results as before".to_owned()))
}

/// Refuses what is no operation that can be shown, if anybody looks on.
///
/// # Errors
/// Names it.
pub(super) fn unseen(what: &str) -> Result<()> {
    if on() { candle_core::bail!("{what} is not recorded by operation") } else { Ok(()) }
}
