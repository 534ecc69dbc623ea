//! Report of loading weights.

use std::fmt;

use crate::params::summary;

/// Outcome for every key. Keys are spelled as in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Whose spelling the file was found to have.
    pub spelling: &'static str,
    /// Keys whose values the model has now, in its order.
    pub loaded: Vec<String>,
    /// Loaded keys whose shape had dimensions of 1 more or fewer.
    pub reshaped: Vec<String>,
    /// Loaded keys brought to another number of image channels or another input size.
    pub adapted: Vec<String>,
    /// Keys of the head that kept the model's own values.
    pub reinitialized: Vec<String>,
    /// Keys that the file lacks.
    pub missing: Vec<String>,
    /// Keys of the file that the model does not have.
    pub unexpected: Vec<String>,
    /// Keys of the file that the model computes itself.
    pub computed: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys loaded, {} spelling", self.loaded.len(), self.spelling)?;
        for (keys, what) in [
            (&self.reshaped, "reshaped"),
            (&self.adapted, "adapted"),
            (&self.reinitialized, "of the head left as initialized"),
            (&self.missing, "missing"),
            (&self.unexpected, "unexpected"),
        ] {
            if !keys.is_empty() {
                write!(f, "; {} {what}: {}", keys.len(), summary(keys))?;
            }
        }
        Ok(())
    }
}
