//! Exponential moving average (EMA) of the weights.

use efficienttrain_models::{Gradients, Model, ParamId, ParamKind, ParamSpec, ParamStore, ops};

use crate::error::Result;

/// Returns the decay of an EMA update, warmed up like timm's `ModelEmaV3` (`--model-ema-warmup`,
/// with its gamma of 1 and power of 2/3): `min(decay, 1 - (1 + n)^(-2/3))` after `n` updates. The
/// first update thus copies the weights, and the average covers about `n^(2/3)` updates instead of
/// including the untrained weights.
#[must_use]
pub fn warmed_decay(decay: f64, updates: u64) -> f64 {
    decay.min(1.0 - (1.0 + updates as f64).powf(-2.0 / 3.0))
}

/// Moves the averages that the optimizer's step has not moved, those of buffers and of parameters
/// without a gradient, unless `factor` marks a non-finite step; counters are copied.
pub(crate) fn average_others(
    ema: &mut ParamStore,
    params: &ParamStore,
    model: &dyn Model,
    gradients: &Gradients,
    decay: f64,
    factor: Option<&ops::ClipFactor>,
) -> Result<()> {
    for (spec, id) in model.specs().iter().zip(params.ids()) {
        if spec.kind == ParamKind::Counter {
            ema.set(id, params.get(id).copy()?);
        }
    }
    let left = |(spec, id): (&ParamSpec, ParamId)| {
        let left = spec.kind != ParamKind::Counter && gradients.get(id).is_none();
        left.then(|| (ema.get(id), params.get(id)))
    };
    let pairs: Vec<_> = model.specs().iter().zip(params.ids()).filter_map(left).collect();
    Ok(ops::blend_all(&pairs, decay, factor)?)
}

#[cfg(test)]
mod tests {
    use crate::training::ema::warmed_decay;

    /// Compares with timm 1.0's `ModelEmaV3(decay=0.999, use_warmup=True).get_decay(step)`, whose
    /// steps count from 1.
    #[test]
    fn decays_are_those_of_timm() {
        for (step, decay) in [
            (1, 0.0),
            (2, 0.370_039_475_052_563_4),
            (10, 0.784_556_530_996_811_7),
            (60, 0.934_752_205_980_518_9),
            (1000, 0.99),
            (40_000, 0.999),
        ] {
            let ours = warmed_decay(0.999, step - 1);
            assert!((ours - decay).abs() < 1e-12, "step {step}: {ours} instead of {decay}");
        }
    }
}
