//! Weights under the names and in the shapes that timm has.

use std::collections::HashSet;
use std::path::Path;

use candle_core::Tensor;

use super::names::to_timm;
use crate::params::ParamSpec;
use crate::{Error, Family, Model, ParamStore, Result};

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
        let tensor = match timm_shape(family, spec, &names) {
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
/// MetaFormer stages that mix by convolutions are made of 1x1 convolutions throughout in timm, of
/// linear layers here.
fn timm_shape(family: Family, spec: &ParamSpec, names: &HashSet<&str>) -> Option<Vec<usize>> {
    if family != Family::MetaFormer || spec.shape.len() != 2 || !spec.name.starts_with("stages.") {
        return None;
    }
    let (third_dot, _) = spec.name.match_indices('.').nth(2)?;
    let convolution = format!("{}.token_mixer.dwconv.weight", &spec.name[..third_dot]);
    names.contains(convolution.as_str()).then(|| [spec.shape.as_slice(), &[1, 1]].concat())
}

#[cfg(test)]
mod tests {
    use super::super::names::tests::{LISTED, rows};
    use super::*;
    use crate::{Init, ParamKind};

    #[test]
    fn shapes_are_timms() {
        let shape =
            |value: &serde_json::Value| -> Vec<usize> { serde_json::from_value(value.clone()).unwrap() };
        for (model, family) in LISTED {
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
                let ours = timm_shape(family, &spec, &names);
                changed += usize::from(ours.is_some());
                assert_eq!(ours.unwrap_or(spec.shape), shape(&row[3]), "{model}: {}", row[2]);
            }
            assert_eq!(changed > 0, family == Family::MetaFormer, "{model}");
        }
    }
}
