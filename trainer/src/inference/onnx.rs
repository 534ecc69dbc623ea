//! Trained models as ONNX files.

use std::path::Path;

use crate::checkpoint::record::RunRecord;
use crate::config::train::TrainConfig;
use crate::config::values::LossName;
use crate::data::pipeline::eval::EvalPipeline;
use crate::error::{Error, Result};
use crate::inference::predict::Predictor;
use crate::util::atomic_file::replace;
use efficienttrain_models::onnx::{OnnxOptions, OnnxOutput, export};

/// Writes a run's model as an ONNX file: images `[batch, channels, size, size]` in, logits or probabilities
/// `[batch, classes]` out, as `output` says.
///
/// The file's metadata has, as JSON, what a program needs to prepare images and to read the output:
/// `classes`, `input_size`, `mean`, `std`, `interpolation` and `crop_pct`, with timm's meanings, and
/// `model` and `step`; that of a multi-label run has `multi_label` too.
///
/// # Errors
/// Returns an error if `output` does not fit the loss of the run, the model is too large for the format, or the disk fails; the file at `path`
/// is then unchanged.
pub fn export_onnx(path: &Path, predictor: &Predictor, record: &RunRecord, output: OnnxOutput) -> Result<()> {
    check_output(&record.config, output)?;
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
    let several = record.config.multi_label.then_some(("multi_label", serde_json::json!(true)));
    let metadata = metadata.into_iter().chain(several);
    let metadata = metadata.map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let bytes = export(&*predictor.model, &predictor.params, &OnnxOptions { output, metadata })?;
    replace(path, &bytes)
}

/// Checks that the probabilities are those that the network was trained for.
fn check_output(config: &TrainConfig, output: OnnxOutput) -> Result<()> {
    let what = match output {
        OnnxOutput::Softmax if config.multi_label => {
            "classes of a multi-label run do not exclude each other; give option `sigmoid`"
        }
        OnnxOutput::Sigmoid if config.loss == LossName::CrossEntropy => {
            "the run was trained by cross entropy, whose probabilities are those of option `softmax`; give that"
        }
        _ => return Ok(()),
    };
    let option = if output == OnnxOutput::Softmax { "softmax" } else { "sigmoid" };
    Err(Error::config(option, what))
}

/// The number that is written with the digits of `value`, 0.485 for the nearest `f32`.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
