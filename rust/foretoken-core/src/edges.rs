//! The transitions of an automaton, eight bytes each: one inside its state, more in a block of an arena.

/// No transition at all; ids and block offsets stay below 2^31, so neither can look like it.
const EMPTY: u32 = u32::MAX;
/// Set in `Fan::a` when it is the offset of a block.
const BLOCK: u32 = 1 << 31;
/// Up to this many transitions a block is a plain list, more make it a hash table with linear probing.
const LIST: u32 = 8;

/// The transitions of one state.
///
/// None: `a` is `EMPTY`. One: `a` is its token and `b` its target. More: `a` is `BLOCK` + the offset of a block and `b` their
/// number, from which the size of the block follows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fan {
    a: u32,
    b: u32,
}

impl Fan {
    pub const NONE: Self = Self { a: EMPTY, b: 0 };

    /// As two numbers, for a file.
    pub fn words(self) -> [u32; 2] {
        [self.a, self.b]
    }

    /// From two numbers, right or wrong: see `Edges::check`.
    pub fn from_words([a, b]: [u32; 2]) -> Self {
        Self { a, b }
    }

    fn block(self) -> Option<(usize, u32)> {
        (self.a != EMPTY && self.a & BLOCK != 0).then_some(((self.a & !BLOCK) as usize, self.b))
    }
}

/// The blocks of all states with two transitions or more.
#[derive(Debug, Default)]
pub(crate) struct Edges {
    slots: Vec<(u32, u32)>, // (token, target)
    // Offsets of blocks given up by states that outgrew them, by the logarithm of their size.
    free: [Vec<u32>; 32],
}

impl Edges {
    /// From the slots of a file; what states had given up is not used again.
    pub fn from_slots(slots: Vec<(u32, u32)>) -> Self {
        Self { slots, free: Default::default() }
    }

    pub fn slots(&self) -> &[(u32, u32)] {
        &self.slots
    }

    /// Whether a state may have these transitions: all slots there, used by no other state (`used` has a bit for each), as many
    /// full ones as it says, so that a search ends, and no target outside the states.
    pub fn check(&self, fan: Fan, states: usize, used: &mut [u64]) -> bool {
        let Some((offset, count)) = fan.block() else {
            return fan.a == EMPTY || (fan.b as usize) < states;
        };
        if !(2..=1 << 30).contains(&count) {
            return false;
        }
        let size = capacity(count);
        let Some(block) = self.slots.get(offset..offset + size) else { return false };
        for slot in offset..offset + size {
            let (word, bit) = (&mut used[slot / 64], 1 << (slot % 64));
            if *word & bit != 0 {
                return false;
            }
            *word |= bit;
        }
        let full = |slot: &&(u32, u32)| slot.0 != EMPTY;
        let (front, back) = block.split_at(if count <= LIST { count as usize } else { size });
        front.iter().filter(full).count() == count as usize
            && back.iter().filter(full).count() == 0
            && block.iter().filter(full).all(|slot| slot.0 < BLOCK && (slot.1 as usize) < states)
    }

    /// Where `token` leads from a state.
    pub fn get(&self, fan: Fan, token: u32) -> Option<u32> {
        let Some((offset, count)) = fan.block() else {
            return (fan.a == token).then_some(fan.b);
        };
        if count <= LIST {
            let list = &self.slots[offset..offset + count as usize];
            return list.iter().find(|slot| slot.0 == token).map(|slot| slot.1);
        }
        let block = &self.slots[offset..offset + capacity(count)];
        let (found, target) = block[probe(block, token)];
        (found == token).then_some(target)
    }

    /// Makes `token` lead from a state to `target`.
    pub fn set(&mut self, fan: Fan, token: u32, target: u32) -> Fan {
        let Some((offset, count)) = fan.block() else {
            if fan.a == EMPTY || fan.a == token {
                return Fan { a: token, b: target };
            }
            let block = self.take(2);
            self.slots[block] = (fan.a, fan.b);
            self.slots[block + 1] = (token, target);
            return Fan { a: BLOCK | block as u32, b: 2 };
        };
        let size = capacity(count);
        let block = &mut self.slots[offset..offset + size];
        let place = if count <= LIST {
            block[..count as usize].iter().position(|slot| slot.0 == token)
        } else {
            Some(probe(block, token)).filter(|&place| block[place].0 == token)
        };
        if let Some(place) = place {
            block[place].1 = target;
            return fan;
        }
        let grown = capacity(count + 1);
        let home = if grown == size { offset } else { self.outgrow(offset, count, grown) };
        let place = if count < LIST { count as usize } else { probe(&self.slots[home..home + grown], token) };
        self.slots[home + place] = (token, target);
        Fan { a: BLOCK | home as u32, b: count + 1 }
    }

    /// The same transitions again, for a copy of a state.
    pub fn copy(&mut self, fan: Fan) -> Fan {
        let Some((offset, count)) = fan.block() else {
            return fan;
        };
        let size = capacity(count);
        let home = self.take(size);
        self.slots.copy_within(offset..offset + size, home);
        Fan { a: BLOCK | home as u32, b: count }
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        let free: usize = self.free.iter().map(Vec::capacity).sum();
        self.slots.capacity() * size_of::<(u32, u32)>() + free * size_of::<u32>()
    }

    /// Moves a full block into a larger one.
    fn outgrow(&mut self, offset: usize, count: u32, grown: usize) -> usize {
        let size = capacity(count);
        let home = self.take(grown);
        for from in offset..offset + size {
            let slot = self.slots[from];
            if slot.0 != EMPTY {
                let place = if count < LIST { from - offset } else { probe(&self.slots[home..home + grown], slot.0) };
                self.slots[home + place] = slot;
            }
        }
        self.free[size.ilog2() as usize].push(offset as u32);
        home
    }

    /// The offset of an empty block.
    fn take(&mut self, size: usize) -> usize {
        if let Some(offset) = self.free[size.ilog2() as usize].pop() {
            let offset = offset as usize;
            self.slots[offset..offset + size].fill((EMPTY, 0));
            return offset;
        }
        let offset = self.slots.len();
        assert!(offset + size < BLOCK as usize, "more than 2^31 transitions in one automaton");
        reserve(&mut self.slots, size);
        self.slots.resize(offset + size, (EMPTY, 0));
        offset
    }
}

/// Room for `more`, growing by an eighth: doubling would leave up to half of a corpus' memory unused.
pub(crate) fn reserve<T>(list: &mut Vec<T>, more: usize) {
    if list.capacity() - list.len() < more {
        list.reserve_exact(more.max(list.len() / 8));
    }
}

/// The size of a block with `count` transitions; a table is never more than three quarters full.
fn capacity(count: u32) -> usize {
    let slots = if count <= LIST { count } else { count + count / 3 + 1 };
    slots.next_power_of_two() as usize
}

/// The place of `token` in a table, or the empty place where it would go.
fn probe(block: &[(u32, u32)], token: u32) -> usize {
    let mask = block.len() - 1;
    // Fibonacci hashing: the ids of a vocabulary spread evenly, and which ones collide hardly matters below 2^18 of them.
    let mut place = (token.wrapping_mul(0x9E37_79B9) >> (32 - block.len().ilog2())) as usize;
    while block[place].0 != token && block[place].0 != EMPTY {
        place = (place + 1) & mask;
    }
    place
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_state_of_any_degree_keeps_its_transitions() {
        let mut edges = Edges::default();
        let mut fans = [Fan::NONE; 3];
        let mut expected: [HashMap<u32, u32>; 3] = Default::default();
        for step in 0..3000_u32 {
            let which = (step % 3) as usize;
            let token = step.wrapping_mul(2_654_435_761) >> (12 + 7 * which);
            fans[which] = edges.set(fans[which], token, step);
            expected[which].insert(token, step);
            assert_eq!(edges.get(fans[which], token), Some(step));
        }
        for (fan, expected) in fans.iter().zip(&expected) {
            let copied = edges.copy(*fan);
            for (&token, &target) in expected {
                assert_eq!(edges.get(*fan, token), Some(target));
                assert_eq!(edges.get(copied, token), Some(target));
            }
            assert_eq!(edges.get(*fan, 1 << 30), None);
        }
        assert_eq!(edges.get(Fan::NONE, 0), None);
    }
}
