//! Accuracy of a model over a set of images.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Device, Tensor};
use efficienttrain_models::{Act, Backbone, Context, Mode, Options, ParamStore, create};
use serde::{Deserialize, Serialize};

use crate::data::{BadImage, Batch, EvalPipeline, Loader, Source};
use crate::error::{DataError, Result};
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
    let options =
        Options { num_classes: model.num_classes(), input_size: model.input_size(), ..Options::default() };
    let mut resized = create(model.name(), &options)?;
    let mut params = params.clone();
    for change in resized.set_input_size([size; 2])? {
        change.apply_in(&mut params)?;
    }
    Ok((resized, params))
}

/// Evaluates over all images of `source`, in order, `batch` at a time; also gives the images that could not be read,
/// which do not count.
///
/// # Errors
/// When the model cannot take the size, or no image can be read.
pub fn evaluate(
    model: &dyn Backbone,
    params: &ParamStore,
    source: Arc<dyn Source>,
    pipeline: &EvalPipeline,
    batch: usize,
    workers: usize,
) -> Result<(Accuracy, Vec<BadImage>)> {
    let (model, params) = at_size(model, params, pipeline.size)?;
    let never = AtomicBool::new(false);
    let scored = score(&*model, &params, source, pipeline, (batch, workers), &never)?;
    scored.ok_or_else(|| DataError::Worker("the evaluation was stopped".into()).into())
}

/// As [`evaluate`], by a model that has the size already; none when `stop` is set before the end.
pub(crate) fn score(
    model: &dyn Backbone,
    params: &ParamStore,
    source: Arc<dyn Source>,
    pipeline: &EvalPipeline,
    (batch, workers): (usize, usize),
    stop: &AtomicBool,
) -> Result<Option<(Accuracy, Vec<BadImage>)>> {
    let (mut sum, mut bad) = (Accuracy::default(), Vec::new());
    for batch in Loader::eval(source, pipeline.clone(), batch, workers)? {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let batch = batch?;
        count(&mut sum, model, params, &batch)?;
        bad.extend(batch.bad);
    }
    if sum.images == 0 {
        let why = bad.first().map_or("there is none".to_string(), |b| b.reason.clone());
        return Err(DataError::Setting(format!("no image to evaluate on could be read: {why}")).into());
    }
    let n = sum.images as f64;
    let accuracy =
        Accuracy { top1: sum.top1 / n, top5: sum.top5 / n, loss: sum.loss / n, images: sum.images };
    Ok(Some((accuracy, bad)))
}

fn count(sum: &mut Accuracy, model: &dyn Backbone, params: &ParamStore, batch: &Batch) -> Result<()> {
    if batch.labels.is_empty() {
        return Ok(());
    }
    for (logits, &label) in logits(model, params, &pictures(batch)?)?.iter().zip(&batch.labels) {
        let own = logits[label as usize];
        // Classes that the label does not beat: a tie or a NaN is no success.
        let beats = |x: f32| own > x;
        let better = logits.iter().enumerate().filter(|&(k, &x)| k != label as usize && !beats(x)).count();
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
    let device = params.iter().next().map_or(&Device::Cpu, |(_, t)| t.device());
    let logits = model.forward(&mut cx, &Act::constant(pictures.to_device(device)?))?;
    Ok(logits.tensor().to_dtype(DType::F32)?.to_vec2()?)
}
