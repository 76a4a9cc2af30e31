//! A value that must never turn up, and the search for it.

use std::path::Path;

use anyhow::{Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::pipeline::Pipeline;

/// A secret value that is found wherever it is: as it is, or in base64 at any of its three alignments.
pub(crate) struct Canary {
    value: String,
    forms: Vec<Vec<u8>>,
}

impl Canary {
    pub(crate) fn new() -> Self {
        use std::hash::{BuildHasher, RandomState};
        let number = || RandomState::new().hash_one(0);
        let value = format!("canary-{:016x}{:016x}", number(), number());
        let mut forms = vec![value.clone().into_bytes()];
        for before in 0..3 {
            let mut text = vec![b' '; before];
            text.extend(value.as_bytes());
            let encoded = STANDARD.encode(text);
            // Without the characters that also hold bits of what is around it.
            let begin = [0, 2, 3][before];
            forms.push(encoded.as_bytes()[begin..encoded.len() - 4].to_vec());
        }
        Self { value, forms }
    }

    pub(crate) fn value(&self) -> &str {
        &self.value
    }

    pub(crate) fn is_in(&self, bytes: &[u8]) -> bool {
        self.forms
            .iter()
            .any(|form| memchr::memmem::find(bytes, form).is_some())
    }

    /// Looks for it in every record of the log, and in every file below the data directory.
    pub(crate) fn ensure_absent(&self, pipeline: &Pipeline) -> Result<()> {
        let records = pipeline.records()?;
        ensure!(!records.is_empty());
        let found = records.values().find(|event| self.is_in(event.as_bytes()));
        ensure!(found.is_none(), "{} is in {found:?}", self.value);
        let files = self.search(&pipeline.data())?;
        ensure!(files > 0, "there is something to search");
        Ok(())
    }

    fn search(&self, folder: &Path) -> Result<usize> {
        let mut files = 0;
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                files += self.search(&path)?;
            } else if let Ok(bytes) = std::fs::read(&path) {
                // A file may be gone by now: the recorder renames what it wrote.
                ensure!(
                    !self.is_in(&bytes),
                    "{} is in {}",
                    self.value,
                    path.display()
                );
                files += 1;
            }
        }
        Ok(files)
    }
}
