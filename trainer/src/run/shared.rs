//! A run as one of several processes: what they must have in common, and what they tell each other.

use std::sync::atomic::Ordering;

use candle_core::{DType, Device};
use efficienttrain_schedule::StepSettings;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::keys::keys_of;
use crate::config::train::TrainConfig;
#[cfg(feature = "cuda")]
use crate::config::values::SumMethod;
use crate::data::source::BadImage;
use crate::distributed::buckets::Exchange;
use crate::distributed::group::Group;
#[cfg(feature = "cuda")]
use crate::distributed::nccl::NcclSums;
use crate::distributed::note::Phase;
use crate::error::{Error, Result};
use crate::events::Observer;
use crate::inference::evaluate::Scored;
use crate::run::Run;
use crate::run::prefetch::Prefetcher;
use crate::run::step::timed;
use crate::training::step::StepResult;

/// Training images whose pixels are compared between processes.
const COMPARED: usize = 16;

/// What a process says of a step besides its gradients.
#[derive(Default, Serialize, Deserialize)]
struct Remarks {
    /// It was asked to stop.
    stop: bool,
    /// Images that it could not read.
    bad: Vec<BadImage>,
}

/// What a process says of an evaluation.
#[derive(Serialize, Deserialize)]
struct PartOfEvaluation {
    /// None if it was asked to stop.
    scored: Option<Scored>,
    /// Digest of its weights.
    weights: u32,
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
        let devices = self.plan.options().devices;
        let fits = self.group.set_slots(devices);
        self.group.agree(fits)?;
        self.compare()?;
        self.shares_steps = self.group.is_shared();
        #[cfg(feature = "cuda")]
        self.join_gpus()?;
        Ok(self)
    }

    /// Connects the GPUs of the processes, if they add up gradients.
    #[cfg(feature = "cuda")]
    fn join_gpus(&mut self) -> Result<()> {
        let (group, device) = (&self.group, self.state.device());
        if self.config.sums == SumMethod::Ordered || !device.is_cuda() || !group.is_connected() {
            return Ok(());
        }
        self.buckets.set_sums(Box::new(NcclSums::join(group, device, self.config.sum_type)?));
        self.shares_steps = true;
        Ok(())
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
        let all = self.group.gather(serde_json::to_vec(&own).unwrap_or_default())?;
        let read = |bytes: &Vec<u8>| serde_json::from_slice::<Vec<Item>>(bytes).unwrap_or_default();
        let all: Vec<Vec<Item>> = all.iter().map(read).collect();
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

    /// Returns what the first process computes. If it fails, all fail.
    pub(crate) fn from_first<T: Serialize + DeserializeOwned>(
        &self,
        value: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if !self.group.is_shared() {
            return value();
        }
        let own = if self.group.is_first() { value().map(Some) } else { Ok(None) };
        let own = self.group.agree(own)?;
        let bytes = self.group.from_first(|| serde_json::to_vec(&own).unwrap_or_default())?;
        let value: Option<T> = serde_json::from_slice(&bytes)
            .map_err(|e| Error::Distributed(format!("rank 0 sent something that cannot be read: {e}")))?;
        value.ok_or_else(|| Error::Distributed("rank 0 sent nothing".into()))
    }

    /// Runs the passes of this process forward and backward, combines them with those of the others,
    /// and updates. Adds the time spent waiting for batches to `waited`.
    pub(crate) fn shared_step(
        &mut self,
        settings: &StepSettings,
        prefetcher: &mut Prefetcher,
        waited: &mut f64,
        observer: &mut dyn Observer,
    ) -> Result<StepResult> {
        let passes = self.own_passes(settings);
        let share = 1.0 / f64::from(self.config.devices * settings.accumulation);
        let (device, seed) = (self.state.device().clone(), self.config.seed);
        let mut remarks = Remarks::default();
        self.buckets.enter(self.state.model.input_size());
        let mut exchange = Exchange::new(&self.group, &mut self.buckets);
        let mut step = self.state.begin_shared_step(self.group.own_slots().start)?;
        for pass in passes.clone() {
            if pass > passes.start && pass.is_multiple_of(settings.accumulation) {
                step.next_slot()?;
            }
            self.group.enter(Phase::Loader, settings.step);
            let batch = timed(waited, || prefetcher.next())?;
            self.group.enter(Phase::Step, settings.step);
            remarks.bad.extend_from_slice(&batch.bad);
            let seed = super::step::pass_seed(seed, settings.step, pass);
            if pass + 1 == passes.end {
                step.accumulate_last(&batch, share, settings.drop_path, seed, &mut exchange)?;
            } else {
                step.accumulate(&batch, share, settings.drop_path, seed)?;
            }
        }
        remarks.stop = self.stop.load(Ordering::Relaxed);
        let all = step.combine(exchange, serde_json::to_vec(&remarks).unwrap_or_default())?;
        for bytes in all {
            let Remarks { stop, bad } = serde_json::from_slice(&bytes).unwrap_or_default();
            self.stop_agreed |= stop;
            self.bad.report(&bad, observer)?;
        }
        let update = step.launch_update(settings, self.plan.recipe().optimizer.clip_grad)?;
        timed(waited, || prefetcher.prefetch(&device));
        update.finish()
    }

    /// Returns the scores of all processes; none if one of them was asked to stop.
    pub(crate) fn combine_scores(&mut self, own: Option<Scored>) -> Result<Option<Scored>> {
        if !self.group.is_shared() {
            return Ok(own);
        }
        let part = PartOfEvaluation { scored: own, weights: self.digest_of_weights()? };
        let all = self.group.gather(serde_json::to_vec(&part).unwrap_or_default())?;
        let mut whole = Some(Scored::default());
        for (rank, bytes) in all.iter().enumerate() {
            let theirs: PartOfEvaluation = serde_json::from_slice(bytes)
                .map_err(|e| Error::Distributed(format!("{} sent no scores: {e}", self.group.name(rank))))?;
            if theirs.weights != part.weights {
                let what = format!(
                    "{} has other weights than this process after step {}: its memory or processor is faulty, or this is                      an error of this program",
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
    fn own_passes(&self, settings: &StepSettings) -> std::ops::Range<u32> {
        let slots = self.group.own_slots();
        slots.start * settings.accumulation..slots.end * settings.accumulation
    }
}
