//! Batches of transformed images: allocated, filled, and mixed.

use image::RgbImage;
use randaug::{
    BatchShape, Layout, Mix, Mixup, Purpose, multi_hot_targets_each, sample_rng, soft_targets_each,
};

use super::sample::SampleId;
use super::timer::PipelineStage;
use super::train::TrainPipeline;
use super::workspace::Workspace;
use crate::data::batch::{Batch, BatchImages};
use crate::data::labels::ImageLabels;
use crate::error::DataError;

impl TrainPipeline {
    /// Appends an image to a batch: normalized and erased, or as bytes with its boxes to erase.
    pub(crate) fn append(
        &self,
        image: &RgbImage,
        labels: &ImageLabels,
        sample: SampleId,
        w: &mut Workspace,
        batch: &mut Batch,
    ) -> Result<(), DataError> {
        let (number, image_len) = (batch.labels.len(), batch.size * batch.size * batch.channels);
        match &mut batch.images {
            BatchImages::Raw(raw) => {
                let mut rng = self.rng(sample, Purpose::Erase);
                raw.push(
                    number,
                    image,
                    self.erasing().sample(image.dimensions(), batch.channels as u32, &mut rng)?,
                );
                w.mark(PipelineStage::Normalize);
            }
            BatchImages::Normalized(values) => {
                self.normalize_into(image, sample, w, &mut values[number * image_len..][..image_len])?;
            }
        }
        labels.append_to(batch);
        batch.samples.push(sample.index);
        Ok(())
    }

    /// Allocates a batch for `count` images.
    pub(crate) fn empty_batch(&self, count: usize, size: u32, classes: usize) -> Batch {
        match self.raw_batches {
            true => Batch::with_bytes(count, size as usize, classes, self.normalization),
            false => Batch::with_values(count, size as usize, classes, self.normalization.channels.count()),
        }
    }

    /// Mixes the images of a batch and sets its targets.
    ///
    /// # Errors
    /// Returns an error if a setting is out of range.
    pub(crate) fn mix(&self, batch: &mut Batch, classes: usize, first_sample: u64) -> Result<(), DataError> {
        let a = &self.augmentation;
        let mixup = Mixup {
            mixup_alpha: a.mixup,
            cutmix_alpha: a.cutmix,
            switch_prob: a.switch_probability,
            label_smoothing: a.label_smoothing,
            ..Mixup::default()
        };
        let (height, width, channels) = (batch.size, batch.size, batch.channels);
        let shape = BatchShape { batch: batch.labels.len(), channels, height, width, layout: Layout::Hwc };
        let mut rng = sample_rng(self.seed, 0, first_sample, Purpose::Mix);
        let several = !batch.label_sets.is_empty();
        batch.targets = match &mut batch.images {
            BatchImages::Raw(raw) => {
                // One random draw for all images, which is the mode of the recipes.
                let mixes = mixup.sample_batch(&shape, &mut rng)?;
                raw.set_mix(mixes.first().copied().unwrap_or(Mix::None));
                match several {
                    true => {
                        multi_hot_targets_each(&batch.label_sets, classes, &mixes, mixup.label_smoothing)?
                    }
                    false => soft_targets_each(&batch.labels, classes, &mixes, mixup.label_smoothing)?,
                }
            }
            BatchImages::Normalized(values) if several => {
                mixup.apply_multi_hot(values, &shape, &batch.label_sets, classes, &mut rng)?.0
            }
            BatchImages::Normalized(values) => {
                mixup.apply(values, &shape, &batch.labels, classes, &mut rng)?.0
            }
        };
        if let Some(weights) = &self.class_weights {
            for row in batch.targets.chunks_exact_mut(weights.len()) {
                row.iter_mut().zip(&**weights).for_each(|(target, weight)| *target *= weight);
            }
        }
        Ok(())
    }
}
