//! Time that runs take to an accuracy.

use efficienttrain_schedule::search::Measured;

/// Returns true for a recipe of plain training, whose final accuracy other runs are to reach.
pub(crate) fn is_plain(recipe: &str) -> bool {
    recipe.ends_with("-baseline")
}

/// An evaluation: wall time since the start of its run, in seconds, and accuracy, 0 to 1.
pub(crate) type Evaluation = (f64, f64);

/// How long runs that differ only in their seeds take to an accuracy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TimeToAccuracy {
    /// Wall time to the first evaluation at or above it, in seconds; none if no run reached it.
    pub(crate) seconds: Option<Measured>,
    /// Number of runs that reached it.
    pub(crate) reached: usize,
    /// Number of runs.
    pub(crate) runs: usize,
}

impl TimeToAccuracy {
    /// Returns the times of runs with these evaluations to `target`, 0 to 1.
    pub(crate) fn of(runs: &[Vec<Evaluation>], target: f64) -> Self {
        let first = |evals: &Vec<Evaluation>| evals.iter().find(|eval| eval.1 >= target).map(|eval| eval.0);
        let times: Vec<f64> = runs.iter().filter_map(first).collect();
        let seconds = (!times.is_empty()).then(|| Measured::of(&times));
        Self { seconds, reached: times.len(), runs: runs.len() }
    }

    /// Returns the cells of a table: minutes, the share of `baseline` seconds, and the number of
    /// runs that reached the accuracy.
    pub(crate) fn cells(&self, baseline: Option<f64>) -> [String; 3] {
        let minutes = |seconds: &Measured| {
            let mean = format!("{:.2}", seconds.mean / 60.0);
            seconds.spread.map_or(mean.clone(), |spread| format!("{mean} +- {:.2}", spread / 60.0))
        };
        let share =
            |(seconds, baseline): (&Measured, f64)| format!("{:.2}", seconds.mean / baseline.max(1e-9));
        [
            self.seconds.as_ref().map_or("not reached".into(), minutes),
            self.seconds.as_ref().zip(baseline).map_or("-".into(), share),
            format!("{} of {}", self.reached, self.runs),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_evaluation_at_the_accuracy_counts() {
        let runs = [
            vec![(60.0, 0.5), (120.0, 0.7), (180.0, 0.6)],
            vec![(60.0, 0.7), (120.0, 0.8)],
            vec![(60.0, 0.1)],
        ];
        let time = TimeToAccuracy::of(&runs, 0.7);
        let seconds = time.seconds.unwrap();
        assert_eq!((seconds.mean, time.reached, time.runs), (90.0, 2, 3));
        assert_eq!(time.cells(Some(180.0)), ["1.50 +- 0.71", "0.50", "2 of 3"]);
        assert_eq!(TimeToAccuracy::of(&runs, 0.9).cells(Some(180.0)), ["not reached", "-", "0 of 3"]);
    }
}
