//! Full-screen terminal view of a run: `train --view full`.

pub(crate) mod dashboard;
pub(crate) mod draw;
pub(crate) mod terminal;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub use dashboard::Dashboard;
pub use draw::draw;
pub use terminal::{is_possible, restore};

use crate::error::Result;
use crate::events::{Event, Observer};
use crate::observe::progress::eprint_line;
use crate::observe::progress::lines::lines;
use crate::observe::view::terminal::Screen;

/// Shortest time between two updates of the screen.
const PAUSE: Duration = Duration::from_millis(100);
/// Number of lines to print again when the view closes.
const KEPT: usize = 1000;

/// Shows a run on the full screen. At its end, or when dropped, it restores the terminal and prints
/// the messages of the meantime.
pub struct FullScreen {
    screen: Screen,
    dashboard: Dashboard,
    drawn: Option<Instant>,
    said: VecDeque<String>,
}

impl std::fmt::Debug for FullScreen {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "FullScreen({:?})", self.dashboard)
    }
}

impl FullScreen {
    /// Opens the view. Check [`is_possible`] before.
    ///
    /// # Errors
    /// Returns an error if the terminal fails.
    pub fn enter() -> Result<Self> {
        let screen = Screen::enter()?;
        Ok(Self { screen, dashboard: Dashboard::default(), drawn: None, said: VecDeque::new() })
    }
}

impl Observer for FullScreen {
    fn observe(&mut self, event: &Event) -> Result<()> {
        self.dashboard.take(event);
        let lines = lines(event);
        let now = !lines.is_empty() || self.drawn.is_none_or(|at| at.elapsed() >= PAUSE);
        self.said.extend(lines);
        self.said.drain(..self.said.len().saturating_sub(KEPT));
        if now {
            self.screen.draw(&self.dashboard)?;
            self.drawn = Some(Instant::now());
        }
        Ok(())
    }
}

impl Drop for FullScreen {
    fn drop(&mut self) {
        restore();
        self.said.iter().for_each(eprint_line);
    }
}
