//! Terminal mode of the view, restored however the program ends.
//!
//! The keyboard still sends signals, so Ctrl-C works the same as without a view; other keys are not
//! shown.

use std::io::{IsTerminal, Stdout, stdout};
use std::sync::{Mutex, Once, PoisonError};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};

use crate::error::{Error, Result};
use crate::observe::view::dashboard::Dashboard;
use crate::observe::view::draw::draw;

/// Keyboard settings from before, while the view is open.
static TAKEN: Mutex<Option<keyboard::Before>> = Mutex::new(None);
static HOOK: Once = Once::new();

/// Returns true if there is a terminal for the view.
pub fn is_possible() -> bool {
    stdout().is_terminal()
}

/// Restores the terminal. Does nothing if the view is not open.
pub fn restore() {
    let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = taken {
        // There is nobody left to report a failure to.
        let _ = execute!(stdout(), LeaveAlternateScreen, Show);
        before.restore();
    }
}

/// Screen, while the view is open.
pub(crate) struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    pub(crate) fn enter() -> Result<Self> {
        // The message of a panic would be lost with the screen on which it is printed.
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                before(panic);
            }));
        });
        let terminal = Terminal::new(CrosstermBackend::new(stdout())).map_err(failed)?;
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(keyboard::Before::quieten());
        if let Err(error) = execute!(stdout(), EnterAlternateScreen, Hide) {
            restore();
            return Err(failed(error));
        }
        Ok(Self(terminal))
    }

    pub(crate) fn draw(&mut self, dashboard: &Dashboard) -> Result<()> {
        self.0.draw(|frame| draw(frame, dashboard)).map(|_| ()).map_err(failed)
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::io("the terminal")(error)
}

#[cfg(unix)]
mod keyboard {
    use std::io::stdin;

    use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

    /// Disables a special key.
    const DISABLED: u8 = 0;

    /// Keyboard settings; none if there is no keyboard.
    pub(crate) struct Before(Option<Termios>);

    impl Before {
        /// Hides typed keys, and disables Ctrl-Z, which would leave the view open.
        pub(crate) fn quieten() -> Self {
            let Ok(before) = tcgetattr(stdin()) else { return Self(None) };
            let mut quiet = before.clone();
            quiet.local_modes -= LocalModes::ECHO;
            quiet.special_codes[SpecialCodeIndex::VSUSP] = DISABLED;
            let set = tcsetattr(stdin(), OptionalActions::Now, &quiet);
            Self(set.is_ok().then_some(before))
        }

        pub(crate) fn restore(self) {
            if let Some(before) = self.0 {
                // Discards keys typed meanwhile, which were not meant for the shell.
                let _ = tcsetattr(stdin(), OptionalActions::Flush, &before);
            }
        }
    }
}

#[cfg(not(unix))]
mod keyboard {
    /// Leaves the keyboard unchanged.
    pub(crate) struct Before;

    impl Before {
        pub(crate) fn quieten() -> Self {
            Self
        }

        pub(crate) fn restore(self) {}
    }
}
