//! Adapting the tensors of a file to a model that differs from the file's.

use candle_core::{DType, Tensor};

use super::candidate::{Candidate, same_but_ones};
use crate::params::{ParamId, ParamSpec};
use crate::{Model, ParamStore, Result};

/// Tells if a parameter belongs to a layer that computes the logits.
fn is_head(model: &dyn Model, name: &str) -> bool {
    let layer = name.rsplit_once('.').map_or(name, |(layer, _)| layer);
    model.classifiers().contains(&layer)
}

/// Marks the head as kept if any of it is missing in the file or has another shape.
pub(super) fn keep_head(model: &dyn Model, candidates: &mut [Candidate]) {
    let mut head: Vec<_> = candidates.iter_mut().filter(|c| is_head(model, &c.spec.name)).collect();
    if head.iter().any(|c| !c.fits()) {
        head.iter_mut().for_each(|c| c.kept = true);
    }
}

/// Makes the head of the file's rows for the classes that it knows, and of the model's own for the
/// others. Without any row to take, the head is kept as it is.
pub(super) fn head_rows(
    model: &dyn Model,
    candidates: &mut [Candidate],
    params: &ParamStore,
    rows: &[Option<usize>],
) -> Result<()> {
    for (index, candidate) in candidates.iter_mut().enumerate() {
        if !is_head(model, &candidate.spec.name) {
            continue;
        }
        let Some(tensor) = &candidate.tensor else { continue };
        if rows.iter().all(Option::is_none) {
            candidate.kept = true;
        } else if let Some(head) = of_rows(tensor, params.get(ParamId(index)), rows)? {
            candidate.tensor = Some(head);
            candidate.adapted = true;
        }
    }
    Ok(())
}

/// Rows of `file` in the order of the classes, `own` ones for those without; none where rows are
/// not as long as the model's, or too few.
fn of_rows(file: &Tensor, own: &Tensor, rows: &[Option<usize>]) -> Result<Option<Tensor>> {
    let count = file.dims().first().copied().unwrap_or(0);
    let fits = own.dims().first() == Some(&rows.len())
        && rows.iter().flatten().all(|&row| row < count)
        && file.elem_count() * rows.len() == own.elem_count() * count;
    if !fits {
        return Ok(None);
    }
    let matrix = |t: &Tensor, rows| t.to_dtype(own.dtype())?.to_device(own.device())?.reshape((rows, ()));
    let (file, own) = (matrix(file, count)?, matrix(own, rows.len())?);
    let row = |(class, row): (usize, &Option<usize>)| match row {
        Some(row) => file.narrow(0, *row, 1),
        None => own.narrow(0, class, 1),
    };
    let rows: Vec<Tensor> = rows.iter().enumerate().map(row).collect::<Result<_, _>>()?;
    Ok(Some(Tensor::cat(&rows, 0)?))
}

/// The first convolution, which takes the images.
pub(super) fn stem_of(specs: &[ParamSpec]) -> Option<&ParamSpec> {
    specs.iter().find(|spec| is_stem(spec))
}

fn is_stem(spec: &ParamSpec) -> bool {
    spec.shape.len() == 4
}

/// Brings the first convolution to the model's number of image channels, as timm does.
pub(super) fn input_channels(candidates: &mut [Candidate]) -> Result<()> {
    let Some(stem) = candidates.iter_mut().find(|c| is_stem(c.spec)) else { return Ok(()) };
    let Some(tensor) = &stem.tensor else { return Ok(()) };
    match (tensor.dims(), stem.spec.shape.as_slice()) {
        (&[o, from, h, w], &[mo, to, mh, mw]) if (o, h, w) == (mo, mh, mw) && from != to && from > 0 => {
            stem.tensor = Some(with_channels(tensor, to)?);
            stem.adapted = true;
        }
        _ => {}
    }
    Ok(())
}

/// One channel gets the sum of all; more get them in turn, scaled so that an even image gives what
/// it gave.
fn with_channels(weight: &Tensor, to: usize) -> Result<Tensor> {
    let from = weight.dim(1)?;
    let weight = weight.to_dtype(DType::F64)?;
    if to == 1 {
        return Ok(weight.sum_keepdim(1)?);
    }
    let repeated = Tensor::cat(&vec![&weight; to.div_ceil(from)], 1)?.narrow(1, 0, to)?;
    Ok((repeated * (from as f64 / to as f64))?)
}

/// Largest edge that a file's input size is looked for, in pixels.
const MAX_EDGE: usize = 1024;
/// Edges are multiples of this in every model with tables of positions.
const STEP: usize = 16;

/// Resamples what hangs on the input size, if some square size of this model has the shapes of the
/// file.
pub(super) fn input_size(model: &dyn Model, candidates: &mut [Candidate]) -> Result<()> {
    let compared = |c: &&Candidate| c.tensor.is_some() && !c.kept && !is_head(model, &c.spec.name);
    if candidates.iter().filter(compared).all(Candidate::fits) {
        return Ok(());
    }
    for edge in (STEP..=MAX_EDGE).step_by(STEP) {
        let Ok(changes) = model.resampling([edge, edge]) else { continue };
        let shapes = model.info().at_size([edge, edge], &changes).specs;
        let fits = candidates
            .iter()
            .zip(&shapes)
            .filter(|(c, _)| compared(c))
            .all(|(c, spec)| c.tensor.as_ref().is_some_and(|t| same_but_ones(t.dims(), &spec.shape)));
        if !fits {
            continue;
        }
        for change in changes {
            let index = change.id.index();
            if let Some(tensor) = &candidates[index].tensor {
                let tensor = tensor.reshape(shapes[index].shape.as_slice())?;
                candidates[index].tensor = Some(change.inverse().apply(&tensor)?);
                candidates[index].adapted = true;
            }
        }
        return Ok(());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn channels(from: &[f32], to: usize) -> Vec<f64> {
        let weight = Tensor::from_slice(from, (1, from.len(), 1, 1), &Device::Cpu).unwrap();
        with_channels(&weight, to).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    /// `timm.models.adapt_input_conv` gives these for three channels.
    #[test]
    fn channels_are_summed_or_repeated_and_scaled() {
        assert_eq!(channels(&[1., 2., 6.], 1), [9.]);
        assert_eq!(channels(&[1., 2., 6.], 4), [0.75, 1.5, 4.5, 0.75]);
        assert_eq!(channels(&[1., 2., 6.], 2), [1.5, 3.]);
        assert_eq!(channels(&[6.], 3), [2., 2., 2.]);
    }
}
