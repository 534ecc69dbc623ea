//! Cost of one image at a size, relative to base size.

use crate::error::{Result, ScheduleError, positive};
use serde::{Deserialize, Serialize};

/// Relative cost of training on one image at size B.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CostModel {
    /// (B / base)^2, as the reference counts (method section 3).
    #[default]
    Square,
    /// Measured or counted ratios: `(size, cost)`, cost 1 at base size. Base size needs no row.
    Table(Vec<(u32, f64)>),
}

impl CostModel {
    /// Makes a table from a function of the size, such as the multiply-accumulates of a model at
    /// that size. Each value is divided by the one at `base_size`.
    #[must_use]
    pub fn from_fn(sizes: &[u32], base_size: u32, cost: impl Fn(u32) -> f64) -> Self {
        let base = cost(base_size);
        Self::Table(sizes.iter().map(|&size| (size, cost(size) / base)).collect())
    }

    /// Returns the cost of one image at `size`, in images at `base_size`.
    ///
    /// # Errors
    /// [`ScheduleError::MissingCost`] when the table lacks the size; a field error when its number
    /// is not above 0.
    pub fn relative(&self, size: u32, base_size: u32) -> Result<f64> {
        match self {
            Self::Square => {
                let (size, base) = (f64::from(size), f64::from(base_size));
                Ok(size * size / (base * base))
            }
            Self::Table(rows) => match rows.iter().find(|row| row.0 == size) {
                Some(&(_, cost)) => {
                    positive(
                        &format!("cost[{size}]"),
                        cost,
                        "give the cost relative to base size, such as 0.51",
                    )?;
                    Ok(cost)
                }
                None if size == base_size => Ok(1.0),
                None => Err(ScheduleError::MissingCost { size }),
            },
        }
    }
}
