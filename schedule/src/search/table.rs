//! Text form of an outcome.

use crate::search::outcome::{Candidate, Outcome, Verdict};
use crate::search::space::Choice;
use crate::search::trial::Report;
use std::fmt;

impl fmt::Display for Choice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.size.to_string();
        if let Some(magnitude) = self.magnitude {
            text += &format!(" m{magnitude}");
        }
        if let Some(batch) = self.batch {
            text += &format!(" {}x{}", batch.per_device, batch.accumulation);
        }
        out.pad(&text)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chosen => write!(out, "chosen"),
            Self::Tied => write!(out, "tied"),
            Self::Worse => write!(out, "worse"),
            Self::GivenUp => write!(out, "given up"),
            Self::Failed(reason) => write!(out, "failed: {reason}"),
            Self::NotTried => write!(out, "not tried"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(baseline) = self.baseline {
            writeln!(out, "plain training: {:.4}{}", baseline.mean, spread(baseline.spread))?;
        }
        writeln!(out, "stage  candidate         accuracy           verdict")?;
        for (index, stage) in self.stages.iter().enumerate() {
            for candidate in &stage.candidates {
                let (choice, accuracy) = (candidate.choice, accuracy(candidate));
                writeln!(out, "{index:5}  {choice:<16}  {accuracy:<17}  {}", candidate.verdict)?;
            }
        }
        writeln!(out, "\ntrial                              epochs  accuracy")?;
        for row in &self.trials {
            let name = row.id.to_string();
            match &row.report {
                Report::Accuracy(accuracy) => {
                    writeln!(out, "{name:<32} {:8.2}  {accuracy:.4}", row.equivalent_epochs)?;
                }
                Report::Failed(reason) => {
                    writeln!(out, "{name:<32} {:8.2}  failed: {reason}", row.equivalent_epochs)?;
                }
            }
        }
        let sizes: Vec<String> = self.stages.iter().map(|stage| stage.choice.to_string()).collect();
        let tied = match (self.stages.iter().any(|stage| stage.tied), self.baseline) {
            (false, _) => "",
            (true, None) => " (a tie decided by rule among them)",
            (true, Some(_)) => " (some trials among them cannot be told from plain training)",
        };
        writeln!(out, "\nfound: {}{tied}", sizes.join(", "))?;
        write!(
            out,
            "{} trials, {:.2} compute epochs; every curriculum of the space: {:.0}",
            self.trials.len(),
            self.equivalent_epochs,
            self.exhaustive_epochs
        )
    }
}

fn accuracy(candidate: &Candidate) -> String {
    candidate.measured.map_or("-".to_owned(), |m| format!("{:.4}{}", m.mean, spread(m.spread)))
}

fn spread(spread: Option<f64>) -> String {
    spread.map_or(String::new(), |spread| format!(" +- {spread:.4}"))
}
