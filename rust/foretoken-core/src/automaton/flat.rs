//! An automaton as numbers in a row, and back; what comes back may be anything.

use super::{Automaton, ROOT, State};
use crate::edges::{Edges, Fan};

/// The numbers of an automaton as a file has them, not yet believed.
#[derive(Debug)]
pub(crate) struct Flat {
    pub states: Vec<State>,
    pub slots: Vec<(u32, u32)>,
}

impl From<[u32; 8]> for State {
    fn from([length, link, count, followed, best, best_count, a, b]: [u32; 8]) -> Self {
        Self { length, link, count, followed, best, best_count, fan: Fan::from_words([a, b]) }
    }
}

impl Automaton {
    /// How many states and slots there are.
    pub fn sizes(&self) -> (usize, usize) {
        (self.states.len(), self.edges.slots().len())
    }

    /// The states as numbers.
    pub fn states(&self) -> impl Iterator<Item = [u32; 8]> {
        self.states.iter().map(|state| {
            let [a, b] = state.fan.words();
            [state.length, state.link, state.count, state.followed, state.best, state.best_count, a, b]
        })
    }

    /// The slots as numbers.
    pub fn slots(&self) -> impl Iterator<Item = [u32; 2]> {
        self.edges.slots().iter().map(|&(token, target)| [token, target])
    }
}

impl Flat {
    /// The automaton, if it is one that can be walked and grown: every index leads somewhere, every walk ends, no number can
    /// overflow. One that belongs to other documents would pass, and guess badly: what is right is not a drafter's to say.
    pub fn checked(self, max_match: u32, tokens: u64) -> Result<Automaton, &'static str> {
        let Self { states, slots } = self;
        if slots.len() >= 1 << 31 || states.len() as u64 > 2 * tokens + 1 {
            return Err("it is too large");
        }
        if (states[0].length, states[0].link) != (0, ROOT) {
            return Err("its first state is not the empty context");
        }
        let edges = Edges::from_slots(slots);
        let mut used = vec![0; edges.slots().len().div_ceil(64)];
        for (place, state) in states.iter().enumerate() {
            let shorter = states.get(state.link as usize).is_some_and(|link| link.length < state.length);
            if !(shorter || place == ROOT as usize) || u64::from(state.length) > tokens {
                return Err("a link does not lead to a shorter context");
            }
            let counts = state.best_count <= state.followed && state.followed <= state.count;
            if !counts || u64::from(state.count) > tokens || state.best >= 1 << 31 {
                return Err("a state counts more than there is");
            }
            if !edges.check(state.fan, states.len(), &mut used) {
                return Err("a transition leads nowhere");
            }
        }
        Ok(Automaton { states, edges, max_match })
    }
}
