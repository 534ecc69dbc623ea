//! Recipes of pre-training.

use efficienttrain_schedule::{DropPath, LrScaling, Recipe, WarmUp};

/// Suffix of the names of pre-training recipes.
const ENDING: &str = "-mae";

/// Returns the recipe for pre-training: its curriculum (sizes, magnitudes, batches) with the
/// optimizer of the MAE paper (He et al., 2022, table 8: AdamW, 1.5e-4 for 256 images, betas 0.9
/// and 0.95, decay 0.05, 40 epochs of warm-up) and without mixup, cutmix, label smoothing, erasing,
/// stochastic depth and EMA. In short runs the warm-up takes at most a tenth.
pub(crate) fn for_pretraining(mut recipe: Recipe) -> Recipe {
    if !recipe.name.ends_with(ENDING) {
        recipe.name += ENDING;
    }
    let optimizer = &mut recipe.optimizer;
    (optimizer.lr, optimizer.reference_batch, optimizer.lr_scaling) = (1.5e-4, 256, LrScaling::Linear);
    (optimizer.betas, optimizer.weight_decay, optimizer.clip_grad) = ((0.9, 0.95), 0.05, None);
    optimizer.min_lr = optimizer.min_lr.min(optimizer.lr);
    optimizer.warm_up = WarmUp::Epochs { epochs: 40.0, at_most_share: 0.1 };
    let augmentation = &mut recipe.augmentation;
    (augmentation.mixup, augmentation.cutmix) = (0.0, 0.0);
    (augmentation.label_smoothing, augmentation.erasing) = (0.0, 0.0);
    recipe.drop_path = DropPath::Constant(0.0);
    recipe.ema_decay = None;
    recipe
}
