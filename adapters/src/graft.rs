//! Attaching a hand-written backward pass to a value computed outside candle's graph.
//!
//! candle's own graph differentiates frozen operands too and keeps the gradients, and its fused
//! operations have no backward at all. Here the forward pass is ordinary tensor code on detached
//! operands, on any device and with candle's fastest kernels, and the graph holds one node whose
//! backward is ours; an operand that gets `None` costs neither a product nor a buffer.

use std::sync::Mutex;

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, InplaceOp1, Layout, MetalStorage, Result, Shape, Storage,
    Tensor,
};

/// Gradients of the operands given `(result, gradient of the result)`.
type Backward<const N: usize> = Box<dyn Fn(&Tensor, &Tensor) -> Result<[Option<Tensor>; N]> + Send + Sync>;

/// Makes `value` depend on `operands` through `backward`. Without a tracked operand, `value` itself.
///
/// `value` must be freshly computed (its storage shared with nobody): on the CPU it is moved, not copied.
pub fn graft<const N: usize>(
    value: Tensor,
    operands: [&Tensor; N],
    backward: impl Fn(&Tensor, &Tensor) -> Result<[Option<Tensor>; N]> + Send + Sync + 'static,
) -> Result<Tensor>
where
    Graft<N>: Apply<N>,
{
    if !operands.iter().any(|operand| operand.track_op()) {
        return Ok(value);
    }
    let shape = value.shape().clone();
    let graft = Graft { value: Mutex::new(Some(value)), shape, backward: Box::new(backward) };
    graft.apply(operands)
}

/// A computed value on its way into the graph, with its backward pass.
pub struct Graft<const N: usize> {
    value: Mutex<Option<Tensor>>,
    shape: Shape,
    backward: Backward<N>,
}

/// Enters the graph through candle's operation of that arity.
pub trait Apply<const N: usize> {
    /// The value as a node of the graph.
    ///
    /// # Errors
    /// None of its own.
    fn apply(self, operands: [&Tensor; N]) -> Result<Tensor>;
}

impl<const N: usize> Graft<N> {
    fn value(&self) -> Tensor {
        let value = self.value.lock().expect("no other thread runs this forward pass").take();
        value.expect("candle runs a forward pass once")
    }

    fn cpu(&self) -> Result<(CpuStorage, Shape)> {
        let taken = Taken::default();
        self.value().contiguous()?.inplace_op1(&taken)?;
        let storage = taken.0.into_inner().expect("no other thread runs this forward pass");
        Ok((storage.expect("the operation above has run"), self.shape.clone()))
    }

    fn cuda(&self) -> Result<(CudaStorage, Shape)> {
        let value = self.value();
        let (storage, layout) = value.storage_and_layout();
        match &*storage {
            Storage::Cuda(storage) => Ok((storage.try_clone(layout)?, self.shape.clone())),
            _ => candle_core::bail!("operands and value are on different devices"),
        }
    }

    fn metal(&self) -> Result<(MetalStorage, Shape)> {
        let value = self.value();
        let (storage, layout) = value.storage_and_layout();
        match &*storage {
            Storage::Metal(storage) => Ok((storage.try_clone(layout)?, self.shape.clone())),
            _ => candle_core::bail!("operands and value are on different devices"),
        }
    }
}

/// Moves the storage out of a tensor.
#[derive(Default)]
struct Taken(Mutex<Option<CpuStorage>>);

impl InplaceOp1 for Taken {
    fn name(&self) -> &'static str {
        "take"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> Result<()> {
        let taken = std::mem::replace(storage, CpuStorage::F32(Vec::new()));
        *self.0.lock().expect("no other thread runs this forward pass") = Some(taken);
        Ok(())
    }
}

impl CustomOp1 for Graft<1> {
    fn name(&self) -> &'static str {
        "graft"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.cpu()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.cuda()
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        self.metal()
    }

    fn bwd(&self, _: &Tensor, result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let [x] = (self.backward)(result, gradient)?;
        Ok(x)
    }
}

impl CustomOp2 for Graft<2> {
    fn name(&self) -> &'static str {
        "graft"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.cpu()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.cuda()
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout, _: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        self.metal()
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [x, y] = (self.backward)(result, gradient)?;
        Ok((x, y))
    }
}

impl CustomOp3 for Graft<3> {
    fn name(&self) -> &'static str {
        "graft"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.cpu()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.cuda()
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        self.metal()
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [x, y, z] = (self.backward)(result, gradient)?;
        Ok((x, y, z))
    }
}

impl Apply<1> for Graft<1> {
    fn apply(self, [x]: [&Tensor; 1]) -> Result<Tensor> {
        x.apply_op1(self)
    }
}

impl Apply<2> for Graft<2> {
    fn apply(self, [x, y]: [&Tensor; 2]) -> Result<Tensor> {
        x.apply_op2(y, self)
    }
}

impl Apply<3> for Graft<3> {
    fn apply(self, [x, y, z]: [&Tensor; 3]) -> Result<Tensor> {
        x.apply_op3(y, z, self)
    }
}
