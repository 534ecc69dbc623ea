//! Optimizers and averages over many tensors, in one launch for all of them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use candle_core::cuda_backend::DeviceId;
use candle_core::{DType, Tensor};

use super::device;
use super::elementwise::only_single;
use super::launch::{Grid, Kernel};
use super::memory::{address, contiguous, empty};
use crate::Result;
use crate::ops::{AdamW, Lamb, NormLimits, Sgd, Stepped};

/// Elements of a piece: `PIECE` of the kernels.
const PIECE: usize = 8192;
const THREADS: u32 = 256;

/// Division of tensors into pieces, on a GPU.
struct Pieces {
    count: usize,
    tensor_of: Tensor,
    first_of: Tensor,
    lengths: Tensor,
    /// First piece of each tensor, and the one behind the last.
    pieces_of: Tensor,
}

/// They are the same in every step.
static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// Pieces by device and lengths.
type Known = HashMap<(DeviceId, Vec<usize>), Arc<Pieces>>;

fn pieces(op: &'static str, like: &Tensor, lengths: Vec<usize>) -> Result<Arc<Pieces>> {
    let key = (device::of(op, like)?.id(), lengths);
    let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(pieces) = known.get(&key) {
        return Ok(pieces.clone());
    }
    let (mut tensor_of, mut first_of, mut pieces_of) = (Vec::new(), Vec::new(), vec![0u32]);
    for (i, &length) in key.1.iter().enumerate() {
        for first in (0..length).step_by(PIECE) {
            tensor_of.push(i as u32);
            first_of.push(first as i64);
        }
        pieces_of.push(tensor_of.len() as u32);
    }
    let lengths: Vec<i64> = key.1.iter().map(|&n| n as i64).collect();
    let pieces = Arc::new(Pieces {
        count: tensor_of.len(),
        tensor_of: Tensor::new(tensor_of, like.device())?,
        first_of: Tensor::new(first_of, like.device())?,
        lengths: Tensor::new(lengths, like.device())?,
        pieces_of: Tensor::new(pieces_of, like.device())?,
    });
    known.insert(key, pieces.clone());
    Ok(pieces)
}

impl Pieces {
    /// Appends the arguments that all kernels end with, and runs one block per piece.
    fn run(&self, op: &'static str, kernel: Kernel) -> Result<()> {
        let words = [&self.tensor_of, &self.first_of, &self.lengths].map(|t| address(op, t));
        let [a, b, c] = words;
        let kernel = kernel.structure(&[a?, b?, c?]);
        kernel.run(Grid { blocks: [self.count, 1, 1], threads: THREADS, shared: 0 })
    }
}

/// A list of addresses on the GPU.
fn list<'a>(op: &'static str, tensors: impl Iterator<Item = &'a Tensor>) -> Result<Tensor> {
    let mut like = None;
    let mut addresses = Vec::new();
    for t in tensors {
        only_single(op, t)?;
        addresses.push(address(op, t)? as i64);
        like.get_or_insert(t);
    }
    let Some(like) = like else { return Err(crate::Error::shape(op, "at least one tensor", &[])) };
    Ok(Tensor::new(addresses, like.device())?)
}

/// Tensors that a step changes, and their rates.
struct Step<'a> {
    tensors: &'a [Stepped<'a>],
    /// Kept alive until the kernels are queued.
    grads: Vec<Tensor>,
    rates: Tensor,
    pieces: Arc<Pieces>,
    op: &'static str,
}

impl<'a> Step<'a> {
    fn new(op: &'static str, tensors: &'a [Stepped<'a>]) -> Result<Self> {
        let like = tensors[0].param;
        let grads = tensors.iter().map(|t| contiguous(t.grad)).collect::<Result<Vec<_>>>()?;
        let rates: Vec<f32> = tensors.iter().flat_map(|t| [t.lr as f32, t.weight_decay as f32]).collect();
        let rates = Tensor::new(rates, like.device())?;
        let pieces = pieces(op, like, tensors.iter().map(|t| t.param.elem_count()).collect())?;
        Ok(Self { tensors, grads, rates, pieces, op })
    }

    fn kernel(&self, name: &'static str) -> Result<Kernel<'a>> {
        Kernel::new(self.op, name, self.tensors[0].param, DType::F32)
    }

    fn params(&self) -> Result<Tensor> {
        list(self.op, self.tensors.iter().map(|t| t.param))
    }

    fn gradients(&self) -> Result<Tensor> {
        list(self.op, self.grads.iter())
    }

    fn kept(&self, i: usize) -> Result<Tensor> {
        list(self.op, self.tensors.iter().map(|t| t.kept[i]))
    }
}

/// The kernels' `Adam`.
fn adam(numbers: [f64; 7]) -> [u64; 4] {
    let bits = numbers.map(|x| u64::from((x as f32).to_bits()));
    [bits[0] | bits[1] << 32, bits[2] | bits[3] << 32, bits[4] | bits[5] << 32, bits[6]]
}

/// One AdamW step of all tensors; rates are theirs. `factor`, from [`clip_factor`], multiplies
/// gradients.
pub(in crate::ops) fn adamw_all(tensors: &[Stepped], rule: &AdamW, factor: Option<&Tensor>) -> Result<()> {
    let step = Step::new("adamw", tensors)?;
    let times = rule.step as f64;
    let (b1, b2) = (rule.beta1, rule.beta2);
    // The rest to 1 in single precision, as on the CPU.
    let rest = |b: f64| f64::from(1f32 - b as f32);
    let numbers = [b1, b2, rest(b1), rest(b2), 1.0 - b1.powf(times), (1.0 - b2.powf(times)).sqrt(), rule.eps];
    let (params, grads, means, squares) = (step.params()?, step.gradients()?, step.kept(0)?, step.kept(1)?);
    let kernel =
        step.kernel("adamw_all")?.tensor(&params)?.tensor(&grads)?.tensor(&means)?.tensor(&squares)?;
    let kernel = kernel.tensor(&step.rates)?.maybe(factor)?.structure(&adam(numbers));
    step.pieces.run(step.op, kernel)
}

/// One LAMB step of all tensors.
pub(in crate::ops) fn lamb_all(tensors: &[Stepped], rule: &Lamb, factor: Option<&Tensor>) -> Result<()> {
    let step = Step::new("lamb", tensors)?;
    let times = rule.step as f64;
    let (b1, b2) = (rule.beta1, rule.beta2);
    let numbers = [b1, b2, 1.0 - b1, 1.0 - b2, 1.0 - b1.powf(times), (1.0 - b2.powf(times)).sqrt(), rule.eps];
    let (params, grads, means, squares) = (step.params()?, step.gradients()?, step.kept(0)?, step.kept(1)?);
    let parts = empty(&params, (step.pieces.count, 2), DType::F32)?;
    let kernel =
        step.kernel("lamb_moments")?.tensor(&parts)?.tensor(&params)?.tensor(&grads)?.tensor(&means)?;
    let kernel = kernel.tensor(&squares)?.tensor(&step.rates)?.maybe(factor)?.structure(&adam(numbers));
    step.pieces.run(step.op, kernel)?;
    let kernel =
        step.kernel("lamb_apply")?.tensor(&params)?.tensor(&means)?.tensor(&squares)?.tensor(&step.rates)?;
    let kernel =
        kernel.tensor(&parts)?.tensor(&step.pieces.pieces_of)?.maybe(factor)?.structure(&adam(numbers));
    let kernel = kernel.flag(u32::from(rule.always_adapt)).flag(u32::from(rule.trust_clip));
    step.pieces.run(step.op, kernel)
}

/// One step of gradient descent of all tensors.
pub(in crate::ops) fn sgd_all(tensors: &[Stepped], rule: &Sgd, factor: Option<&Tensor>) -> Result<()> {
    let step = Step::new("sgd", tensors)?;
    let (params, grads, buffers) = (step.params()?, step.gradients()?, step.kept(0)?);
    let (ahead, direct) = if rule.nesterov { (rule.momentum, 1.0) } else { (1.0, 0.0) };
    let kernel =
        step.kernel("sgd_all")?.tensor(&params)?.tensor(&grads)?.tensor(&buffers)?.tensor(&step.rates)?;
    let kernel = kernel.maybe(factor)?.flag(u32::from(rule.step <= 1));
    step.pieces.run(step.op, kernel.float(rule.momentum).float(ahead).float(direct))
}

/// `target = decay * target + (1 - decay) * value` for all pairs; nothing where `factor` says that
/// the step was bad.
pub(in crate::ops) fn blend_all(
    pairs: &[(&Tensor, &Tensor)],
    decay: f64,
    factor: Option<&Tensor>,
) -> Result<()> {
    const OP: &str = "blend";
    let (targets, values) = (list(OP, pairs.iter().map(|p| p.0))?, list(OP, pairs.iter().map(|p| p.1))?);
    let pieces = pieces(OP, pairs[0].0, pairs.iter().map(|p| p.0.elem_count()).collect())?;
    let kernel = Kernel::new(OP, "blend_all", pairs[0].0, DType::F32)?.tensor(&targets)?.tensor(&values)?;
    pieces.run(OP, kernel.float(decay).float(1.0 - decay).maybe(factor)?)
}

/// Norm of all gradients together, and what to multiply them with, `[2]`; see
/// [`crate::ops::clip_factor`].
pub(in crate::ops) fn clip_factor(
    grads: &[&Tensor],
    loss: Option<&Tensor>,
    unscale: f64,
    limits: NormLimits,
) -> Result<Tensor> {
    const OP: &str = "clip";
    let grads = grads.iter().map(|g| contiguous(g)).collect::<Result<Vec<_>>>()?;
    let tensors = list(OP, grads.iter())?;
    let pieces = pieces(OP, &grads[0], grads.iter().map(Tensor::elem_count).collect())?;
    let parts = empty(&tensors, pieces.count, DType::F32)?;
    let kernel = Kernel::new(OP, "squares_all", &grads[0], DType::F32)?.tensor(&parts)?.tensor(&tensors)?;
    pieces.run(OP, kernel)?;
    let factor = empty(&tensors, 2, DType::F32)?;
    let kernel =
        Kernel::new(OP, "clip", &grads[0], DType::F32)?.tensor(&factor)?.tensor(&parts)?.maybe(loss)?;
    let kernel =
        kernel.float(unscale).float(limits.clip.unwrap_or(0.0)).float(limits.optimizer.unwrap_or(0.0));
    kernel.int(pieces.count).run(Grid { blocks: [1, 1, 1], threads: 256, shared: 0 })?;
    Ok(factor)
}
