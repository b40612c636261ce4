//! The archive as a stream of chunks: from several sources in turn, with one request as long as it goes well.

use super::{
    super::source::{Body, Source},
    Stored,
    plan::{self, Plan},
};
use crate::retry::Backoff;
use anyhow::{Context, Result, ensure};
use bytes::BytesMut;
use std::time::Duration;

/// Rounds over all sources that bring not one chunk.
const ROUNDS: u32 = 8;
/// A bad spot on a medium does not get better.
const ROUNDS_OF_MEDIA: u32 = 2;

/// Which source is asked next, and when it is time to stop asking: no clock, no network.
#[derive(Debug)]
pub struct Turns {
    /// Sources that told lies are out for good.
    out: Vec<bool>,
    at: usize,
    /// Failures since the last chunk.
    failures: u32,
    most: u32,
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The next source, at once.
    Ask,
    /// All were asked: the next one after a wait.
    Wait,
    /// Nobody has it.
    GiveUp,
}

impl Turns {
    /// `sources` in order of preference; only media among them are asked less often.
    #[must_use]
    pub fn new(sources: usize, only_media: bool) -> Self {
        Self { out: vec![false; sources], at: 0, failures: 0, most: if only_media { ROUNDS_OF_MEDIA } else { ROUNDS } }
    }

    /// The source to ask.
    #[must_use]
    pub const fn at(&self) -> usize {
        self.at
    }

    /// It brought something.
    pub const fn brought(&mut self) {
        self.failures = 0;
    }

    /// It broke off, or did not answer.
    pub fn failed(&mut self) -> Next {
        self.failures += 1;
        let left = self.out.iter().filter(|out| !**out).count();
        let Ok(left) = u32::try_from(left) else { return Next::GiveUp };
        if left == 0 || self.failures >= self.most.saturating_mul(left) {
            return Next::GiveUp;
        }
        self.turn();
        if self.failures.is_multiple_of(left) { Next::Wait } else { Next::Ask }
    }

    /// It brought something else than what was signed. Returns whether anybody is left.
    pub fn lied(&mut self, source: usize) -> bool {
        self.out[source] = true;
        if self.at == source {
            self.turn();
        }
        self.out.iter().any(|out| !out)
    }

    fn turn(&mut self) {
        let count = self.out.len();
        let next = (1..=count).map(|step| (self.at + step) % count).find(|source| !self.out[*source]);
        self.at = next.unwrap_or(self.at);
    }
}

/// Reads an archive.
#[derive(Debug)]
pub struct Stream<'a> {
    sources: &'a [Source],
    path: &'a str,
    /// Whose turn it is.
    pub turns: Turns,
    backoff: Backoff,
    open: Option<Open>,
    /// Bytes that came over all connections.
    pub fetched: u64,
}

#[derive(Debug)]
struct Open {
    body: Body,
    /// Of the next byte in `buffer`.
    position: u64,
    /// The last byte that was asked for.
    last: u64,
    buffer: BytesMut,
    source: usize,
}

impl<'a> Stream<'a> {
    /// Nothing is asked for yet.
    ///
    /// # Errors
    /// Without a source.
    pub fn new(sources: &'a [Source], path: &'a str) -> Result<Self> {
        ensure!(!sources.is_empty(), "there is no source");
        let only_media = sources.iter().all(|source| matches!(source, Source::Folder(_)));
        Ok(Self {
            sources,
            path,
            turns: Turns::new(sources.len(), only_media),
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(20)),
            open: None,
            fetched: 0,
        })
    }

    /// Where the source whose turn it is has the archive.
    #[must_use]
    pub fn place(&self) -> String {
        self.sources[self.turns.at()].place(self.path)
    }

    /// The stored bytes of a chunk, and which source they came from. A request goes on to the byte `last`, for the chunks after it.
    /// `waiting` is told why there is a wait.
    ///
    /// # Errors
    /// When no source has it.
    pub async fn chunk(
        &mut self,
        plan: &Plan,
        chunk: u32,
        last: impl Fn() -> u64,
        waiting: &(dyn Fn(String) + Sync),
    ) -> Result<Stored> {
        loop {
            let error = match self.attempt(plan, chunk, &last).await {
                Ok(found) => {
                    self.turns.brought();
                    return Ok(found);
                }
                Err(error) => error.context(format!("fetching {}", self.place())),
            };
            self.open = None;
            match self.turns.failed() {
                Next::GiveUp => return Err(error.context("gave up after many tries without progress")),
                Next::Ask => waiting(format!("reading broke off ({error:#}); going on from {}", self.place())),
                Next::Wait => {
                    waiting(format!("reading broke off ({error:#}); going on from there"));
                    tokio::time::sleep(self.backoff.next_wait()).await;
                }
            }
        }
    }

    async fn attempt(&mut self, plan: &Plan, chunk: u32, last: &impl Fn() -> u64) -> Result<Stored> {
        let wanted = &plan.chunks[chunk as usize];
        let (begin, length) = (wanted.at, wanted.stored as usize);
        let end = begin + u64::from(wanted.stored);
        // A chunk from further back is asked for by itself: what the open connection has on its way would be lost with it.
        if self.open.as_ref().is_some_and(|open| open.source == self.turns.at() && begin < open.position) {
            return self.aside(begin, end).await;
        }
        let goes_on = self.open.as_ref().is_some_and(|open| {
            open.source == self.turns.at()
                && open.position <= begin
                && plan::reads_over(begin - open.position)
                && end <= open.last.saturating_add(1)
        });
        if !goes_on {
            let (source, last) = (self.turns.at(), last().max(end.saturating_sub(1)));
            let body = self.sources[source].open(self.path, begin, Some(last)).await?;
            self.open = Some(Open { body, position: begin, last, buffer: BytesMut::new(), source });
        }
        let open = self.open.as_mut().context("no connection")?;
        let gap = usize::try_from(begin - open.position)?;
        while open.buffer.len() < gap + length {
            let part = open.body.chunk().await?.context("the connection ended early")?;
            self.fetched += part.len() as u64;
            open.buffer.extend_from_slice(&part);
        }
        let stored = open.buffer.split_to(gap + length).split_off(gap).freeze();
        open.position = end;
        Ok((stored, open.source))
    }

    /// These bytes of the archive, over a connection of their own.
    async fn aside(&mut self, begin: u64, end: u64) -> Result<Stored> {
        let (source, length) = (self.turns.at(), usize::try_from(end - begin)?);
        let mut body = self.sources[source].open(self.path, begin, Some(end.saturating_sub(1))).await?;
        let mut bytes = BytesMut::with_capacity(length);
        while bytes.len() < length {
            let part = body.chunk().await?.context("the connection ended early")?;
            self.fetched += part.len() as u64;
            bytes.extend_from_slice(&part);
        }
        ensure!(bytes.len() == length, "more came than was asked for");
        Ok((bytes.freeze(), source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sources_take_turns_and_a_liar_is_not_asked_again() {
        let mut turns = Turns::new(3, false);
        assert_eq!(turns.failed(), Next::Ask);
        assert_eq!(turns.at(), 1);
        turns.brought();
        assert_eq!((turns.failed(), turns.at()), (Next::Ask, 2));
        assert!(turns.lied(0));
        assert_eq!((turns.failed(), turns.at()), (Next::Wait, 1), "two were left, both were asked");
        assert!(turns.lied(1));
        assert_eq!(turns.at(), 2);
        assert!(!turns.lied(2));
        assert_eq!(turns.failed(), Next::GiveUp);
    }

    proptest! {
        #[test]
        fn asking_ends_and_goes_to_everybody_alike(
            sources in 1usize..6, media in any::<bool>(), liars in proptest::collection::vec(0usize..6, 0..3)
        ) {
            let mut turns = Turns::new(sources, media);
            let left = liars.into_iter().fold(true, |_, liar| turns.lied(liar % sources));
            let mut asked = vec![0; sources];
            for _ in 0..100 {
                asked[turns.at()] += 1;
                if turns.failed() == Next::GiveUp {
                    break;
                }
            }
            let rounds = if media { ROUNDS_OF_MEDIA } else { ROUNDS };
            if left {
                for (times, out) in asked.iter().zip(&turns.out) {
                    prop_assert_eq!(*times, if *out { 0 } else { rounds });
                }
            } else {
                prop_assert_eq!(asked.iter().sum::<u32>(), 1);
            }
        }
    }
}
