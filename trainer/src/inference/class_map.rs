//! Evaluation of a model on a data set with other classes.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use efficienttrain_models::{Backbone, Context, Model, ModelInfo, Resample, Result as ModelResult, Variable};

use crate::error::{Error, Result};

const OPTION: &str = "map";

/// The classes of a data set as groups of a model's classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassMap {
    /// Positions of the model's classes that stand for each class of the data set.
    groups: Vec<Vec<usize>>,
    /// Names of the rows that are no class of the data set.
    unused: Vec<String>,
}

impl ClassMap {
    /// Reads a CSV file with rows `DATA_CLASS,MODEL_CLASS`, where the latter is the name or the
    /// number of one of the model's classes. A class of the data set may have several rows. Rows of
    /// classes that the data set does not have are allowed, so that one file serves several data
    /// sets; [`Self::unused`] names them.
    ///
    /// # Errors
    /// Returns an error that names the file, and the line or the class, if a row is not two columns,
    /// a class is unknown to the model or named twice, or a class of the data set has no row.
    pub fn read(path: &Path, data: &[String], model: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let failed = |what: String| Error::config(OPTION, format!("{}: {what}", path.display()));
        let position: HashMap<&str, usize> = data.iter().map(String::as_str).zip(0..).collect();
        let mut groups = vec![Vec::new(); data.len()];
        let (mut seen, mut unused) = (HashMap::new(), Vec::new());
        let text = text.trim_start_matches('\u{feff}');
        let mut rows = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(text.as_bytes());
        for row in rows.records() {
            let row = row.map_err(|e| failed(e.to_string()))?;
            let line = row.position().map_or(0, csv::Position::line);
            let at = |what: String| failed(format!("line {line}: {what}"));
            let (Some(class), Some(of_model), None) = (row.get(0), row.get(1), row.get(2)) else {
                return Err(at(format!("has {} columns; expected DATA_CLASS,MODEL_CLASS", row.len())));
            };
            let Some(&group) = position.get(class) else {
                unused.push(class.into());
                continue;
            };
            let index = find(of_model, model).map_err(at)?;
            if let Some(other) = seen.insert(index, line) {
                return Err(at(format!("the model's class `{of_model}` is in line {other} already")));
            }
            groups[group].push(index);
        }
        let missing: Vec<&str> =
            data.iter().zip(&groups).filter(|(_, g)| g.is_empty()).map(|(name, _)| name.as_str()).collect();
        if let Some(first) = missing.first() {
            return Err(failed(format!(
                "has no row for {} of {} classes of the data set, such as `{first}`; add them",
                missing.len(),
                data.len()
            )));
        }
        Ok(Self { groups, unused })
    }

    /// Returns the names of rows that are no class of the data set, a head of the file included.
    pub fn unused(&self) -> &[String] {
        &self.unused
    }

    /// Returns the model with the classes of the data set: the probability of a class is the sum of
    /// those of its group, among all groups. The model's other classes do not take part, like those
    /// that are left out of timm's `--valid-labels`.
    pub fn apply(&self, model: Box<dyn Backbone>) -> Box<dyn Backbone> {
        let info = ModelInfo { num_classes: self.groups.len(), ..model.info().clone() };
        Box::new(Mapped { info, model, map: self.clone() })
    }

    fn logits(&self, row: &[f32]) -> Vec<f32> {
        let group = |group: &Vec<usize>| {
            let largest = group.iter().map(|&i| row[i]).fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = group.iter().map(|&i| f64::from(row[i] - largest).exp()).sum();
            (f64::from(largest) + sum.ln()) as f32
        };
        self.groups.iter().map(group).collect()
    }
}

/// Returns the position of a class, which is given by its name or its number.
fn find(class: &str, classes: &[String]) -> Result<usize, String> {
    let number = || class.parse().ok().filter(|&index: &usize| index < classes.len());
    classes.iter().position(|name| name == class).or_else(number).ok_or_else(|| {
        format!("the model has no class `{class}`; expected a name, or a number below {}", classes.len())
    })
}

/// A model with the classes of a data set, for evaluation.
#[derive(Debug)]
struct Mapped {
    info: ModelInfo,
    model: Box<dyn Backbone>,
    map: ClassMap,
}

impl Model for Mapped {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn resampling(&self, size: [usize; 2]) -> ModelResult<Vec<Resample>> {
        self.model.resampling(size)
    }
}

impl Backbone for Mapped {
    fn at_size(&self, size: [usize; 2]) -> ModelResult<(Box<dyn Backbone>, Vec<Resample>)> {
        let (model, changes) = self.model.at_size(size)?;
        Ok((self.map.apply(model), changes))
    }

    fn feature_maps(&self, cx: &mut Context, images: &Variable) -> ModelResult<Vec<Variable>> {
        self.model.feature_maps(cx, images)
    }

    fn features(&self, cx: &mut Context, images: &Variable) -> ModelResult<Variable> {
        self.model.features(cx, images)
    }

    fn mean_features(&self, cx: &mut Context, images: &Variable) -> ModelResult<Variable> {
        self.model.mean_features(cx, images)
    }

    fn head(&self, cx: &mut Context, features: &Variable) -> ModelResult<Variable> {
        let logits = self.model.head(cx, features)?;
        let device = logits.tensor().device();
        let rows: Vec<Vec<f32>> = logits.tensor().to_device(&Device::Cpu)?.to_dtype(DType::F32)?.to_vec2()?;
        let mapped: Vec<f32> = rows.iter().flat_map(|row| self.map.logits(row)).collect();
        let mapped = Tensor::from_vec(mapped, (rows.len(), self.map.groups.len()), device)?;
        Ok(Variable::constant(mapped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn read(text: &str, data: &[&str], model: &[&str]) -> Result<ClassMap, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("map.csv");
        std::fs::write(&path, text).unwrap();
        ClassMap::read(&path, &names(data), &names(model)).map_err(|error| error.to_string())
    }

    const MODEL: [&str; 4] = ["beagle", "tabby", "pug", "car"];

    #[test]
    fn classes_are_found_by_name_and_by_number() {
        let text = "class,model class\ncat,tabby\ndog,beagle\ndog,2\nhorse,17\n";
        let map = read(text, &["cat", "dog"], &MODEL).unwrap();
        assert_eq!(map.groups, [vec![1], vec![0, 2]]);
        assert_eq!(map.unused(), ["class", "horse"]);
        // A name that is a number of another class.
        assert_eq!(read("a,1", &["a"], &["1", "0"]).unwrap().groups, [vec![0]]);
    }

    #[test]
    fn wrong_rows_are_refused() {
        for (text, expected) in [
            ("cat,tabby\ndog,beagle\ndog,poodle\n", "line 3: the model has no class `poodle`"),
            ("cat,tabby\ndog,4\n", "line 2: the model has no class `4`"),
            ("cat,tabby\ndog,1\n", "line 2: the model's class `1` is in line 1 already"),
            ("cat,tabby\ndog\n", "line 2: has 1 columns"),
            ("cat,tabby\n", "no row for 1 of 2 classes of the data set, such as `dog`"),
        ] {
            let error = read(text, &["cat", "dog"], &MODEL).unwrap_err();
            assert!(error.contains(expected) && error.contains("map.csv"), "{text:?}: {error}");
        }
    }

    #[test]
    fn probabilities_of_a_group_are_summed_by_hand() {
        let map = ClassMap { groups: vec![vec![1], vec![0, 2]], unused: Vec::new() };
        // Probabilities 0.2, 0.3, 0.4 and 0.1, and of the groups 1 / 3 and 2 / 3.
        let row = [0.2f32, 0.3, 0.4, 0.1].map(f32::ln);
        let [cat, dog] = map.logits(&row)[..] else { panic!("two classes") };
        assert!((f64::from(dog - cat).exp() - 2.0).abs() < 1e-6);
        assert!(map.logits(&[f32::NAN, 0.0, 0.0, 0.0])[1].is_nan());
    }
}
