//! Features and labels of a set of images, and their files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::{Error, Result};
use crate::util::atomic_file::{replace, replace_with};
use crate::util::regular::read_regular;

/// Metadata key of the classes.
const CLASSES: &str = "classes";

/// Feature vectors and labels of a set of images.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureSet {
    /// Features `[N, D]`, row by row.
    pub features: Vec<f32>,
    /// Number of features D.
    pub width: usize,
    /// Labels `[N]`: positions in the list of classes.
    pub labels: Vec<u32>,
    /// Names of the classes.
    pub classes: Vec<String>,
}

impl FeatureSet {
    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Returns true if there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Returns the rows, one per image.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.features.chunks_exact(self.width.max(1))
    }

    /// Writes a safetensors file: `features` (`f32`) and `labels` (`u32`), with the names of the
    /// classes in the metadata.
    ///
    /// # Errors
    /// Returns an error if the disk fails; a file at `path` is then unchanged.
    pub fn save(&self, path: &Path) -> Result<()> {
        let failed = |what: String| Error::Key { place: path.display().to_string(), what };
        let features: Vec<u8> = self.features.iter().flat_map(|value| value.to_le_bytes()).collect();
        let labels: Vec<u8> = self.labels.iter().flat_map(|label| label.to_le_bytes()).collect();
        let view = |dtype, shape: Vec<usize>, bytes| {
            TensorView::new(dtype, shape, bytes).map_err(|e| failed(e.to_string()))
        };
        let tensors = [
            ("features", view(Dtype::F32, vec![self.len(), self.width], &features)?),
            ("labels", view(Dtype::U32, vec![self.len()], &labels)?),
        ];
        let classes = serde_json::to_string(&self.classes).map_err(|e| failed(e.to_string()))?;
        let metadata = HashMap::from([(CLASSES.to_string(), classes)]);
        let bytes = safetensors::serialize(tensors, Some(metadata)).map_err(|e| failed(e.to_string()))?;
        replace(path, &bytes)
    }

    /// Writes the NumPy files `NAME_features.npy` (`[N, D]`, `float32`) and `NAME_labels.npy`
    /// (`[N]`, `uint32`) to `folder`, and returns their paths.
    ///
    /// # Errors
    /// Returns an error if the disk fails; existing files are then unchanged.
    pub fn save_npy(&self, folder: &Path, name: &str) -> Result<[PathBuf; 2]> {
        let write = |part: &str, tensor: Tensor| -> Result<PathBuf> {
            let path = folder.join(format!("{name}_{part}.npy"));
            replace_with(&path, |file| Ok(tensor.write_npy(file.path())?))?;
            Ok(path)
        };
        let features = Tensor::from_slice(&self.features, (self.len(), self.width), &Device::Cpu)?;
        let labels = Tensor::from_slice(&self.labels, self.len(), &Device::Cpu)?;
        Ok([write("features", features)?, write("labels", labels)?])
    }

    /// Reads a file of [`Self::save`].
    ///
    /// # Errors
    /// Returns an error if the file is missing, damaged or contains something else.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = read_regular(path).map_err(Error::io(path))?;
        let read = || -> std::result::Result<Self, String> {
            let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| e.to_string())?;
            let file = SafeTensors::deserialize(&bytes).map_err(|e| e.to_string())?;
            let tensor = |name| file.tensor(name).map_err(|e| e.to_string());
            let (features, labels) = (tensor("features")?, tensor("labels")?);
            let (&[n, width], &[labeled]) = (features.shape(), labels.shape()) else {
                return Err("`features` is not [N, D], or `labels` not [N]".into());
            };
            let types = (features.dtype(), labels.dtype());
            if n != labeled || types != (Dtype::F32, Dtype::U32) {
                return Err(format!("{n} rows of features and {labeled} labels, of types {types:?}"));
            }
            let classes = header.metadata().as_ref().and_then(|m| m.get(CLASSES)).ok_or("no classes")?;
            let classes: Vec<String> = serde_json::from_str(classes).map_err(|e| e.to_string())?;
            let words = |bytes: &[u8]| -> Vec<[u8; 4]> {
                bytes.chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]]).collect()
            };
            let labels: Vec<u32> = words(labels.data()).into_iter().map(u32::from_le_bytes).collect();
            if let Some(label) = labels.iter().find(|&&label| label as usize >= classes.len()) {
                return Err(format!("label {label} of {} classes", classes.len()));
            }
            let features = words(features.data()).into_iter().map(f32::from_le_bytes).collect();
            Ok(Self { features, width, labels, classes })
        };
        read().map_err(|what| Error::Key {
            place: path.display().to_string(),
            what: format!("no features: {what}; expected a file that `efficienttrain features` wrote"),
        })
    }

    /// Counts the images with a non-finite feature.
    fn diverged(&self) -> usize {
        self.rows().filter(|row| row.iter().any(|value| !value.is_finite())).count()
    }

    /// Checks that two sets are compatible: same width and classes, not empty, and all features
    /// finite.
    pub(crate) fn check_with(&self, other: &Self) -> Result<()> {
        let what = if self.is_empty() || other.is_empty() {
            "a set without images".to_string()
        } else if self.width != other.width {
            format!("features of width {} and {}", self.width, other.width)
        } else if self.classes != other.classes {
            "two sets of different classes".to_string()
        } else if let Some(images) = [self, other].map(Self::diverged).into_iter().find(|&images| images > 0)
        {
            let what = format!(
                "{images} images with non-finite features: the network diverged, or its weights are \
                 damaged; take them from another checkpoint"
            );
            return Err(Error::Key { place: "features".into(), what });
        } else {
            return Ok(());
        };
        let what = format!("{what}; take both from one `efficienttrain features`");
        Err(Error::Key { place: "features".into(), what })
    }
}
