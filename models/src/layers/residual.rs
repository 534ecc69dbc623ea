//! Residual connections with stochastic depth.

use crate::Result;
use crate::graph::{Act, Context};
use crate::ops;

/// `x + branch`, where the branch is dropped for random samples in training (stochastic depth, Huang et al., 2016;
/// scaled so that its expectation stays).
///
/// `place` is the block's index and the number of blocks, `branch_name` tells the branches of one block apart.
///
/// # Errors
/// When the two differ in shape.
pub fn add_branch(
    cx: &mut Context,
    x: &Act,
    branch: &Act,
    place: (usize, usize),
    branch_name: &str,
) -> Result<Act> {
    let traced = match cx.keep_samples(place, branch_name, x.dims()[0]) {
        Some(scale) => ops::add_scaled_rows(x.tensor(), branch.tensor(), scale)?,
        None => ops::add(x.tensor(), branch.tensor())?,
    };
    Ok(cx.record(&[x, branch], traced))
}
