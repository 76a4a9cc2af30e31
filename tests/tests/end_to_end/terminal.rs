//! A person's terminal: a pseudo-terminal with a program on it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// How long something may take until it is on the screen.
const SEEN_WITHIN: Duration = Duration::from_secs(20);

/// How often the screen is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A terminal and the program on it.
pub(crate) struct Terminal {
    person: File,
    child: Child,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts a command on a terminal of this size.
    pub(crate) fn start(command: &Command, columns: u16, rows: u16) -> Result<Self> {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&person)?;
        unlockpt(&person)?;
        let name = ptsname(&person, Vec::new())?;
        let path = OsStr::from_bytes(name.as_bytes());
        let program = File::from(rustix::fs::open(
            path,
            OFlags::RDWR | OFlags::NOCTTY,
            Mode::empty(),
        )?);
        let person = File::from(person);
        resize(&person, columns, rows)?;
        // A new size is a signal to the programs that have the terminal as their controlling one.
        let mut on_terminal = Command::new("/usr/bin/setsid");
        on_terminal
            .args(["--ctty", "--wait"])
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear()
            .env("TERM", "xterm");
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                on_terminal.env(name, value);
            }
        }
        let child = on_terminal
            .stdin(program.try_clone()?)
            .stdout(program.try_clone()?)
            .stderr(program)
            .spawn()?;
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, written) = (person.try_clone()?, screen.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The end of the program is an error here: nobody has the other side any more.
            while let Ok(read @ 1..) = reader.read(&mut bytes) {
                let mut screen = written.lock().unwrap_or_else(PoisonError::into_inner);
                screen.extend(&bytes[..read]);
            }
        });
        Ok(Self {
            person,
            child,
            screen,
        })
    }

    /// Types something.
    pub(crate) fn type_text(&mut self, text: &str) -> Result<()> {
        self.person.write_all(text.as_bytes())?;
        Ok(())
    }

    /// Changes the size.
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        resize(&self.person, columns, rows)
    }

    /// Waits until something is on the screen.
    pub(crate) fn expect(&self, text: &str) -> Result<()> {
        let begun = Instant::now();
        while !self.screen().contains(text) {
            if begun.elapsed() > SEEN_WITHIN {
                bail!("{text:?} is not on the screen: {:?}", self.screen());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Everything that was written to it so far.
    pub(crate) fn screen(&self) -> String {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&screen).into_owned()
    }

    /// Waits until the program ends.
    pub(crate) fn wait(mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn resize(person: &File, columns: u16, rows: u16) -> Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(person, size)?;
    Ok(())
}
