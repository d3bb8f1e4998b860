//! A request with several parts, each of which succeeds or fails by itself and at its own time.

use crate::command::RequestId;
use crate::reason::Error;

/// The parts of one request, until the last of them is known.
#[derive(Debug)]
pub(super) struct Call<T> {
    pub(super) id: RequestId,
    results: Vec<Option<Result<T, Error>>>,
    n_missing: usize,
}

impl<T> Call<T> {
    pub(super) fn new(id: RequestId, n_parts: usize) -> Self {
        Self { id, results: (0..n_parts).map(|_| None).collect(), n_missing: n_parts }
    }

    /// Notes one part's result; a part that has one keeps it.
    pub(super) fn settle(&mut self, part: usize, result: Result<T, Error>) {
        if let Some(slot @ None) = self.results.get_mut(part) {
            *slot = Some(result);
            self.n_missing -= 1;
        }
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.n_missing == 0
    }

    pub(super) fn into_results(self) -> Vec<Result<T, Error>> {
        self.results.into_iter().flatten().collect()
    }
}
