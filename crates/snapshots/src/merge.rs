//! Several files of a chain as one: of each user what the newest of them says.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use anyhow::{Context, Result};

use crate::chain::Broken;
use crate::part::{Head, Reader, Who};

pub(crate) struct Merge {
    /// The newest first; each by its name.
    parts: Vec<(String, Reader)>,
    /// The next user of each part, the newest part's first among those of one user.
    next: BinaryHeap<Reverse<(Who, usize)>>,
    /// The states that belong to them, by part.
    states: Vec<Option<Vec<u8>>>,
}

impl Merge {
    /// The newest part comes first.
    pub fn new(parts: Vec<(String, Reader)>) -> Result<Merge> {
        let mut merge = Merge {
            states: vec![None; parts.len()],
            next: BinaryHeap::with_capacity(parts.len()),
            parts,
        };
        for part in 0..merge.parts.len() {
            merge.read(part)?;
        }
        Ok(merge)
    }

    /// The newest part's.
    pub fn head(&self) -> &Head {
        &self.parts[0].1.head
    }

    fn read(&mut self, part: usize) -> Result<()> {
        let (name, reader) = &mut self.parts[part];
        let read = reader.user().with_context(|| Broken { name: name.clone() })?;
        if let Some((who, state)) = read {
            self.states[part] = state;
            self.next.push(Reverse((who, part)));
        }
        Ok(())
    }

    /// The next user that is not forgotten.
    pub fn user(&mut self) -> Result<Option<(Who, Vec<u8>)>> {
        while let Some(Reverse((who, newest))) = self.next.pop() {
            let state = self.states[newest].take();
            self.read(newest)?;
            while let Some(Reverse((_, part))) =
                self.next.peek().copied().filter(|Reverse(next)| next.0 == who)
            {
                self.next.pop();
                self.read(part)?;
            }
            if let Some(state) = state {
                return Ok(Some((who, state)));
            }
        }
        Ok(None)
    }
}
