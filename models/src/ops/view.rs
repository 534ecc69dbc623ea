//! Reading and writing the memory of CPU tensors.

use std::cell::Cell;
use std::marker::PhantomData;

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Storage, StorageRef, Tensor};

use super::kernels::Element;
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
    pub(crate) fn slice<T: Element>(&self) -> Result<&[T]> {
        match &*self.guard {
            Storage::Cpu(cpu) => Ok(&cpu.as_slice::<T>()?[self.start..self.start + self.len]),
            _ => Err(Error::Unsupported { op: self.op, what: "this device".into(), supported: "the CPU" }),
        }
    }
}

/// A new CPU tensor that owns `data`.
pub(crate) fn tensor<T: Element>(data: Vec<T>, shape: &[usize]) -> Result<Tensor> {
    Ok(Tensor::from_vec(data, shape, &Device::Cpu)?)
}

/// Changes a tensor's memory in place; every clone of the tensor sees it.
pub(crate) fn change<T: Element>(
    op: &'static str,
    target: &Tensor,
    work: impl FnOnce(&mut [T]) -> Result<()>,
) -> Result<()> {
    Ok(target.inplace_op1(&Change { op, work: Cell::new(Some(work)), element: PhantomData })?)
}

struct Change<T, F> {
    op: &'static str,
    /// Taken when it runs.
    work: Cell<Option<F>>,
    element: PhantomData<T>,
}

impl<T: Element, F: FnOnce(&mut [T]) -> Result<()>> InplaceOp1 for Change<T, F> {
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
