//! The ops of this crate inside candle's own engine.

use std::sync::Mutex;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Shape, Storage, Tensor};

use super::{Pullback, Traced};
use crate::{Error, Result};

/// Runs an op so that candle's `backward` goes through it.
///
/// `op` gets the same tensors and gives a [`Traced`], such as [`super::linear`] does. One to three
/// inputs, the most that a node of candle's engine has.
///
/// # Errors
/// The op's own errors; more than three inputs.
pub fn in_candle(inputs: &[&Tensor], op: impl FnOnce(&[Tensor]) -> Result<Traced>) -> Result<Tensor> {
    let detached: Vec<Tensor> = inputs.iter().map(|t| t.detach()).collect();
    let Traced { value, pullback, .. } = op(&detached)?;
    let node = Node { value: Mutex::new(Some(value)), pullback };
    let result = match inputs {
        [a] => a.apply_op1(node),
        [a, b] => a.apply_op2(b, node),
        [a, b, c] => a.apply_op3(b, c, node),
        _ => {
            return Err(Error::Unsupported {
                op: "in_candle",
                what: format!("{} inputs", inputs.len()),
                supported: "one to three",
            });
        }
    };
    Ok(result?)
}

/// A node of candle's graph whose value is already known.
struct Node {
    value: Mutex<Option<Tensor>>,
    pullback: Pullback,
}

impl Node {
    fn take(&self) -> candle_core::Result<(CpuStorage, Shape)> {
        let value = self.value.lock().map_or(None, |mut v| v.take());
        let Some(value) = value else { candle_core::bail!("the op's value was taken already") };
        let shape = value.shape().clone();
        let value = value.contiguous()?;
        let (storage, layout) = value.storage_and_layout();
        match &*storage {
            Storage::Cpu(cpu) if layout.start_offset() == 0 => Ok((cpu.clone(), shape)),
            _ => candle_core::bail!("the op's value must be a fresh CPU tensor"),
        }
    }

    fn pull<const N: usize>(&self, grad: &Tensor) -> candle_core::Result<[Option<Tensor>; N]> {
        let grads = (self.pullback)(grad, &[true; N])?;
        let n = grads.len();
        <[_; N]>::try_from(grads)
            .map_err(|_| candle_core::Error::msg(format!("{n} gradients for {N} inputs")))
    }
}

impl CustomOp1 for Node {
    fn name(&self) -> &'static str {
        "traced-op"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.take()
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let [a] = self.pull(grad)?;
        Ok(a)
    }
}

impl CustomOp2 for Node {
    fn name(&self) -> &'static str {
        "traced-op"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.take()
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let [a, b] = self.pull(grad)?;
        Ok((a, b))
    }
}

impl CustomOp3 for Node {
    fn name(&self) -> &'static str {
        "traced-op"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.take()
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [a, b, c] = self.pull(grad)?;
        Ok((a, b, c))
    }
}
