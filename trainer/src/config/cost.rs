//! Unit of the compute budget: the cost of an image by its size.

use std::fmt;
use std::str::FromStr;

use efficienttrain_schedule::CostModel;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Unit of the compute budget, written `square`, `macs` or `time`; once it is known for each size,
/// as `time:96=0.0021,224=0.0104`.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum CostRule {
    /// (size / base size)^2, as the reference counts.
    #[default]
    Square,
    /// Known by `measure::costs` before a run is planned.
    Wanted(CostUnit),
    /// Known for each size.
    Known(CostTable),
}

/// What the cost of an image is counted or measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CostUnit {
    /// Multiply-accumulates of the model.
    Macs,
    /// Seconds of a training step on this machine, divided by its images.
    Time,
}

/// Cost of an image at each size of a curriculum and at base size.
#[derive(Clone, Debug, PartialEq)]
pub struct CostTable {
    /// Unit of the costs.
    pub unit: CostUnit,
    /// Edge of the images in pixels, and cost of an image: seconds, or multiply-accumulates.
    pub costs: Vec<(u32, f64)>,
}

const EXPECTED: &str = "`square`, `macs` or `time`";

impl CostUnit {
    fn name(self) -> &'static str {
        match self {
            Self::Macs => "macs",
            Self::Time => "time",
        }
    }
}

impl CostTable {
    /// Returns the cost of an image of this size.
    #[must_use]
    pub fn of(&self, size: u32) -> Option<f64> {
        self.costs.iter().find(|row| row.0 == size).map(|row| row.1)
    }

    /// Returns the costs relative to that at base size.
    fn relative(&self, base_size: u32) -> Result<CostModel> {
        let Some(base) = self.of(base_size) else {
            let what =
                format!("no cost at base size, {base_size}; give `{}` to take it anew", self.unit.name());
            return Err(Error::config("cost", what));
        };
        Ok(CostModel::Table(self.costs.iter().map(|&(size, cost)| (size, cost / base)).collect()))
    }
}

impl CostRule {
    /// Returns the costs for a plan.
    ///
    /// # Errors
    /// Returns an error if they are not known yet, or not at base size.
    pub fn model(&self, base_size: u32) -> Result<CostModel> {
        match self {
            Self::Square => Ok(CostModel::Square),
            Self::Known(table) => table.relative(base_size),
            Self::Wanted(unit) => {
                let what = format!(
                    "`{}` must be known before a run is planned; see `measure::costs`, or give `square` here",
                    unit.name()
                );
                Err(Error::config("cost", what))
            }
        }
    }

    /// Returns the costs, if they are known for each size.
    #[must_use]
    pub fn table(&self) -> Option<&CostTable> {
        match self {
            Self::Known(table) => Some(table),
            Self::Square | Self::Wanted(_) => None,
        }
    }

    /// Returns the seconds of an image at each size, if they were measured.
    #[must_use]
    pub fn seconds(&self) -> Option<&CostTable> {
        self.table().filter(|table| table.unit == CostUnit::Time)
    }
}

impl FromStr for CostRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unit = |name: &str| [CostUnit::Macs, CostUnit::Time].into_iter().find(|unit| unit.name() == name);
        let wrong = || format!("`{text}` is no unit of the budget; expected {EXPECTED}");
        if text == "square" {
            return Ok(Self::Square);
        }
        let Some((name, rows)) = text.split_once(':') else {
            return unit(text).map(Self::Wanted).ok_or_else(wrong);
        };
        let row = |row: &str| {
            let (size, cost) = row.split_once('=')?;
            let cost = cost.parse().ok().filter(|cost: &f64| cost.is_finite() && *cost > 0.0)?;
            Some((size.parse().ok()?, cost))
        };
        let costs: Option<Vec<(u32, f64)>> = rows.split(',').map(row).collect();
        let (unit, costs) = unit(name).zip(costs).ok_or_else(wrong)?;
        Ok(Self::Known(CostTable { unit, costs }))
    }
}

impl fmt::Display for CostRule {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Square => f.write_str("square"),
            Self::Wanted(unit) => f.write_str(unit.name()),
            Self::Known(table) => {
                let rows: Vec<String> =
                    table.costs.iter().map(|(size, cost)| format!("{size}={cost}")).collect();
                write!(f, "{}:{}", table.unit.name(), rows.join(","))
            }
        }
    }
}

impl From<CostRule> for String {
    fn from(rule: CostRule) -> Self {
        rule.to_string()
    }
}

impl TryFrom<String> for CostRule {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_as_it_is_written() {
        for text in ["square", "macs", "time", "time:96=0.0021,224=0.0104", "macs:32=37000000,64=1.5e8"] {
            let rule: CostRule = text.parse().unwrap();
            assert_eq!(rule.to_string().parse::<CostRule>().unwrap(), rule, "{text}");
        }
        for text in ["", "flops", "time:", "time:96", "time:96=0", "time:96=-1", "square:96=1", "time:96=nan"]
        {
            let error = text.parse::<CostRule>().unwrap_err();
            assert!(error.contains("`square`, `macs` or `time`"), "{text}: {error}");
        }
    }

    #[test]
    fn costs_are_relative_to_base_size() {
        let rule: CostRule = "time:96=0.002,224=0.008".parse().unwrap();
        assert_eq!(rule.model(224).unwrap(), CostModel::Table(vec![(96, 0.25), (224, 1.0)]));
        let error = rule.model(160).unwrap_err().to_string();
        assert!(error.contains("no cost at base size, 160"), "{error}");
        let error = CostRule::Wanted(CostUnit::Macs).model(224).unwrap_err().to_string();
        assert!(error.contains("`macs` must be known"), "{error}");
    }
}
