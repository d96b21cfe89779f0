//! Reading tensors as slices where they lie in host memory, for the kernels of `ftk-kernels`.

use candle_core::{CpuStorage, DType, Result, Storage, Tensor};
use ftk_kernels::float;
use ftk_kernels::float::bf16::{self, Bf16Matrix, Bf16Side};
use ftk_kernels::float::product::{MatrixView, new_product};

/// `f` of the values of f32 tensors in host memory; `None` where one is elsewhere or of another type.
pub(super) fn read<const N: usize, R>(
    tensors: [&Tensor; N],
    f: impl FnOnce([&[f32]; N]) -> Result<R>,
) -> Result<Option<R>> {
    if tensors.iter().any(|tensor| !here(tensor) || tensor.dtype() != DType::F32) {
        return Ok(None);
    }
    values(tensors, f).map(Some)
}

/// Whether the kernels compute with a tensor: it lies in host memory.
pub(super) fn here(tensor: &Tensor) -> bool {
    #[cfg(test)]
    if portable::is_asked() {
        return false;
    }
    tensor.device().is_cpu()
}

/// `f` of the values of tensors that are f32 in host memory.
pub(super) fn values<const N: usize, R>(tensors: [&Tensor; N], f: impl FnOnce([&[f32]; N]) -> Result<R>) -> Result<R> {
    let mut dense = Vec::with_capacity(N);
    for tensor in tensors {
        dense.push(tensor.contiguous()?);
    }
    let guards: Vec<_> = dense.iter().map(Tensor::storage_and_layout).collect();
    let slices = std::array::from_fn(|index| {
        let (storage, layout) = &guards[index];
        match &**storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[layout.start_offset()..][..layout.shape().elem_count()],
            _ => unreachable!("the caller has looked at device and type"),
        }
    });
    f(slices)
}

/// The product of f32 rows with a weight `(d_out, d_in)` along one side of it, in the weight's number format; `None`
/// where one is not in host memory, or in another format than f32 and bf16.
pub(super) fn by_weight(x: &Tensor, weight: &Tensor, side: Bf16Side) -> Result<Option<Vec<f32>>> {
    let (d_out, d_in) = weight.dims2()?;
    let summed = if side == Bf16Side::Inputs { d_in } else { d_out };
    if x.dims().last() != Some(&summed) {
        candle_core::bail!("{:?} cannot be multiplied by a weight {:?}", x.shape(), weight.shape());
    }
    if weight.dtype() != DType::BF16 {
        return read([x, weight], |[x, w]| {
            let w = MatrixView::new(w, d_in);
            Ok(new_product(1.0, MatrixView::new(x, summed), if side == Bf16Side::Inputs { w.t() } else { w }))
        });
    }
    let dense = weight.contiguous()?;
    let (storage, layout) = dense.storage_and_layout();
    let Storage::Cpu(CpuStorage::BF16(values)) = &*storage else { return Ok(None) };
    let values = &values[layout.start_offset()..][..layout.shape().elem_count()];
    read([x], |[x]| Ok(bf16::product(x, Bf16Matrix::new(values, d_in), side)))
}

/// `x + row` for every row of `x` `(rows, width)`.
pub(super) fn sum_rows(x: &Tensor, row: &Tensor) -> Result<Tensor> {
    if x.dims().last() != Some(&row.elem_count()) {
        candle_core::bail!("a row of {:?} cannot be added to {:?}", row.shape(), x.shape());
    }
    match read([x, row], |[x, row]| Ok(float::sum_rows(x, row)))? {
        Some(values) => Tensor::from_vec(values, x.shape(), x.device()),
        None => x.broadcast_add(row),
    }
}

/// `x + y` of one shape.
pub(super) fn sum(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    match read([x, y], |[x, y]| Ok(float::sum(x, y)))? {
        Some(values) => Tensor::from_vec(values, x.shape(), x.device()),
        None => x + y,
    }
}

/// The sum of all rows of `x` `(rows, width)`: `(width)`.
pub(super) fn column_sums(x: &Tensor) -> Result<Tensor> {
    let width = x.dim(1)?;
    let sums = |[x]: [&[f32]; 1]| {
        let mut sums = vec![0.0f32; width];
        x.chunks_exact(width).for_each(|row| sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x));
        Ok(sums)
    };
    match read([x], sums)? {
        Some(sums) => Tensor::from_vec(sums, width, x.device()),
        None => x.sum(0),
    }
}

/// `scale a b` of two f32 matrices, on the host in the order of sums that all products of training have. A factor may
/// be the transposed view of another tensor.
///
/// # Errors
/// Shapes that do not fit; those of the device.
pub fn product(scale: f64, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let ((m, k), (inner, n)) = (a.dims2()?, b.dims2()?);
    if k != inner {
        candle_core::bail!("matrices {:?} and {:?} cannot be multiplied", a.shape(), b.shape());
    }
    // Read as it lies, if that is as rows or as columns.
    let turned = |x: &Tensor| !x.is_contiguous() && x.t().is_ok_and(|t| t.is_contiguous());
    let lying = |x: &Tensor| if turned(x) { x.t() } else { Ok(x.clone()) };
    let (rows_of_a, rows_of_b) = (lying(a)?, lying(b)?);
    let values = read([&rows_of_a, &rows_of_b], |[left, right]| {
        if m == 0 || k == 0 || n == 0 {
            return Ok(vec![0.0; m * n]);
        }
        let left = if turned(a) { MatrixView::new(left, m).t() } else { MatrixView::new(left, k) };
        let right = if turned(b) { MatrixView::new(right, k).t() } else { MatrixView::new(right, n) };
        Ok(new_product(scale as f32, left, right))
    })?;
    match values {
        Some(values) => Tensor::from_vec(values, (m, n), a.device()),
        None => a.matmul(b)? * scale,
    }
}

/// Has candle's operations compute on the host in the place of the kernels, as they do on a device.
#[cfg(test)]
pub(super) mod portable {
    use std::cell::Cell;

    thread_local! {
        static ASKED: Cell<bool> = const { Cell::new(false) };
    }

    pub(super) fn is_asked() -> bool {
        ASKED.get()
    }

    /// For as long as `f` runs, on this thread.
    pub(in super::super) fn run<R>(f: impl FnOnce() -> R) -> R {
        ASKED.set(true);
        let result = f();
        ASKED.set(false);
        result
    }
}
