//! Serialization of floats in JSON, which cannot represent non-finite numbers.
//!
//! `#[serde(with = "crate::util::float_serde")]` stores finite numbers as numbers and the others as
//! the texts `"NaN"`, `"inf"` and `"-inf"`. Earlier builds stored `null` for all of them, which is
//! read as NaN.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserializer, Serializer};

/// Serializes a float without loss.
///
/// # Errors
/// Returns the errors of the serializer.
pub(crate) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() { to.serialize_f64(*value) } else { to.collect_str(value) }
}

/// Deserializes the output of [`serialize`].
///
/// # Errors
/// Returns an error for anything except a number, one of the texts, or `null`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    from.deserialize_any(FloatVisitor)
}

struct FloatVisitor;

impl Visitor<'_> for FloatVisitor {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a number, \"NaN\", \"inf\" or \"-inf\"")
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<f64, E> {
        Ok(value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<f64, E> {
        match text {
            "NaN" => Ok(f64::NAN),
            "inf" => Ok(f64::INFINITY),
            "-inf" => Ok(f64::NEG_INFINITY),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_unit<E: de::Error>(self) -> Result<f64, E> {
        Ok(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct Stored(#[serde(with = "super")] f64);

    #[test]
    fn every_float_reads_back_and_finite_ones_are_numbers() {
        for (value, json) in [
            (0.1, "0.1"),
            (-0.0, "-0.0"),
            (2.5, "2.5"),
            (f64::NAN, "\"NaN\""),
            (f64::INFINITY, "\"inf\""),
            (f64::NEG_INFINITY, "\"-inf\""),
        ] {
            assert_eq!(serde_json::to_string(&Stored(value)).unwrap(), json);
            let read: Stored = serde_json::from_str(json).unwrap();
            assert!(read.0.to_bits() == value.to_bits() || (read.0.is_nan() && value.is_nan()), "{json}");
        }
        // An integer, and `null`, which earlier builds stored for non-finite numbers.
        assert_eq!(serde_json::from_str::<Stored>("3").unwrap().0, 3.0);
        assert_eq!(serde_json::from_str::<Stored>("-3").unwrap().0, -3.0);
        assert!(serde_json::from_str::<Stored>("null").unwrap().0.is_nan());
        for json in ["\"1.5\"", "\"nan\"", "true", "[]"] {
            assert!(serde_json::from_str::<Stored>(json).is_err(), "{json}");
        }
    }
}
