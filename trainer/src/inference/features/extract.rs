//! Feature extraction.

use std::sync::Arc;

use candle_core::{DType, Device};
use clap::ValueEnum;
use efficienttrain_models::{Backbone, Context, Mode, ParamStore, Variable};

use crate::config::channels::Normalization;
use crate::data::loader::Loader;
use crate::data::pipeline::eval::EvalPipeline;
use crate::data::source::{BadImage, Source, is_multi_label};
use crate::error::{DataError, Result};
use crate::inference::features::set::FeatureSet;

/// Pooling of features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Pool {
    /// Input of the model's head: the class token of a vision transformer, the mean over the
    /// feature map otherwise.
    #[default]
    Head,
    /// Mean over the image, also over the patch tokens of a vision transformer.
    Mean,
}

/// Extracts the features of every image of `source` at the model's size, in order, normalized by
/// `normalization`, pooled with `pool`, in batches of `batch`, on the device of the weights. Images that cannot be read are
/// skipped and returned separately.
///
/// # Errors
/// Returns an error if the weights do not match the model, the system cannot start a thread, or the
/// set is a multi-label one: features have one label each.
pub fn extract(
    model: &dyn Backbone,
    params: &ParamStore,
    pool: Pool,
    source: Arc<dyn Source>,
    normalization: Normalization,
    (batch, workers): (usize, usize),
) -> Result<(FeatureSet, Vec<BadImage>)> {
    if is_multi_label(&*source) {
        let what =
            "the images have any number of labels, and features have one; take a set with one label an image";
        return Err(DataError::Setting(what.into()).into());
    }
    let classes = source.classes().to_vec();
    let device = params.iter().next().map_or(Device::Cpu, |(_, tensor)| tensor.device().clone());
    let mut set = FeatureSet { features: Vec::new(), width: 0, labels: Vec::new(), classes };
    let mut bad = Vec::new();
    let pipeline = EvalPipeline::new(model.input_size()[0]).with_normalization(normalization);
    for batch in Loader::eval(source, pipeline, batch, workers)? {
        let batch = batch?;
        if !batch.labels.is_empty() {
            let images = Variable::constant(batch.tensor(&device)?);
            // Runs inside the thread pool: a parallel loop that starts outside it first puts its
            // thread to sleep.
            let features = rayon::scope(|_| {
                let cx = &mut Context::new(params, Mode::Eval);
                match pool {
                    Pool::Head => model.features(cx, &images),
                    Pool::Mean => model.mean_features(cx, &images),
                }
            })?;
            set.width = features.dims()[features.dims().len() - 1];
            let values = features.tensor().to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?;
            set.features.extend(values.to_vec1::<f32>()?);
            set.labels.extend(&batch.labels);
        }
        bad.extend(batch.bad);
    }
    Ok((set, bad))
}
