//! Reading and writing the memory of CPU tensors.

use std::cell::Cell;
use std::marker::PhantomData;

use candle_core::{
    self as candle, CpuStorage, DType, Device, InplaceOp1, Layout, StorageRef, Tensor, WithDType,
};

use super::kernels::{Compute, Storage};
use crate::{Error, Result};

/// A contiguous CPU tensor, locked for reading.
pub(crate) struct View<'a> {
    op: &'static str,
    guard: StorageRef<'a>,
    start: usize,
    len: usize,
}

impl<'a> View<'a> {
    /// Locks `t`, which must be contiguous and on the CPU.
    pub(crate) fn new(op: &'static str, t: &'a Tensor) -> Result<Self> {
        let (guard, layout) = t.storage_and_layout();
        let (start, end) =
            layout.contiguous_offsets().ok_or_else(|| Error::shape(op, "a contiguous tensor", t.dims()))?;
        Ok(Self { op, guard, start, len: end - start })
    }

    /// Its elements in row-major order.
    pub(crate) fn slice<S: Storage>(&self) -> Result<&[S]> {
        match &*self.guard {
            candle::Storage::Cpu(cpu) => Ok(&cpu.as_slice::<S>()?[self.start..self.start + self.len]),
            _ => Err(Error::Unsupported { op: self.op, what: "this device".into(), supported: "the CPU" }),
        }
    }
}

impl View<'_> {
    /// Its elements, if they are bytes.
    pub(crate) fn bytes(&self) -> Result<&[u8]> {
        match &*self.guard {
            candle::Storage::Cpu(CpuStorage::U8(bytes)) => Ok(&bytes[self.start..self.start + self.len]),
            _ => Err(Error::Unsupported {
                op: self.op,
                what: "what are no bytes".into(),
                supported: "u8 on the CPU",
            }),
        }
    }
}

/// A new CPU tensor that owns `data`.
pub(crate) fn tensor<S: Storage>(data: Vec<S>, shape: &[usize]) -> Result<Tensor> {
    Ok(Tensor::from_vec(data, shape, &Device::Cpu)?)
}

/// A parameter as activations are computed with it, whatever type it is stored in.
#[derive(Clone)]
pub(crate) struct Param {
    tensor: Tensor,
    dtype: DType,
}

impl Param {
    /// For activations of type `S`.
    pub(crate) fn of<S: Storage>(tensor: &Tensor) -> Result<Self> {
        let dtype = tensor.dtype();
        Ok(Self { tensor: tensor.to_dtype(<S::Real as WithDType>::DTYPE)?.contiguous()?, dtype })
    }

    pub(crate) fn view(&self, op: &'static str) -> Result<View<'_>> {
        View::new(op, &self.tensor)
    }

    pub(crate) fn dims(&self) -> &[usize] {
        self.tensor.dims()
    }

    /// Its gradient, in the type that it is stored in.
    pub(crate) fn gradient<T: Compute>(&self, data: Vec<T>) -> Result<Option<Tensor>> {
        Ok(Some(tensor(data, self.dims())?.to_dtype(self.dtype)?))
    }
}

/// Changes a tensor's memory in place; every clone of the tensor sees it.
pub(crate) fn change<T: Compute>(
    op: &'static str,
    target: &Tensor,
    work: impl FnOnce(&mut [T]) -> Result<()>,
) -> Result<()> {
    Ok(target.inplace_op1(&Change { op, work: Cell::new(Some(work)), element: PhantomData })?)
}

/// Changes a tensor's memory like [`change`]; without one, `work` gets no elements.
pub(crate) fn change_if_any<T: Compute>(
    op: &'static str,
    target: Option<&Tensor>,
    work: impl FnOnce(&mut [T]) -> Result<()>,
) -> Result<()> {
    match target {
        Some(target) => change(op, target, work),
        None => work(&mut []),
    }
}

struct Change<T, F> {
    op: &'static str,
    /// Taken when it runs.
    work: Cell<Option<F>>,
    element: PhantomData<T>,
}

impl<T: Compute, F: FnOnce(&mut [T]) -> Result<()>> InplaceOp1 for Change<T, F> {
    fn name(&self) -> &'static str {
        self.op
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (Some((start, end)), Some(data)) = (layout.contiguous_offsets(), T::of_storage(storage)) else {
            candle_core::bail!(
                "{}: the tensor to change must be contiguous and of the same element type",
                self.op
            )
        };
        let Some(work) = self.work.take() else { candle_core::bail!("{}: ran already", self.op) };
        Ok(work(&mut data[start..end])?)
    }
}
