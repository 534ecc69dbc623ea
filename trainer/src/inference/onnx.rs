//! Trained models as ONNX files.

use std::path::Path;

use crate::checkpoint::record::RunRecord;
use crate::data::pipeline::eval::EvalPipeline;
use crate::error::Result;
use crate::inference::predict::Predictor;
use crate::util::atomic_file::replace;
use efficienttrain_models::onnx::{OnnxOptions, export};

/// Writes a run's model as an ONNX file: images `[batch, channels, size, size]` in, logits or,
/// with `softmax`, probabilities `[batch, classes]` out.
///
/// The file's metadata has, as JSON, what a program needs to prepare images and to read the output:
/// `classes`, `input_size`, `mean`, `std`, `interpolation` and `crop_pct`, with timm's meanings, and
/// `model` and `step`.
///
/// # Errors
/// Returns an error if the model is too large for the format, or the disk fails; the file at `path`
/// is then unchanged.
pub fn export_onnx(path: &Path, predictor: &Predictor, record: &RunRecord, softmax: bool) -> Result<()> {
    let [height, width] = predictor.model.input_size();
    let normalization = record.config.normalization();
    let channels = normalization.channels.count();
    let decimals = |values: [f32; 3]| values.map(decimal)[..channels].to_vec();
    let metadata = [
        ("model", serde_json::json!(record.model)),
        ("step", serde_json::json!(record.step)),
        ("classes", serde_json::json!(predictor.classes())),
        ("input_size", serde_json::json!([predictor.model.in_channels(), height, width])),
        ("mean", serde_json::json!(decimals(normalization.mean))),
        ("std", serde_json::json!(decimals(normalization.std))),
        ("interpolation", serde_json::json!("bicubic")),
        ("crop_pct", serde_json::json!(EvalPipeline::CROP_PCT)),
    ];
    let metadata = metadata.map(|(key, value)| (key.to_string(), value.to_string())).to_vec();
    let bytes = export(&*predictor.model, &predictor.params, &OnnxOptions { softmax, metadata })?;
    replace(path, &bytes)
}

/// The number that is written with the digits of `value`, 0.485 for the nearest `f32`.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
