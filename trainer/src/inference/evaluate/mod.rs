//! Accuracy of a model on a set of images, overall and by class.

pub(crate) mod classes;
pub(crate) mod labels;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Device, Tensor};
use efficienttrain_models::{Backbone, Context, Mode, ParamStore, Variable};
use serde::{Deserialize, Serialize};

use crate::data::batch::Batch;
use crate::data::loader::Loader;
use crate::data::pipeline::eval::EvalPipeline;
use crate::data::source::{BadImage, Source, is_multi_label};
use crate::error::{DataError, Result};
use crate::inference::evaluate::labels::{LabeledOutput, measure};

pub use classes::{ClassRow, Confusion};
pub use labels::{LabelRow, LabelTable, MultiLabelAccuracy};

/// Accuracy and loss on a set of images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Fraction of images whose label is the most probable class, 0 to 1; in a multi-label set, whose
    /// most probable class is among their labels.
    pub top1: f64,
    /// Fraction of images with a label among the five most probable classes, 0 to 1.
    pub top5: f64,
    /// Cross entropy, averaged over the images; in a multi-label set, binary cross entropy, averaged
    /// over the classes too. Not finite if an output of the network is not.
    #[serde(with = "crate::util::float_serde")]
    pub loss: f64,
    /// Expected calibration error (Guo et al., 2017, with 15 bins): how far the probability of the
    /// predicted class is from the accuracy at that probability, averaged over the images, 0 to 1.
    #[serde(default, with = "crate::util::float_serde")]
    pub ece: f64,
    /// Number of images.
    pub images: usize,
    /// Measures of a multi-label set; none for another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi_label: Option<MultiLabelAccuracy>,
}

/// Prediction of a model for one image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageScore {
    /// Index of the image in its source.
    pub index: usize,
    /// True class. In a multi-label set the most probable one, and the predicted class for an image
    /// without a label.
    pub label: usize,
    /// Most probable class; not the label if another class ties with it.
    pub predicted: usize,
    /// Number of other classes that are at least as probable as the label. In a multi-label set,
    /// other labels of the image do not count, and it is `usize::MAX` for an image without a label.
    pub rank: usize,
    /// Probability of the most probable class, 0 to 1.
    #[serde(with = "crate::util::float_serde")]
    pub confidence: f64,
    /// Cross entropy; in a multi-label set binary cross entropy, averaged over the classes.
    #[serde(with = "crate::util::float_serde")]
    pub loss: f64,
}

/// Returns the model and its weights for images of edge `size`.
///
/// # Errors
/// Returns an error if the model does not support the size.
pub fn at_size(
    model: &dyn Backbone,
    params: &ParamStore,
    size: usize,
) -> Result<(Box<dyn Backbone>, ParamStore)> {
    let (resized, changes) = model.at_size([size; 2])?;
    let mut params = params.clone();
    for change in changes {
        change.apply_in(&mut params)?;
    }
    Ok((resized, params))
}

/// Evaluates all images of `source`, in order, in batches of `batch`. Also returns the images that
/// could not be read, which do not count.
///
/// # Errors
/// Returns an error if the model does not support the size, or no image can be read.
pub fn evaluate(
    model: &dyn Backbone,
    params: &ParamStore,
    source: Arc<dyn Source>,
    pipeline: &EvalPipeline,
    batch: usize,
    workers: usize,
) -> Result<(Accuracy, Vec<BadImage>)> {
    evaluate_each(model, params, source, pipeline, (batch, workers), &mut |_| ())
}

/// Like [`evaluate`], and calls `each` for each image.
///
/// # Errors
/// Same as [`evaluate`].
pub fn evaluate_each(
    model: &dyn Backbone,
    params: &ParamStore,
    source: Arc<dyn Source>,
    pipeline: &EvalPipeline,
    (batch, workers): (usize, usize),
    each: &mut dyn FnMut(ImageScore),
) -> Result<(Accuracy, Vec<BadImage>)> {
    score_all(model, params, source, pipeline, (batch, workers), each)?.finish()
}

/// Evaluates all images of a multi-label set like [`evaluate`], and returns the results of each
/// class too.
///
/// # Errors
/// Same as [`evaluate`]; also if no image has a label, or the set has one label an image.
pub fn evaluate_labels(
    model: &dyn Backbone,
    params: &ParamStore,
    source: Arc<dyn Source>,
    pipeline: &EvalPipeline,
    (batch, workers): (usize, usize),
) -> Result<(Accuracy, LabelTable, Vec<BadImage>)> {
    let classes = source.classes().to_vec();
    if !is_multi_label(&*source) {
        let what = "the evaluation images have one label each; expected a multi-label set";
        return Err(DataError::Setting(what.into()).into());
    }
    let scored = score_all(model, params, source, pipeline, (batch, workers), &mut |_| ())?;
    let table = LabelTable::of(&scored.outputs, &classes);
    let (accuracy, bad) = scored.finish()?;
    Ok((accuracy, table, bad))
}

fn score_all(
    model: &dyn Backbone,
    params: &ParamStore,
    source: Arc<dyn Source>,
    pipeline: &EvalPipeline,
    (batch, workers): (usize, usize),
    each: &mut dyn FnMut(ImageScore),
) -> Result<Scored> {
    let (model, params) = at_size(model, params, pipeline.size)?;
    let images = EvalImages { source, pipeline, batch, workers, share: (0, 1) };
    let scored = score(&*model, &params, images, &AtomicBool::new(false), each)?;
    Ok(scored.ok_or_else(|| DataError::Worker("the evaluation was stopped".into()))?)
}

/// Images to evaluate on.
pub(crate) struct EvalImages<'a> {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) pipeline: &'a EvalPipeline,
    /// Images of a batch.
    pub(crate) batch: usize,
    pub(crate) workers: usize,
    /// Of how many processes this is which one: they take the batches in turn.
    pub(crate) share: (usize, usize),
}

/// Scores of images, and those that could not be read, in the order of the source.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scored {
    pub(crate) images: Vec<ImageScore>,
    /// Outputs for the images of a multi-label set; empty for another one. Average precision ranks
    /// the images of all processes together.
    pub(crate) outputs: Vec<LabeledOutput>,
    pub(crate) bad: Vec<(usize, BadImage)>,
}

impl Scored {
    /// Returns these scores and those of other images.
    pub(crate) fn joined(mut self, other: Self) -> Self {
        self.images.extend(other.images);
        self.outputs.extend(other.outputs);
        self.bad.extend(other.bad);
        self
    }

    /// Returns the scores in the order of the source.
    pub(crate) fn sorted(mut self) -> Self {
        self.images.sort_by_key(|score| score.index);
        self.outputs.sort_by_key(|output| output.index);
        self.bad.sort_by_key(|(first, _)| *first);
        self
    }

    /// Returns accuracy and loss, and the images that could not be read.
    ///
    /// # Errors
    /// Returns an error if there is no image, or none with a label in a multi-label set.
    pub(crate) fn finish(self) -> Result<(Accuracy, Vec<BadImage>)> {
        let mut sum = Accuracy::default();
        self.images.iter().for_each(|score| sum.add(score));
        if sum.images == 0 {
            let why = self.bad.first().map_or("there is none".to_string(), |(_, bad)| bad.reason.clone());
            return Err(DataError::Setting(format!("no image to evaluate on could be read: {why}")).into());
        }
        let n = sum.images as f64;
        let several = !self.outputs.is_empty();
        let accuracy = Accuracy {
            top1: sum.top1 / n,
            top5: sum.top5 / n,
            loss: sum.loss / n,
            ece: calibration_error(&self.images),
            images: sum.images,
            multi_label: several.then(|| measure(&self.outputs)).transpose()?,
        };
        Ok((accuracy, self.bad.into_iter().map(|(_, bad)| bad).collect()))
    }
}

/// Scores images with a model that already has the size; none if `stop` is set before the end.
pub(crate) fn score(
    model: &dyn Backbone,
    params: &ParamStore,
    images: EvalImages,
    stop: &AtomicBool,
    each: &mut dyn FnMut(ImageScore),
) -> Result<Option<Scored>> {
    let EvalImages { source, pipeline, batch, workers, share } = images;
    let mut scored = Scored::default();
    let loader = Loader::eval_share(source, pipeline.clone(), batch, workers, share)?;
    let mut first = share.0 * batch;
    for batch_of in loader {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let prepared = batch_of?;
        let (scores, outputs) = score_images(model, params, &prepared, pipeline.flip)?;
        scores.iter().for_each(|score| each(*score));
        scored.images.extend(scores);
        scored.outputs.extend(outputs);
        scored.bad.extend(prepared.bad.into_iter().map(|bad| (first, bad)));
        first += share.1 * batch;
    }
    Ok(Some(scored))
}

impl Accuracy {
    /// Adds an image to the sums, which are divided by the number of images later.
    fn add(&mut self, score: &ImageScore) {
        self.top1 += f64::from(score.rank == 0);
        self.top5 += f64::from(score.rank < 5);
        self.loss += score.loss;
        self.images += 1;
    }
}

/// Bins of equal width into which probabilities are sorted.
const CALIBRATION_BINS: usize = 15;

/// Returns the expected calibration error: over bins of the predicted class's probability, the
/// distance of its mean from the accuracy, weighted by the number of images.
fn calibration_error(images: &[ImageScore]) -> f64 {
    let mut gaps = [0.0; CALIBRATION_BINS];
    for image in images {
        let bin = (image.confidence * CALIBRATION_BINS as f64) as usize;
        gaps[bin.min(CALIBRATION_BINS - 1)] += f64::from(image.rank == 0) - image.confidence;
    }
    gaps.iter().map(|gap| gap.abs()).sum::<f64>() / images.len().max(1) as f64
}

fn score_images(
    model: &dyn Backbone,
    params: &ParamStore,
    batch: &Batch,
    flip: bool,
) -> Result<(Vec<ImageScore>, Vec<LabeledOutput>)> {
    if batch.labels.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let logits = logits_of(model, params, &batch.tensor(&Device::Cpu)?, flip)?;
    let sets = logits.iter().zip(&batch.label_sets).zip(&batch.samples);
    let outputs: Vec<_> =
        sets.map(|((logits, labels), &index)| LabeledOutput::new(index, logits, labels)).collect();
    if !outputs.is_empty() {
        return Ok((outputs.iter().map(LabeledOutput::score).collect(), outputs));
    }
    let one = |((logits, &label), &index): ((&Vec<f32>, &u32), &usize)| {
        let label = label as usize;
        let own = logits[label];
        let others = || logits.iter().copied().enumerate().filter(|&(class, _)| class != label);
        // Counts the classes that the label does not beat: a tie or a NaN is no success.
        let beats = |x: f32| own > x;
        let rank = others().filter(|&(_, x)| !beats(x)).count();
        let rival = others().max_by(|a, b| a.1.total_cmp(&b.1)).map_or(label, |(class, _)| class);
        let max = logits.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
        let mass: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
        let loss = mass.ln() - f64::from(own - max);
        let predicted = if rank == 0 { label } else { rival };
        ImageScore { index, label, predicted, rank, confidence: 1.0 / mass, loss }
    };
    let scores = logits.iter().zip(&batch.labels).zip(&batch.samples).map(one);
    Ok((scores.collect(), outputs))
}

/// Returns the logits of channels-last images, one row per image; with `flip` the mean of those of
/// the image and its mirror image.
pub(crate) fn logits_of(
    model: &dyn Backbone,
    params: &ParamStore,
    images: &Tensor,
    flip: bool,
) -> Result<Vec<Vec<f32>>> {
    let mut rows = logits(model, params, images)?;
    if flip {
        let width = images.dims()[2] as u32;
        let reversed = Tensor::from_iter((0..width).rev(), images.device())?;
        let mirrored = logits(model, params, &images.index_select(&reversed, 2)?)?;
        for (row, other) in rows.iter_mut().zip(mirrored) {
            row.iter_mut().zip(other).for_each(|(x, y)| *x = f32::midpoint(*x, y));
        }
    }
    Ok(rows)
}

/// Returns the logits of channels-last images, one row per image. Splits the batch into parts if it
/// does not fit on a GPU.
pub(crate) fn logits(model: &dyn Backbone, params: &ParamStore, images: &Tensor) -> Result<Vec<Vec<f32>>> {
    let count = images.dims()[0];
    match logits_at_once(model, params, images) {
        Err(e) if e.is_out_of_memory() && count > 1 => {
            let part = |from, to| {
                let part = images.narrow(0, from, to - from)?;
                // Copied on the CPU, because sending a tensor to a GPU sends all memory of the
                // underlying tensor.
                if part.device().is_cpu() { part.force_contiguous() } else { Ok(part) }
            };
            let mut rows = logits(model, params, &part(0, count / 2)?)?;
            rows.extend(logits(model, params, &part(count / 2, count)?)?);
            Ok(rows)
        }
        other => other,
    }
}

fn logits_at_once(model: &dyn Backbone, params: &ParamStore, images: &Tensor) -> Result<Vec<Vec<f32>>> {
    let mut cx = Context::new(params, Mode::Eval);
    let device = params.iter().next().map_or(&Device::Cpu, |(_, t)| t.device());
    let logits = model.forward(&mut cx, &Variable::constant(images.to_device(device)?))?;
    Ok(logits.tensor().to_dtype(DType::F32)?.to_vec2()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calibration_error_by_hand() {
        let image = |confidence: f64, right: bool| ImageScore {
            index: 0,
            label: 0,
            predicted: usize::from(!right),
            rank: usize::from(!right),
            confidence,
            loss: 0.0,
        };
        // Three of four right at 0.95, so 0.2 off; one of two at 0.5, not off; one wrong at 1.
        let mut images = vec![image(0.95, true); 3];
        images.extend([image(0.95, false), image(0.5, true), image(0.5, false), image(1.0, false)]);
        // 0.95 and 1 share the last of 15 bins: 3 - (4 * 0.95 + 1) = -1.8.
        assert!((calibration_error(&images) - 1.8 / 7.0).abs() < 1e-12);
        assert_eq!(calibration_error(&[image(1.0, true)]), 0.0);
        assert_eq!(calibration_error(&[]), 0.0);
    }
}
