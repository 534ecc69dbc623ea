//! Images per forward and backward pass.

use std::fmt;
use std::str::FromStr;

use efficienttrain_schedule::Recipe;
use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Images per forward and backward pass, written as a number, as one number per size
/// (`256,128,64`), `recipe` or `auto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchSize {
    /// One number for all stages.
    Images(u32),
    /// One number per size of the curriculum, in its order; consecutive stages of one size share
    /// theirs.
    EachSize(Vec<u32>),
    /// The numbers and the accumulation of the recipe.
    Recipe,
    /// Measured on this machine by `measure::autobatch`; a run needs the measured numbers.
    Auto,
}

const EXPECTED: &str =
    "a number of images, such as `64`; one for each size, such as `256,128,64`; `recipe`; or `auto`";

impl From<u32> for BatchSize {
    fn from(images: u32) -> Self {
        Self::Images(images)
    }
}

impl FromStr for BatchSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| part.trim().parse::<u32>().ok().filter(|&n| n > 0);
        let wrong = || format!("`{text}` is not a batch size; expected {EXPECTED}");
        match text {
            "recipe" => Ok(Self::Recipe),
            "auto" => Ok(Self::Auto),
            list if list.contains(',') => {
                let numbers: Option<Vec<u32>> = list.split(',').map(number).collect();
                numbers.map(Self::EachSize).ok_or_else(wrong)
            }
            one => number(one).map(Self::Images).ok_or_else(wrong),
        }
    }
}

impl fmt::Display for BatchSize {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Images(images) => write!(f, "{images}"),
            Self::EachSize(images) => {
                write!(f, "{}", images.iter().map(u32::to_string).collect::<Vec<_>>().join(","))
            }
            Self::Recipe => write!(f, "recipe"),
            Self::Auto => write!(f, "auto"),
        }
    }
}

/// A number is stored as a number, everything else as text.
impl Serialize for BatchSize {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Images(images) => to.serialize_u32(*images),
            other => to.collect_str(other),
        }
    }
}

impl<'de> Deserialize<'de> for BatchSize {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader)
    }
}

struct Reader;

impl Visitor<'_> for Reader {
    type Value = BatchSize;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_u64<E: serde::de::Error>(self, images: u64) -> Result<BatchSize, E> {
        let wrong = || E::invalid_value(Unexpected::Unsigned(images), &self);
        u32::try_from(images).ok().filter(|&n| n > 0).map(BatchSize::Images).ok_or_else(wrong)
    }

    fn visit_i64<E: serde::de::Error>(self, images: i64) -> Result<BatchSize, E> {
        let wrong = E::invalid_value(Unexpected::Signed(images), &self);
        u64::try_from(images).map_or(Err(wrong), |images| self.visit_u64(images))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<BatchSize, E> {
        text.parse().map_err(E::custom)
    }
}

/// Returns the sizes of a recipe and the indices of their stages; consecutive stages of one size
/// are grouped.
pub(crate) fn stages_by_size(recipe: &Recipe) -> Vec<(u32, Vec<usize>)> {
    let mut sizes: Vec<(u32, Vec<usize>)> = Vec::new();
    for (index, stage) in recipe.curriculum.stages.iter().enumerate() {
        match sizes.last_mut() {
            Some((size, stages)) if *size == stage.size => stages.push(index),
            _ => sizes.push((stage.size, vec![index])),
        }
    }
    sizes
}

#[cfg(test)]
mod tests {
    use crate::config::train::TrainConfig;

    use super::*;

    #[test]
    fn reads_one_spelling_and_writes_the_same() {
        for text in ["64", "256,128,64", "recipe", "auto"] {
            assert_eq!(text.parse::<BatchSize>().map(|b| b.to_string()), Ok(text.to_string()));
        }
        for text in ["", "0", "-1", "64,", "8,0", "many", "1.5"] {
            assert!(text.parse::<BatchSize>().is_err(), "{text}");
        }
        assert_eq!(serde_json::to_string(&BatchSize::Images(8)).unwrap(), "8");
        assert_eq!(serde_json::from_str::<BatchSize>("\"8,4\"").unwrap(), BatchSize::EachSize(vec![8, 4]));
        assert!(serde_json::from_str::<BatchSize>("-1").unwrap_err().to_string().contains("-1"));
    }

    #[test]
    fn stages_of_one_size_share_a_batch() {
        let config = TrainConfig {
            batch: BatchSize::EachSize(vec![48, 32, 16]),
            accumulation: 2,
            ..TrainConfig::default()
        };
        let stages = config.recipe().unwrap().curriculum.stages;
        let batches: Vec<u32> = stages.iter().map(|stage| stage.batch_per_device).collect();
        assert_eq!(batches, [48, 48, 32, 32, 32, 32, 16, 16, 16, 16]);
        assert!(stages.iter().all(|stage| stage.accumulation == 2));
        let wrong = TrainConfig { batch: BatchSize::EachSize(vec![48, 32]), ..config };
        let message = wrong.recipe().unwrap_err().to_string();
        assert!(message.contains("option `batch`") && message.contains("96, 160, 224"), "{message}");
    }
}
