//! Accuracy of a model over a set of images.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use efficienttrain_models::{Act, Backbone, Context, Mode, Options, ParamStore, create};
use serde::{Deserialize, Serialize};

use crate::data::{Batch, EvalPipeline, Loader, Source};
use crate::error::Result;
use crate::state::pictures;

/// Accuracy and loss over a set of images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Share of images whose label is the most probable class, 0 to 1.
    pub top1: f64,
    /// Share of images whose label is among the five most probable classes, 0 to 1.
    pub top5: f64,
    /// Cross entropy, averaged over the images.
    pub loss: f64,
    /// Number of images.
    pub images: usize,
}

/// A model and weights for pictures of edge `size`, made from weights that belong to edge `from`.
///
/// # Errors
/// When the model cannot take the size.
pub fn at_size(
    model: &dyn Backbone,
    params: &ParamStore,
    size: usize,
) -> Result<(Box<dyn Backbone>, ParamStore)> {
    let options = Options { num_classes: model.num_classes(), input_size: model.input_size() };
    let mut resized = create(model.name(), &options)?;
    let mut params = params.clone();
    for change in resized.set_input_size([size; 2])? {
        change.apply_in(&mut params)?;
    }
    Ok((resized, params))
}

/// Evaluates over all images of `source`, in order, `batch` at a time.
///
/// # Errors
/// When an image cannot be read, or does not fit the model.
pub fn evaluate(
    model: &dyn Backbone,
    params: &ParamStore,
    source: Arc<dyn Source>,
    pipeline: &EvalPipeline,
    batch: usize,
    workers: usize,
) -> Result<Accuracy> {
    let (model, params) = at_size(model, params, pipeline.size)?;
    let mut sum = Accuracy::default();
    for batch in Loader::eval(source, pipeline.clone(), batch, workers)? {
        count(&mut sum, &*model, &params, &batch?)?;
    }
    let n = sum.images.max(1) as f64;
    Ok(Accuracy { top1: sum.top1 / n, top5: sum.top5 / n, loss: sum.loss / n, images: sum.images })
}

fn count(sum: &mut Accuracy, model: &dyn Backbone, params: &ParamStore, batch: &Batch) -> Result<()> {
    if batch.labels.is_empty() {
        return Ok(());
    }
    for (logits, &label) in logits(model, params, &pictures(batch)?)?.iter().zip(&batch.labels) {
        let own = logits[label as usize];
        // Classes that beat the label; ties count against it, so that equal logits are no success.
        let better = logits
            .iter()
            .enumerate()
            .filter(|&(k, &x)| k != label as usize && (x >= own || x.is_nan()))
            .count();
        let max = logits.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
        let mass: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
        sum.top1 += f64::from(better == 0);
        sum.top5 += f64::from(better < 5);
        sum.loss += mass.ln() - f64::from(own - max);
        sum.images += 1;
    }
    Ok(())
}

/// Logits of channels-last pictures, a row a picture.
pub(crate) fn logits(model: &dyn Backbone, params: &ParamStore, pictures: &Tensor) -> Result<Vec<Vec<f32>>> {
    let mut cx = Context::new(params, Mode::Eval);
    let logits = model.forward(&mut cx, &Act::constant(pictures.clone()))?;
    Ok(logits.tensor().to_dtype(DType::F32)?.to_vec2()?)
}
