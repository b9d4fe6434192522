//! A suffix automaton that counts: every repeated context of a text, and what followed it most often.
//!
//! Blumer et al. 1985, built online; one automaton holds several texts, and no context reaches across two of them.
//! The number of occurrences of *every* state cannot be kept up to date in constant time, because one new token touches the whole
//! chain of suffix links. Contexts longer than `max_match` are never asked for, so only the states on that chain with a context of
//! at most `max_match + 1` tokens are touched: that many at most, and few in natural text (measured on prose and code in tokens
//! of 4 letters: 3.7 on average at 100,000 tokens, 4.9 at a million). So all counts that can be asked for are exact.

mod flat;

use crate::edges::{Edges, Fan, reserve};

pub(crate) use flat::Flat;

/// The state of the empty context.
const ROOT: u32 = 0;

/// A set of contexts that end at the same places; the longest has `length` tokens, the shortest one more than `link`'s longest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct State {
    length: u32,
    link: u32,
    /// Places where the contexts end.
    count: u32,
    /// Those of them that are followed by a token.
    followed: u32,
    /// The token that followed most often; among equals the one seen last.
    best: u32,
    best_count: u32,
    fan: Fan,
}

/// The end of a text that is being added.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct End {
    /// The state of the whole text.
    last: u32,
    /// The state of its last `length` tokens, `max_match + 1` at most.
    tail: u32,
    length: u32,
}

/// A context that occurs: its state and its number of tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Match {
    state: u32,
    pub length: u32,
}

/// What followed a context most often.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Follower {
    pub token: u32,
    /// Its share among all that followed.
    pub probability: f64,
    /// How many tokens the context has.
    pub length: u32,
}

#[derive(Debug)]
pub(crate) struct Automaton {
    states: Vec<State>,
    edges: Edges,
    max_match: u32,
}

impl Automaton {
    pub fn new(max_match: u32) -> Self {
        let root = State { length: 0, link: ROOT, count: 0, followed: 0, best: 0, best_count: 0, fan: Fan::NONE };
        Self { states: vec![root], edges: Edges::default(), max_match }
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.states.capacity() * size_of::<State>() + self.edges.memory()
    }

    /// Adds one token to a text that began at `End::default()`.
    pub fn append(&mut self, end: &mut End, token: u32) {
        end.last = self.grow(end.last, token);
        // If growing has split the state of the tail, the walk below begins at longer contexts, whose counts are never asked for.
        let old = end.tail;
        end.length = (end.length + 1).min(self.max_match + 1);
        end.tail = self.next(old, token).map_or(ROOT, |state| self.anchor(state, end.length));

        let mut state = end.tail;
        while state != ROOT {
            self.states[state as usize].count += 1;
            state = self.at(state).link;
        }
        let (mut state, mut longer) = (old, end.tail);
        while state != ROOT {
            let context = self.at(self.at(state).link).length + 1;
            if context <= self.max_match {
                while self.at(self.at(longer).link).length > context {
                    longer = self.at(longer).link;
                }
                let count = self.at(longer).count; // of the context followed by `token`
                let known = &mut self.states[state as usize];
                if count >= known.best_count {
                    (known.best, known.best_count) = (token, count);
                }
            }
            self.states[state as usize].followed += 1;
            state = self.at(state).link;
        }
    }

    /// The longest end of a text, of at most `limit` tokens, as a context.
    pub fn tail(&self, end: &End, limit: u32) -> Match {
        let length = end.length.min(limit);
        Match { state: self.anchor(end.tail, length), length }
    }

    /// The longest context of at most `limit` tokens that ends a matched one followed by `token`.
    pub fn advance(&self, from: Match, token: u32, limit: u32) -> Match {
        let Match { mut state, mut length } = from;
        loop {
            if let Some(next) = self.next(state, token) {
                // A transition leads all contexts of a state to one state: only a cut can make it another.
                let state = if length < limit { next } else { self.anchor(next, limit) };
                return Match { state, length: (length + 1).min(limit) };
            }
            if state == ROOT {
                return Match::default();
            }
            state = self.at(state).link;
            length = self.at(state).length;
        }
    }

    /// What followed the longest end of the matched context that anything followed.
    pub fn follower(&self, from: Match) -> Option<Follower> {
        let mut state = from.state;
        while state != ROOT {
            let known = self.at(state);
            if known.followed > 0 {
                return Some(Follower {
                    token: known.best,
                    // At most all of them, unless the automaton comes from a forged file.
                    probability: (f64::from(known.best_count) / f64::from(known.followed)).min(1.0),
                    length: known.length.min(from.length),
                });
            }
            state = known.link;
        }
        None
    }

    fn at(&self, state: u32) -> &State {
        &self.states[state as usize]
    }

    fn next(&self, state: u32, token: u32) -> Option<u32> {
        self.edges.get(self.at(state).fan, token)
    }

    fn connect(&mut self, state: u32, token: u32, target: u32) {
        let fan = self.at(state).fan;
        self.states[state as usize].fan = self.edges.set(fan, token, target);
    }

    fn push(&mut self, state: State) -> u32 {
        reserve(&mut self.states, 1);
        self.states.push(state);
        self.states.len() as u32 - 1
    }

    /// The state that holds the last `length` tokens of a context of `state`.
    ///
    /// Following a transition lengthens the chain of links by one at most, so this is amortised constant time.
    fn anchor(&self, mut state: u32, length: u32) -> u32 {
        while state != ROOT && self.at(self.at(state).link).length >= length {
            state = self.at(state).link;
        }
        state
    }

    /// The state of a text, whose state was `last`, after one more token; counts stay as they are.
    fn grow(&mut self, last: u32, token: u32) -> u32 {
        if let Some(known) = self.next(last, token) {
            return self.fit(last, known, token); // an earlier text begins in the same way
        }
        let whole = self.push(State {
            length: self.at(last).length + 1,
            link: ROOT,
            count: 0,
            followed: 0,
            best: 0,
            best_count: 0,
            fan: Fan::NONE,
        });
        let mut state = last;
        loop {
            if let Some(known) = self.next(state, token) {
                let link = self.fit(state, known, token);
                self.states[whole as usize].link = link;
                return whole;
            }
            self.connect(state, token, whole);
            if state == ROOT {
                return whole;
            }
            state = self.at(state).link;
        }
    }

    /// The state whose longest context is that of `from` followed by `token`, where `known` is what the token leads to.
    fn fit(&mut self, mut from: u32, known: u32, token: u32) -> u32 {
        let length = self.at(from).length + 1;
        if self.at(known).length == length {
            return known;
        }
        // The shorter contexts of `known` now end in one more place: they move to a state of their own.
        let mut split = *self.at(known);
        split.length = length;
        split.fan = self.edges.copy(split.fan);
        let split = self.push(split);
        self.states[known as usize].link = split;
        while self.next(from, token) == Some(known) {
            self.connect(from, token, split);
            if from == ROOT {
                break;
            }
            from = self.at(from).link;
        }
        split
    }
}
