//! Number of training images per class.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Training images per class, written as a number, optionally with a seed of their own after an
/// `@`: `50`, `50@3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImagesPerClass {
    /// Number of images per class.
    pub images: NonZeroU32,
    /// Seed that selects them; none for the seed of the run.
    pub seed: Option<u64>,
}

const EXPECTED: &str = "a number of images, such as `50`, with a seed of their own `50@3`";

impl FromStr for ImagesPerClass {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (images, seed) = text.split_once('@').map_or((text, None), |(images, seed)| (images, Some(seed)));
        let seed = seed.map(|seed| seed.trim().parse().ok());
        match (images.trim().parse(), seed) {
            (Ok(images), None) => Ok(Self { images, seed: None }),
            (Ok(images), Some(Some(seed))) => Ok(Self { images, seed: Some(seed) }),
            _ => Err(format!("`{text}` is not a number of images above 0; expected {EXPECTED}")),
        }
    }
}

impl fmt::Display for ImagesPerClass {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.seed {
            None => write!(f, "{}", self.images),
            Some(seed) => write!(f, "{}@{seed}", self.images),
        }
    }
}

/// Stored as a number, or as text if there is a seed.
impl Serialize for ImagesPerClass {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.seed.is_none() { to.serialize_u32(self.images.get()) } else { to.collect_str(self) }
    }
}

impl<'de> Deserialize<'de> for ImagesPerClass {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader)
    }
}

struct Reader;

impl Visitor<'_> for Reader {
    type Value = ImagesPerClass;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_u64<E: serde::de::Error>(self, images: u64) -> Result<ImagesPerClass, E> {
        let images = u32::try_from(images).ok().and_then(NonZeroU32::new).ok_or_else(|| {
            let what = Unexpected::Unsigned(images);
            E::invalid_value(what, &self)
        })?;
        Ok(ImagesPerClass { images, seed: None })
    }

    fn visit_i64<E: serde::de::Error>(self, images: i64) -> Result<ImagesPerClass, E> {
        let wrong = E::invalid_value(Unexpected::Signed(images), &self);
        u64::try_from(images).map_or(Err(wrong), |images| self.visit_u64(images))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ImagesPerClass, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::train::TrainConfig;

    use super::*;

    #[test]
    fn is_read_as_it_is_written() {
        for (text, json) in
            [("50", "50"), ("1@0", "\"1@0\""), ("7@18446744073709551615", "\"7@18446744073709551615\"")]
        {
            let read: ImagesPerClass = text.parse().unwrap();
            assert_eq!(
                (read.to_string().as_str(), serde_json::to_string(&read).unwrap().as_str()),
                (text, json)
            );
            assert_eq!(serde_json::from_str::<ImagesPerClass>(json).unwrap(), read);
        }
        for text in ["", "0", "-1", "ten", "5@", "@5", "5@-1", "4294967296"] {
            let message = text.parse::<ImagesPerClass>().unwrap_err();
            assert!(message.contains("such as `50`"), "{message}");
        }
        for json in ["0", "-1", "4294967296", "\"0\"", "1.5"] {
            assert!(serde_json::from_str::<ImagesPerClass>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn another_seed_keeps_the_images() {
        let config = TrainConfig { images_per_class: "50".parse().ok(), seed: 3, ..TrainConfig::default() };
        let other = config.with_seed(4);
        assert_eq!((other.seed, other.images_seed(), config.images_seed()), (4, 3, 3));
        assert_eq!(other.images_per_class.map(|of| of.to_string()).as_deref(), Some("50@3"));
        // Back at the first seed it equals the first configuration, so that the two runs are the
        // same.
        assert_eq!(other.with_seed(3), config);
        assert_eq!(TrainConfig::default().with_seed(5), TrainConfig { seed: 5, ..TrainConfig::default() });
    }
}
