//! Prepares one batch on a worker thread.

use std::ops::Range;
use std::sync::Arc;

use randaug::{Mix, multi_hot_targets_each, soft_targets};

use crate::data::batch::{Batch, BatchImages};
use crate::data::decode::bad;
use crate::data::decode::reduced::Decoded;
use crate::data::labels::ImageLabels;
use crate::data::loader::order::SampleOrder;
use crate::data::loader::replay::{FreshImages, PreparedImage, WorkerOutput};
use crate::data::loader::request::BatchRequest;
use crate::data::pipeline::eval::EvalPipeline;
use crate::data::pipeline::sample::SampleId;
use crate::data::pipeline::train::TrainPipeline;
use crate::data::pipeline::workspace::Workspace;
use crate::data::source::{BadImage, Source, is_multi_label};
use crate::error::DataError;

/// Number of consecutive unreadable images after which a batch fails.
const MAX_REPLACEMENTS: u64 = 64;

/// Prepares a training batch, or only its fresh images if it also replays images.
pub(crate) fn train_batch(
    source: &dyn Source,
    order: &SampleOrder,
    pipeline: &TrainPipeline,
    request: &BatchRequest,
    w: &mut Workspace,
) -> Result<WorkerOutput, DataError> {
    let mut bad = Vec::new();
    let mut load = |i: usize| {
        let SampleId { epoch, index: first } = order.at(request.first_sample + i as u64);
        let mut load = |index| pipeline.load(source, SampleId { epoch, index }, request.view);
        let (index, image) = load_or_next(source, first, &mut bad, &mut load)?;
        Ok::<_, DataError>((SampleId { epoch, index }, image))
    };
    if request.replay.times > 1 {
        let mut images = Vec::with_capacity(request.fresh());
        for i in 0..request.fresh() {
            let (sample, image) = load(i)?;
            let mut pixels = image::RgbImage::default();
            pipeline.prepare(&image, request.view, sample, w, &mut pixels)?;
            let labels = ImageLabels::of(source, sample.index);
            images.push(Arc::new(PreparedImage { pixels, labels, sample }));
        }
        return Ok(WorkerOutput::Fresh(FreshImages { request: *request, images, bad }));
    }
    let classes = source.classes().len();
    let mut batch = pipeline.empty_batch(request.count, request.view.size, classes);
    let mut prepared = image::RgbImage::default();
    for i in 0..request.count {
        let (sample, image) = load(i)?;
        pipeline.prepare(&image, request.view, sample, w, &mut prepared)?;
        let labels = ImageLabels::of(source, sample.index);
        pipeline.append(&prepared, &labels, sample, w, &mut batch)?;
    }
    pipeline.mix(&mut batch, classes, request.first_sample)?;
    Ok(WorkerOutput::Batch(Batch { bad, ..batch }))
}

/// Returns the image at `first`, or the next one after it that can be read.
fn load_or_next(
    source: &dyn Source,
    first: usize,
    bad: &mut Vec<BadImage>,
    load: &mut dyn FnMut(usize) -> Result<Decoded, DataError>,
) -> Result<(usize, Decoded), DataError> {
    let mut index = first;
    for _ in 0..MAX_REPLACEMENTS {
        match load(index) {
            Ok(image) => return Ok((index, image)),
            Err(error) => bad.push(BadImage::of(source, index, &error)),
        }
        index = (index + 1) % source.len();
    }
    let examples = bad.iter().take(3).map(|b| b.reason.clone()).collect::<Vec<_>>().join("; ");
    let what = format!(
        "{MAX_REPLACEMENTS} images in a row could not be read: {examples}; is this the right folder?"
    );
    Err(DataError::Setting(what))
}

/// Prepares the images `range` of a source for evaluation, without those that cannot be read.
pub(crate) fn eval_batch(
    source: &dyn Source,
    pipeline: &EvalPipeline,
    range: &Range<usize>,
    w: &mut Workspace,
) -> Result<Batch, DataError> {
    let (count, classes) = (range.len(), source.classes().len());
    let image_len = pipeline.normalization.image_len(pipeline.size);
    let mut values = vec![0.0; count * image_len];
    let (mut labels, mut label_sets) = (Vec::new(), Vec::new());
    let (mut samples, mut unread) = (Vec::new(), Vec::new());
    for index in range.clone() {
        let out = &mut values[labels.len() * image_len..][..image_len];
        let prepared = source.load(index).and_then(|image| {
            pipeline.apply(&image, w, out).map_err(|error| bad(&source.name(index), &error))
        });
        match prepared {
            Ok(()) => {
                labels.push(source.label(index));
                label_sets.extend(source.label_set(index).map(Box::from));
                samples.push(index);
            }
            Err(error) => unread.push(BadImage::of(source, index, &error)),
        }
    }
    values.truncate(labels.len() * image_len);
    let targets = match is_multi_label(source) {
        true => multi_hot_targets_each(&label_sets, classes, &vec![Mix::None; labels.len()], 0.0)?,
        false => soft_targets(&labels, classes, 1.0, 0.0)?,
    };
    let images = BatchImages::Normalized(values);
    let channels = pipeline.normalization.channels.count();
    Ok(Batch { images, targets, labels, label_sets, samples, size: pipeline.size, channels, bad: unread })
}
