//! Intervals and lengths in a run: passes over the data, optimizer steps, or a share of the
//! compute.

use std::fmt;
use std::str::FromStr;

use efficienttrain_schedule::RunLength;
use serde::{Deserialize, Serialize};

use crate::util::string_serde::stored_as_text;

/// An interval of a run, written `2ep` (passes over the training set), `500st` (optimizer steps) or
/// `10%` (of the compute).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Interval {
    /// Passes over the training set.
    Epochs(u64),
    /// Optimizer steps.
    Steps(u64),
    /// Percent of the run's compute.
    Percent(f64),
}

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a length or interval; write passes as `1ep`, steps as `500st`, a share as `10%`"
            )
        };
        let whole = |digits: &str| digits.parse::<u64>().ok().filter(|&n| n > 0).ok_or_else(wrong);
        if let Some(digits) = text.strip_suffix("ep") {
            return Ok(Self::Epochs(whole(digits)?));
        }
        if let Some(digits) = text.strip_suffix("st") {
            return Ok(Self::Steps(whole(digits)?));
        }
        let percent = text.strip_suffix('%').and_then(|p| p.parse().ok()).filter(|p| *p > 0.0 && *p <= 100.0);
        percent.map(Self::Percent).ok_or_else(wrong)
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Epochs(n) => write!(f, "{n}ep"),
            Self::Steps(n) => write!(f, "{n}st"),
            Self::Percent(p) => write!(f, "{p}%"),
        }
    }
}

stored_as_text!(Interval);

/// A length in a run, written like an [`Interval`], or `0st` for none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Length(pub Option<Interval>);

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "0st" { Ok(Self(None)) } else { text.parse().map(|every| Self(Some(every))) }
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 {
            Some(every) => every.fmt(f),
            None => write!(f, "0st"),
        }
    }
}

stored_as_text!(Length);

/// Position of a run, counted from its start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    /// Optimizer steps done.
    pub steps: u64,
    /// Passes over the training set done.
    pub epochs: f64,
    /// Share of the compute done, 0 to 1.
    pub compute: f64,
}

impl Interval {
    /// Returns the length in terms of a plan.
    pub(crate) fn length(self) -> RunLength {
        match self {
            Self::Epochs(n) => RunLength::Epochs(n as f64),
            Self::Steps(n) => RunLength::Steps(n),
            Self::Percent(p) => RunLength::Share(p / 100.0),
        }
    }

    /// Returns whether a multiple of the interval is passed between `before` and `now`.
    pub fn is_due(&self, before: Position, now: Position) -> bool {
        self.multiples(now) > self.multiples(before)
    }

    /// Returns whether it is at least this long from `before` to `now`.
    pub(crate) fn is_over(&self, before: Position, now: Position) -> bool {
        const ROUNDING: f64 = 1e-9;
        match *self {
            Self::Epochs(n) => now.epochs - before.epochs >= n as f64 - ROUNDING,
            Self::Steps(n) => now.steps - before.steps >= n,
            Self::Percent(p) => now.compute - before.compute >= p / 100.0 - ROUNDING,
        }
    }

    /// Returns how often the interval is due in a run that ends at `end`, which always counts.
    pub(crate) fn count(&self, end: Position) -> u64 {
        let Position { steps, epochs, compute } = end;
        // Just short of the end.
        let before =
            Position { steps: steps.saturating_sub(1), epochs: epochs - 1e-6, compute: compute - 1e-6 };
        self.multiples(before) as u64 + 1
    }

    fn multiples(&self, place: Position) -> f64 {
        match *self {
            Self::Epochs(n) => (place.epochs / n as f64 + 1e-9).floor(),
            Self::Steps(n) => (place.steps / n) as f64,
            Self::Percent(p) => (place.compute * 100.0 / p + 1e-9).floor(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_one_spelling_and_writes_the_same() {
        for text in ["1ep", "500st", "12.5%"] {
            assert_eq!(text.parse::<Interval>().map(|e| e.to_string()), Ok(text.to_string()));
        }
        for text in ["", "1", "0ep", "-1st", "1.5ep", "0%", "101%", "1 ep", "nan%", "1epoch"] {
            assert!(text.parse::<Interval>().is_err(), "{text}");
        }
    }

    #[test]
    fn is_due_once_a_span() {
        let place =
            |steps: u64| Position { steps, epochs: steps as f64 / 10.0, compute: steps as f64 / 100.0 };
        for (every, times) in
            [(Interval::Steps(7), 14), (Interval::Epochs(2), 5), (Interval::Percent(25.0), 4)]
        {
            let due = (0..100).filter(|&s| every.is_due(place(s), place(s + 1))).count();
            assert_eq!(due, times, "{every}");
        }
    }
}
