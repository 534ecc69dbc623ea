//! Options from three layers: defaults, a file, the command line. Later layers override earlier
//! ones.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::config::batch::BatchSize;
use crate::config::class_weights::ClassWeights;
use crate::config::flag_value::flag_value;
use crate::config::keys::{keys_of, present_name};
use crate::config::options::RunOptions;
use crate::config::train::TrainConfig;
use crate::config::values::LossName;
use crate::error::{Error, Result};

/// Origin of an option's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueOrigin {
    /// Default value.
    Default,
    /// The run that is resumed.
    Run,
    /// A file of options.
    File(String),
    /// `--set`.
    Set,
    /// A flag.
    Flag,
}

impl fmt::Display for ValueOrigin {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::Run => write!(f, "the run's"),
            Self::File(path) => write!(f, "{path}"),
            Self::Set => write!(f, "--set"),
            Self::Flag => write!(f, "flag"),
        }
    }
}

/// Layers of options, to be resolved into a [`Resolved`] configuration.
///
/// ```
/// use efficienttrain::config::ConfigLayers;
///
/// let resolved = ConfigLayers::new().set("epochs=5")?.set("model=resnet10")?.resolve()?;
/// assert_eq!(resolved.config.epochs, 5.0);
/// let error = ConfigLayers::new().set("epoch=5").unwrap_err().to_string();
/// assert!(error.contains("the nearest known is `epochs`"));
/// # Ok::<(), efficienttrain::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ConfigLayers {
    base: (Map<String, Value>, Map<String, Value>),
    base_origin: ValueOrigin,
    overrides: BTreeMap<String, (Value, ValueOrigin)>,
}

/// A complete configuration and the origin of each of its values.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Options that decide the outcome of the run.
    pub config: TrainConfig,
    /// Options that do not.
    pub options: RunOptions,
    /// Origin of each key; keys are the names of the flags.
    pub origins: BTreeMap<String, ValueOrigin>,
}

impl Default for ConfigLayers {
    fn default() -> Self {
        Self::new()
    }
}

impl ConfigLayers {
    /// Creates layers that hold only the defaults.
    pub fn new() -> Self {
        Self::on(&TrainConfig::default(), &RunOptions::default(), ValueOrigin::Default)
    }

    fn on(config: &TrainConfig, options: &RunOptions, base_origin: ValueOrigin) -> Self {
        Self { base: (keys_of(config), keys_of(options)), base_origin, overrides: BTreeMap::new() }
    }

    /// Reads a TOML file whose keys are the names of the flags.
    ///
    /// # Errors
    /// Returns an error if it cannot be read, or a key or value is unknown; the message names the
    /// file and the key.
    pub fn file(mut self, path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let place = path.display().to_string();
        let table: toml::Table =
            text.parse().map_err(|e: toml::de::Error| key_error(&place, e.to_string().trim_end()))?;
        for (key, value) in table {
            self.give(&key, &value, &ValueOrigin::File(place.clone()))?;
        }
        Ok(self)
    }

    /// Sets `key=value`; the value is written like in a file or like that of a flag.
    ///
    /// # Errors
    /// Returns an error if the key or the value is unknown, or the key was set before.
    pub fn set(self, assignment: &str) -> Result<Self> {
        let Some((key, text)) = assignment.split_once('=') else {
            return Err(Error::config("set", format!("expected KEY=VALUE, got `{assignment}`")));
        };
        let key = present_name(key.trim());
        if self
            .overrides
            .get(key)
            .is_some_and(|(_, origin)| matches!(origin, ValueOrigin::Set | ValueOrigin::Flag))
        {
            return Err(Error::config("set", format!("`{key}` is given twice; leave one out")));
        }
        self.set_or_replace(key, text)
    }

    /// Sets a value, or replaces the one set before; it is written like in a file or like that of a
    /// flag.
    ///
    /// # Errors
    /// Returns an error if the key or the value is unknown.
    pub fn set_or_replace(mut self, key: &str, text: &str) -> Result<Self> {
        let written =
            format!("value = {text}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("value"));
        let plain = toml::Value::String(text.trim().into());
        // `model=resnet10` is not TOML, and a name such as `true` may be meant as text.
        let first = written.unwrap_or_else(|| plain.clone());
        let overrides = self.give(key, &first, &ValueOrigin::Set);
        if overrides.is_err() && self.give(key, &plain, &ValueOrigin::Set).is_err() {
            overrides?;
        }
        Ok(self)
    }

    /// Takes the flags given on the command line.
    ///
    /// # Errors
    /// Returns an error if a key was also given with `--set`, a path is not UTF-8, or a number is
    /// not finite.
    pub fn flags(mut self, matches: &ArgMatches) -> Result<Self> {
        self.refuse_unwritable(matches)?;
        let parse = |e: clap::Error| Error::config("set", e.to_string());
        let config = keys_of(&TrainConfig::from_arg_matches(matches).map_err(parse)?);
        let options = keys_of(&RunOptions::from_arg_matches(matches).map_err(parse)?);
        for (key, value) in config.into_iter().chain(options) {
            if matches.value_source(&key.replace('-', "_")) != Some(ValueSource::CommandLine) {
                continue;
            }
            if self.overrides.get(&key).is_some_and(|(_, origin)| *origin == ValueOrigin::Set) {
                return Err(Error::config(&key, format!("is given with --set {key} too; leave one out")));
            }
            if value.is_null() {
                return Err(Error::config(&key, "expected a finite number"));
            }
            self.overrides.insert(key, (value, ValueOrigin::Flag));
        }
        Ok(self)
    }

    /// Checks that all given values can be stored: options are text in `config.toml` and in
    /// checkpoints.
    fn refuse_unwritable(&self, matches: &ArgMatches) -> Result<()> {
        for key in self.base.0.keys().chain(self.base.1.keys()) {
            let id = key.replace('-', "_");
            let overrides = matches.value_source(&id) == Some(ValueSource::CommandLine);
            let mut raw = matches.get_raw(&id).filter(|_| overrides).into_iter().flatten();
            if let Some(path) = raw.find(|value| value.to_str().is_none()) {
                let what = format!(
                    "`{}` is not UTF-8, and options are kept as text; rename it, or give a link to it with another name",
                    path.display()
                );
                return Err(Error::config(key, what));
            }
        }
        Ok(())
    }

    /// Returns the keys that a layer above the base has set.
    pub fn overrides(&self) -> impl Iterator<Item = &str> {
        self.overrides.keys().map(String::as_str)
    }

    /// Replaces the base: the options of a run to resume, or the defaults of a command.
    #[must_use]
    pub fn with_base(self, config: &TrainConfig, options: &RunOptions, origin: ValueOrigin) -> Self {
        Self { overrides: self.overrides, ..Self::on(config, options, origin) }
    }

    /// Resolves all layers into one configuration. A recipe file is replaced by its content, which
    /// also sets base size and batches unless they were set.
    ///
    /// # Errors
    /// Returns an error if the recipe file cannot be read, or is not a recipe.
    pub fn resolve(&self) -> Result<Resolved> {
        let (mut config, mut options) = self.base.clone();
        let mut origins: BTreeMap<String, ValueOrigin> =
            config.keys().chain(options.keys()).map(|key| (key.clone(), self.base_origin.clone())).collect();
        for (key, (value, origin)) in &self.overrides {
            let map = if config.contains_key(key) { &mut config } else { &mut options };
            map.insert(key.clone(), value.clone());
            origins.insert(key.clone(), origin.clone());
        }
        let wrong = |e: serde_json::Error| key_error("options", &e.to_string());
        let (mut config, options): (TrainConfig, _) =
            (read(config).map_err(wrong)?, read(options).map_err(wrong)?);
        if config.multi_label && origins.get("loss") == Some(&ValueOrigin::Default) {
            config.loss = LossName::Bce;
        }
        Resolved { config, options, origins }.with_recipe_read()
    }

    fn give(&mut self, key: &str, value: &toml::Value, origin: &ValueOrigin) -> Result<()> {
        let place = match origin {
            ValueOrigin::File(path) => format!("{path}: {key}"),
            _ => format!("--set {key}"),
        };
        let (mut config, mut options) = self.base.clone();
        let key = present_name(key);
        let ours = config.contains_key(key);
        if !ours && !options.contains_key(key) {
            return Err(key_error(&place, &unknown(key, value, config.keys().chain(options.keys()))));
        }
        let value = serde_json::to_value(value).map_err(|e| key_error(&place, &e.to_string()))?;
        if value.is_null() {
            return Err(key_error(&place, "expected a finite number"));
        }
        // Each value is tried alone, so that the message is about its key.
        let tried = if ours {
            config.insert(key.into(), value.clone());
            read::<TrainConfig>(config).map(|_| ())
        } else {
            options.insert(key.into(), value.clone());
            read::<RunOptions>(options).map(|_| ())
        };
        let value = match (tried, value.as_str()) {
            (Ok(()), _) => value,
            // A text may be what the flag accepts, such as `.001`, or comma-separated names for a
            // list.
            (Err(e), Some(text)) => flag_value(key, text).ok_or_else(|| key_error(&place, &e.to_string()))?,
            (Err(e), None) => return Err(key_error(&place, &e.to_string())),
        };
        self.overrides.insert(key.into(), (value, origin.clone()));
        Ok(())
    }
}

impl Resolved {
    fn with_recipe_read(mut self) -> Result<Self> {
        self.config.class_weights.as_mut().map_or(Ok(()), ClassWeights::embed)?;
        let Some(recipe) = self.config.recipe.load()? else { return Ok(self) };
        let from = ValueOrigin::File(format!("recipe {}", recipe.name));
        let mut free = |key: &str| {
            let free = self.origins.get(key) == Some(&ValueOrigin::Default);
            if free {
                self.origins.insert(key.into(), from.clone());
            }
            free
        };
        if free("base-size") {
            self.config.base_size = recipe.curriculum.base_size;
        }
        if free("batch") {
            self.config.batch = BatchSize::Recipe;
        }
        self.config.set_recipe(&recipe)?;
        Ok(self)
    }

    /// Adds the origin of the value to an error about an option, unless it is the command line.
    pub fn explain(&self, error: Error) -> Error {
        match error {
            Error::Config { option, what } => match self.origins.get(&option) {
                Some(origin @ (ValueOrigin::File(_) | ValueOrigin::Run)) => {
                    Error::Config { what: format!("{what} (the value is from {origin})"), option }
                }
                _ => Error::Config { option, what },
            },
            other => other,
        }
    }
}

fn key_error(place: &str, what: &str) -> Error {
    Error::Key { place: place.into(), what: what.into() }
}

fn unknown<'a>(key: &str, value: &toml::Value, known: impl Iterator<Item = &'a String>) -> String {
    if value.is_table() {
        return "there are no sections; write the keys at the top level".into();
    }
    let distance = |name: &&String| strsim::damerau_levenshtein(&key.replace('_', "-"), name);
    let nearest = known.min_by_key(distance).map_or("", String::as_str);
    format!(
        "unknown key; the nearest known is `{nearest}` (keys are the names of the flags of `train --help`)"
    )
}

fn read<T: DeserializeOwned>(keys: Map<String, Value>) -> serde_json::Result<T> {
    let map = keys.into_iter().map(|(key, value)| (key.replace('-', "_"), value)).collect();
    serde_json::from_value(Value::Object(map))
}
