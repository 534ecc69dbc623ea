//! Options of a masked autoencoder.

use super::{Masking, Target};
use crate::families::options::grid;
use crate::hog::Hog;
use crate::vit::PATCH;
use crate::{Error, Result};

/// Width, heads and depth of a transformer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransformerShape {
    /// Channels of a token, a multiple of 4 and of the heads.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Blocks.
    pub depth: usize,
}

/// Options of a masked autoencoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaeOptions {
    /// Height and width of the images, in pixels.
    pub input_size: [usize; 2],
    /// The size at which positions are whole numbers: that of the run's last stage. At other sizes
    /// they share its extent.
    pub base_size: [usize; 2],
    /// Channels of the images.
    pub in_channels: usize,
    /// Part of the patches that are removed.
    pub mask_ratio: f64,
    /// Target that is predicted for them.
    pub target: Target,
    /// The decoder; none takes the variant's own.
    pub decoder: Option<TransformerShape>,
}

/// The decoder of the MAE paper, made for large encoders.
pub(super) const PAPER_DECODER: TransformerShape = TransformerShape { width: 512, heads: 16, depth: 8 };

/// A lighter one for small encoders: the paper's cannot be told from narrower and shallower ones
/// after fine-tuning (its table 1), and beside `deit_small` it would take four fifths of the
/// arithmetic.
pub(super) const LIGHT_DECODER: TransformerShape = TransformerShape { width: 256, heads: 8, depth: 4 };

/// A lighter one still, two thirds as wide as `deit_tiny`.
pub(super) const TINY_DECODER: TransformerShape = TransformerShape { width: 128, heads: 4, depth: 4 };

impl Default for MaeOptions {
    /// At 224, three quarters removed as in the MAE paper, and histograms of gradients as target.
    fn default() -> Self {
        Self {
            input_size: [224, 224],
            base_size: [224, 224],
            in_channels: 3,
            mask_ratio: 0.75,
            target: Target::Hog(Hog::default()),
            decoder: None,
        }
    }
}

/// Checks that sizes, ratio and shapes fit together.
pub(super) fn check(name: &str, shapes: [TransformerShape; 2], options: &MaeOptions) -> Result<()> {
    grid(name, options.base_size, PATCH, "the edge of a patch")?;
    for TransformerShape { width, heads, depth } in shapes {
        if width == 0 || heads == 0 || depth == 0 || width % 4 != 0 || width % heads != 0 {
            let what = format!(
                "a width of {width} with {heads} heads and {depth} blocks; expected at least one of each, and a width that is a multiple of 4 and of the heads"
            );
            return Err(Error::Option { model: name.into(), what });
        }
    }
    if options.in_channels == 0 {
        return Err(Error::Option { model: name.into(), what: "in_channels must be above 0".into() });
    }
    if let Target::Hog(hog) = options.target
        && (hog.bins == 0
            || hog.cell == 0
            || !PATCH.is_multiple_of(hog.cell)
            || !PATCH.is_multiple_of(hog.window.max(1)))
    {
        let what = format!("{hog:?}: bins must be above 0, cell and window divide a patch of {PATCH}");
        return Err(Error::Option { model: name.into(), what });
    }
    check_size(name, options)
}

/// Checks that some patches of an image are seen and some are removed.
pub(super) fn check_size(name: &str, options: &MaeOptions) -> Result<()> {
    let grid = grid(name, options.input_size, PATCH, "the edge of a patch")?;
    let masking = Masking::draw(&[0], grid.iter().product(), options.mask_ratio)?;
    if masking.kept() == masking.patches() {
        let (ratio, patches) = (options.mask_ratio, masking.patches());
        let what = format!("a mask_ratio of {ratio} removes none of {patches} patches");
        return Err(Error::Option { model: name.into(), what });
    }
    Ok(())
}
