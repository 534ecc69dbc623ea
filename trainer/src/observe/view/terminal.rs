//! The terminal: taken, and given back as it was on whatever way out.
//!
//! Signals still come from the keyboard, so Ctrl-C does what it does without a view; other keys are not shown.

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

/// How the keyboard was set before; some while the screen is taken.
static TAKEN: Mutex<Option<keyboard::Before>> = Mutex::new(None);
static HOOK: Once = Once::new();

/// Whether there is a screen to take.
pub fn is_possible() -> bool {
    stdout().is_terminal()
}

/// Gives the terminal back as it was. Does nothing where it was not taken, or was given back already.
pub fn restore() {
    let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = taken {
        // There is nobody left to tell of a failure.
        let _ = execute!(stdout(), LeaveAlternateScreen, Show);
        before.restore();
    }
}

/// The screen, while it is taken.
pub(crate) struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    pub(crate) fn enter() -> Result<Self> {
        // A message of a panic would be lost with the screen it is printed on.
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

    /// Switches a special key off.
    const DISABLED: u8 = 0;

    /// How the keyboard was set; none where there is none.
    pub(crate) struct Before(Option<Termios>);

    impl Before {
        /// Keeps keys from being shown, and Ctrl-Z from leaving the screen behind.
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
                // What was typed meanwhile was not meant for what comes after.
                let _ = tcsetattr(stdin(), OptionalActions::Flush, &before);
            }
        }
    }
}

#[cfg(not(unix))]
mod keyboard {
    /// Keys are left as they are.
    pub(crate) struct Before;

    impl Before {
        pub(crate) fn quieten() -> Self {
            Self
        }

        pub(crate) fn restore(self) {}
    }
}
