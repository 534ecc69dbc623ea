//! Buffers that live from one picture to the next.

use crate::policy::Drawn;
use crate::resample::{Coefficients, Column};

/// Working memory of all operations, so that a steady stream of pictures allocates nothing.
///
/// Holds no result: any call may be given a new one, with the same outcome. Keep one per worker.
///
/// ```
/// let mut scratch = randaug::Scratch::new();
/// let mut picture = image::RgbImage::from_pixel(8, 8, image::Rgb([10, 20, 30]));
/// randaug::Op::Invert.apply(&mut picture, 0.0, false, &mut scratch)?;
/// assert_eq!(picture.get_pixel(0, 0).0, [245, 235, 225]);
/// # Ok::<(), randaug::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Scratch {
    /// A copy of the picture, for the smoothing filter, which reads neighbors while it writes.
    pub(crate) copy: Vec<u8>,
    /// A copy with a border and four channels, for geometric operations.
    pub(crate) padded: Vec<[u8; 4]>,
    /// The picture between the two passes of a resize.
    pub(crate) rows: Vec<u8>,
    /// Input rows of a horizontal pass side by side.
    pub(crate) packed: Vec<Column>,
    /// Weights of the last horizontal pass; reused when the sizes are the same.
    pub(crate) horizontal: Coefficients,
    /// Weights of the last vertical pass.
    pub(crate) vertical: Coefficients,
    /// Column sums of the smoothing filter.
    pub(crate) sums: Vec<u16>,
    /// Column sums of the blur.
    pub(crate) columns: Vec<u32>,
    /// Source column of each output column, for nearest-neighbor shifts.
    pub(crate) nearest: Vec<Option<usize>>,
    /// A resized picture before it is cut.
    pub(crate) resized: Vec<u8>,
    /// A gray picture in three channels.
    pub(crate) gray: Vec<u8>,
    /// What a policy has drawn for the picture.
    pub(crate) drawn: Drawn,
}

impl Scratch {
    /// Empty buffers; they grow with use.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}
