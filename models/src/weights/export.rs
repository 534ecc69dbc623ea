//! Weights under the names and in the shapes that timm has.

use std::collections::HashSet;
use std::path::Path;

use candle_core::Tensor;

use super::names::to_timm;
use crate::params::ParamSpec;
use crate::{Error, Model, ParamStore, Result};

/// The weights as timm's model of the same name has them, so that it loads them with `strict=True`.
///
/// CSWin and PVT, which timm does not have, keep their authors' names.
///
/// # Errors
/// When `params` belongs to another model.
pub fn export(model: &dyn Model, params: &ParamStore) -> Result<Vec<(String, Tensor)>> {
    let (family, specs) = (model.info().family, model.specs());
    let names: HashSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    let one = |spec: &ParamSpec| {
        let tensor = params.by_name(&spec.name).ok_or_else(|| Error::Weights {
            model: model.name().into(),
            what: format!("`{}` is missing; expected the parameters of this model", spec.name),
        })?;
        let tensor = match timm_shape(model.name(), spec, &names) {
            Some(shape) => tensor.reshape(shape)?,
            None => tensor.clone(),
        };
        Ok((to_timm(family, &spec.name), tensor))
    };
    specs.iter().map(one).collect()
}

/// Writes the weights of [`export`] to a safetensors file.
///
/// The file is written in place: a crash in the middle leaves a broken one.
///
/// # Errors
/// When `params` belongs to another model, or the disk refuses.
pub fn save(path: &Path, model: &dyn Model, params: &ParamStore) -> Result<()> {
    safetensors::serialize_to_file(export(model, params)?, None, path)
        .map_err(|e| Error::WeightFile { path: path.into(), what: format!("cannot write it: {e}") })
}

/// timm's shape of a parameter, if it differs.
///
/// MetaFormer stages that mix by convolutions, and ConvNeXts below the authors' smallest, are made of
/// 1x1 convolutions throughout in timm, of linear layers here.
fn timm_shape(model: &str, spec: &ParamSpec, names: &HashSet<&str>) -> Option<Vec<usize>> {
    if spec.shape.len() != 2 || !spec.name.starts_with("stages.") {
        return None;
    }
    let (third_dot, _) = spec.name.match_indices('.').nth(2)?;
    let mixer = format!("{}.token_mixer.dwconv.weight", &spec.name[..third_dot]);
    let convolution = names.contains(mixer.as_str()) || SMALL_CONVNEXTS.contains(&model);
    convolution.then(|| [spec.shape.as_slice(), &[1, 1]].concat())
}

const SMALL_CONVNEXTS: [&str; 4] = ["convnext_atto", "convnext_femto", "convnext_pico", "convnext_nano"];

#[cfg(test)]
mod tests {
    use super::super::names::tests::{LISTED, rows};
    use super::*;
    use crate::{Init, ParamKind};

    #[test]
    fn shapes_are_timms() {
        let shape =
            |value: &serde_json::Value| -> Vec<usize> { serde_json::from_value(value.clone()).unwrap() };
        for (model, _) in LISTED {
            let rows = rows(model, "timm");
            let names = rows.iter().map(|row| row[0].as_str().unwrap()).collect();
            let mut changed = 0;
            for row in &rows {
                let spec = ParamSpec {
                    name: row[0].as_str().unwrap().into(),
                    shape: shape(&row[1]),
                    kind: ParamKind::Parameter,
                    init: Init::Zeros,
                    decay: true,
                    layer: 0,
                };
                let ours = timm_shape(model, &spec, &names);
                changed += usize::from(ours.is_some());
                assert_eq!(ours.unwrap_or(spec.shape), shape(&row[3]), "{model}: {}", row[2]);
            }
            let convolutions = ["convnext_atto", "caformer_s18", "convformer_s18"].contains(&model);
            assert_eq!(changed > 0, convolutions, "{model}");
        }
    }
}
