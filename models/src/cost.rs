//! The cost of a model, counted from shapes.

use std::sync::Arc;

use crate::backbone::Backbone;
use crate::graph::{Context, CostCounter, Mode, TracedOp, Variable};
use crate::params::{ParamKind, ParamSpec, ParamStore};
use crate::{Error, Result};

/// Cost of a model for one image at its input size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Trained numbers.
    pub params: u64,
    /// Multiply-accumulates of convolutions.
    pub conv_macs: u64,
    /// Multiply-accumulates of linear layers.
    pub linear_macs: u64,
    /// Multiply-accumulates of the two products of attention.
    pub attention_macs: u64,
    /// Floating-point operations of a forward and a backward pass. What is computed twice to save
    /// memory counts once.
    pub train_flops: u64,
    /// Bytes that a forward pass keeps for the backward pass, in single precision.
    pub activation_bytes: u64,
}

impl Cost {
    /// Multiply-accumulates of a forward pass: convolutions, linear layers and attention, as fvcore
    /// counts. Norms, activations, softmax, biases and sums are left out, as is usual.
    pub fn macs(&self) -> u64 {
        self.conv_macs + self.linear_macs + self.attention_macs
    }
}

/// Counts what `model` costs for one image at its present input size, without running it.
///
/// ```
/// use efficienttrain_models::{ModelOptions, cost, create_model};
///
/// let model = create_model("resnet50", &ModelOptions { input_size: [96, 96], ..ModelOptions::default() })?;
/// assert_eq!(cost(&*model)?.macs(), 752_746_496);
/// # Ok::<(), efficienttrain_models::Error>(())
/// ```
///
/// # Errors
/// When the model's layers do not fit each other.
pub fn cost(model: &dyn Backbone) -> Result<Cost> {
    Ok(Cost::of(&counted(model, Arc::default())?, model.specs()))
}

/// The fewest values per channel of which a batch norm takes statistics in training, for one image
/// at the model's present input size; none if nothing takes any. `frozen` is as for
/// [`Context::with_frozen`]. A batch norm needs two values: a batch of one image is not enough for
/// a model that ends in maps of one pixel.
///
/// # Errors
/// Those of [`cost`].
pub fn fewest_batch_norm_values(model: &dyn Backbone, frozen: Arc<[bool]>) -> Result<Option<usize>> {
    Ok(counted(model, frozen)?.fewest_values)
}

/// A pass over one image, counted.
fn counted(model: &dyn Backbone, frozen: Arc<[bool]>) -> Result<CostCounter> {
    passed(model, frozen, 1)
}

/// Images of a traced pass: not one, so that a dimension of the batch is told from one of length 1.
pub(crate) const TRACED_BATCH: usize = 2;

/// The ops of a pass over a batch; the batch is the first dimension of every value.
pub(crate) fn traced(model: &dyn Backbone) -> Result<Vec<TracedOp>> {
    let ops = passed(model, Arc::default(), TRACED_BATCH)?.ops;
    match ops.iter().find(|traced| traced.shape.first() != Some(&TRACED_BATCH)) {
        Some(traced) => Err(Error::Export {
            model: model.name().into(),
            what: format!("the first dimension of a {} is not the batch", traced.op.name()),
        }),
        None => Ok(ops),
    }
}

/// A pass over `batch` images of which only shapes go through.
fn passed(model: &dyn Backbone, frozen: Arc<[bool]>, batch: usize) -> Result<CostCounter> {
    let params = ParamStore::placeholders(model.specs())?;
    let mut cx = Context::new(&params, Mode::Count).with_frozen(frozen);
    let [height, width] = model.input_size();
    let image = Variable::constant(CostCounter::placeholder(&[batch, height, width, model.in_channels()])?);
    cx.note_image(&image);
    let logits = model.forward(&mut cx, &image)?;
    if logits.dims() != [batch, model.num_classes()] {
        let expected = format!("logits [{batch}, {}]", model.num_classes());
        return Err(Error::shape("cost", expected, logits.dims()));
    }
    Ok(cx.into_counter())
}

impl Cost {
    /// Returns the cost of a pass of one image from its counter.
    pub(crate) fn of(counter: &CostCounter, specs: &[ParamSpec]) -> Self {
        let macs = counter.conv + counter.linear + counter.attention;
        let trained = specs.iter().filter(|s| s.kind == ParamKind::Parameter);
        Self {
            params: trained.map(|s| s.shape.iter().product::<usize>() as u64).sum(),
            conv_macs: counter.conv,
            linear_macs: counter.linear,
            attention_macs: counter.attention,
            // Two operations a multiply-accumulate; gradients of both factors, but none of the
            // image.
            train_flops: 2 * (3 * macs - counter.on_constants),
            activation_bytes: 4 * counter.kept(),
        }
    }
}
