//! A run as one of several processes: what they must have in common, and what they tell each other.

use std::sync::Arc;

use candle_core::{DType, Device};
use efficienttrain_models::ops::Processes;
use efficienttrain_schedule::StepSettings;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::keys::keys_of;
use crate::config::train::TrainConfig;
use crate::config::values::BatchNormMode;
use crate::data::source::BadImage;
use crate::distributed::group::Group;
use crate::distributed::sums::open_sums;
use crate::error::{Error, Result};
use crate::inference::evaluate::Scored;
use crate::run::Run;

/// Number of training images that are compared between processes.
const COMPARED: usize = 16;

/// What a process says of a step besides its gradients.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Remarks {
    /// It was asked to stop.
    pub(crate) stop: bool,
    /// Images that it could not read.
    pub(crate) bad: Vec<BadImage>,
}

/// What a process says of an evaluation.
#[derive(Serialize, Deserialize)]
struct PartOfEvaluation {
    /// None if it was asked to stop.
    scored: Option<Scored>,
    /// Digest of its weights.
    weights: u32,
}

/// The processes of a group, for synchronized batch norms.
#[derive(Debug)]
struct SynchronizedNorms(Group);

impl Processes for SynchronizedNorms {
    fn gather(&self, numbers: Vec<f64>) -> efficienttrain_models::Result<Vec<Vec<f64>>> {
        let failed = |error: Error| efficienttrain_models::Error::Process { what: error.to_string() };
        let all = self.0.gather(bytemuck::cast_slice(&numbers).to_vec()).map_err(failed)?;
        let read = |bytes: &Vec<u8>| bytes.as_chunks().0.iter().map(|&x| f64::from_le_bytes(x)).collect();
        let all: Vec<Vec<f64>> = all.iter().map(read).collect();
        match all.iter().position(|theirs| theirs.len() != numbers.len()) {
            None => Ok(all),
            Some(rank) => Err(failed(Error::Distributed(format!(
                "{} has another model than this process",
                self.0.name(rank)
            )))),
        }
    }
}

/// Something that must be the same in all processes.
#[derive(Serialize, Deserialize)]
struct Item {
    what: String,
    value: String,
}

impl Run {
    /// Trains together with the other processes of `group`, each of which has made the same run. The
    /// result is bitwise that of one process, unless NCCL adds up gradients on GPUs.
    ///
    /// # Errors
    /// Returns an error if the plan has fewer devices than there are processes, or one of them has
    /// another configuration, other data, or another program.
    pub fn with_group(mut self, group: Group) -> Result<Self> {
        self.group = group;
        let fits = self.group.set_slots(self.plan.options().devices);
        self.group.agree(fits)?;
        self.compare()?;
        self.check_batch_norm_mode()?;
        if self.config.batch_norm == BatchNormMode::Synchronized && self.group.is_shared() {
            self.state.processes = Some(Arc::new(SynchronizedNorms(self.group.clone())));
        }
        let TrainConfig { sums, sum_type, .. } = self.config;
        self.buckets.set_sums(open_sums(&self.group, self.state.device(), sums, sum_type)?);
        Ok(self)
    }

    /// Checks that batch norms can have the statistics of all devices.
    pub(crate) fn check_batch_norm_mode(&self) -> Result<()> {
        let (devices, processes) = (self.config.devices as usize, self.group.size());
        if self.config.batch_norm == BatchNormMode::Local || devices == 1 {
            return Ok(());
        }
        if devices != processes {
            let what = format!(
                "synchronized requires one process for each of the {devices} devices of the plan, and there are {processes}; \
                 start {devices}, or give local"
            );
            return Err(Error::config("batch-norm", what));
        }
        match self.state.device().is_cpu() {
            true => Ok(()),
            false => Err(Error::config(
                "batch-norm",
                "synchronized is for the CPU; give local, with larger batches",
            )),
        }
    }

    /// Returns the processes that train together.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Compares with the first process what must be the same.
    fn compare(&mut self) -> Result<()> {
        if !self.group.is_shared() {
            return Ok(());
        }
        let own = self.group.agree(self.items())?;
        let all = self.group.gather_values(&own)?;
        for (rank, items) in all.iter().enumerate() {
            if let Some((theirs, first)) = items.iter().zip(&all[0]).find(|(a, b)| a.value != b.value) {
                let what = format!(
                    "{} of {} is {}, that of {} is {}; all processes need the same",
                    theirs.what,
                    self.group.name(rank),
                    theirs.value,
                    self.group.name(0),
                    first.value
                );
                return Err(Error::Distributed(what));
            }
        }
        self.warn_of_unlike_machines();
        Ok(())
    }

    fn items(&self) -> Result<Vec<Item>> {
        let item = |what: &str, value: String| Item { what: what.into(), value };
        let source = &*self.sources.train;
        // Folders may have other names on other hosts; what is in them is compared.
        let config = TrainConfig { data: None, init: None, ..self.config.clone() };
        let mut items = vec![
            item("the version", env!("CARGO_PKG_VERSION").into()),
            item("option `device`", self.options.device.kind().into()),
        ];
        // Each option by itself, so that the message names it.
        items.extend(
            keys_of(&config).iter().map(|(key, value)| item(&format!("option `{key}`"), value.to_string())),
        );
        // Of the options that do not decide the outcome, those that decide when processes meet.
        let meeting = ["eval-every", "stop-after", "bucket-mib", "max-bad-images"];
        let options = keys_of(&self.options).into_iter().filter(|(key, _)| meeting.contains(&key.as_str()));
        items.extend(options.map(|(key, value)| item(&format!("option `{key}`"), value.to_string())));
        items.push(item("the number of training images", source.len().to_string()));
        items.push(item("the number of evaluation images", self.sources.val.len().to_string()));
        let named = crc32fast::hash(&serde_json::to_vec(&self.data).unwrap_or_default());
        items.push(item("the digest of the names and labels of training images", format!("{named:08x}")));
        items.push(item("the digest of some training images", self.digest_of_images()?));
        items.push(item("the step to start from", self.step.to_string()));
        items.push(item("the digest of the weights", format!("{:08x}", self.digest_of_weights()?)));
        Ok(items)
    }

    /// Digests a few training images, spread over the set.
    fn digest_of_images(&self) -> Result<String> {
        let source = &*self.sources.train;
        let count = COMPARED.min(source.len());
        let mut digest = crc32fast::Hasher::new();
        for i in 0..count {
            let index = i * source.len() / count;
            let bytes = match source.encoded(index) {
                Ok(None) => source.load(index).map(image::RgbImage::into_raw),
                encoded => encoded.map(Option::unwrap_or_default),
            };
            // One that cannot be read here must not be readable elsewhere.
            digest.update(bytes.as_deref().unwrap_or(b"unreadable"));
        }
        Ok(format!("{:08x}", digest.finalize()))
    }

    fn digest_of_weights(&self) -> Result<u32> {
        let mut digest = crc32fast::Hasher::new();
        for (_, tensor) in self.state.params.iter() {
            let tensor = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
            let values = tensor.flatten_all()?.to_vec1::<f32>()?;
            digest.update(bytemuck::cast_slice(&values));
        }
        Ok(digest.finalize())
    }

    /// Processors with other instruction sets add in another order.
    fn warn_of_unlike_machines(&mut self) {
        let members = self.group.members();
        if let Some(other) = members.iter().position(|m| m.instructions != members[0].instructions) {
            let what = format!(
                "{} computes with other instructions than {}, so the result is not bitwise that of one machine",
                self.group.name(other),
                self.group.name(0)
            );
            self.warnings.push(what);
        }
    }

    /// Runs `value` on the first process and returns its result on all. If it fails, all fail.
    pub(crate) fn on_first<T: Serialize + DeserializeOwned>(
        &self,
        value: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if !self.group.is_shared() {
            return value();
        }
        let own = if self.group.is_first() { value().map(Some) } else { Ok(None) };
        let all = self.group.gather_values(&self.group.agree(own)?)?;
        all.into_iter().next().flatten().ok_or_else(|| Error::Distributed("rank 0 sent nothing".into()))
    }

    /// Returns the scores of all processes; none if one of them was asked to stop.
    pub(crate) fn combine_scores(&mut self, own: Option<Scored>) -> Result<Option<Scored>> {
        if !self.group.is_shared() {
            return Ok(own);
        }
        let part = PartOfEvaluation { scored: own, weights: self.digest_of_weights()? };
        let mut whole = Some(Scored::default());
        for (rank, theirs) in self.group.gather_values(&part)?.into_iter().enumerate() {
            if theirs.weights != part.weights {
                let what = format!(
                    "{} has other weights than this process after step {}: its memory or processor is faulty, or this is \
                     an error of this program",
                    self.group.name(rank),
                    self.step
                );
                return Err(Error::Distributed(what));
            }
            whole = whole.zip(theirs.scored).map(|(whole, theirs)| whole.joined(theirs));
        }
        self.stop_agreed |= whole.is_none();
        Ok(whole.map(Scored::sorted))
    }

    /// Returns the numbers of the passes of a step that this process runs.
    pub(crate) fn own_passes(&self, settings: &StepSettings) -> std::ops::Range<u32> {
        let slots = self.group.own_slots();
        slots.start * settings.accumulation..slots.end * settings.accumulation
    }
}
