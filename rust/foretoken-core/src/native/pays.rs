//! Whether helpers pay, measured as forwards happen: on a busy machine two threads that wait for each other are slower
//! than one. Only speed depends on it.

const ALONE: usize = 0;
const TOGETHER: usize = 1;
/// Sizes of forwards are told apart by powers of two.
const SIZES: usize = 16;
/// Forwards after which the other way is tried again; twice as many each time it was no better.
const FIRST_REST: u32 = 16;
const LONGEST_REST: u32 = 256;

/// What forwards of one size take, alone and together.
#[derive(Debug, Clone, Copy)]
struct Size {
    seconds: [Option<f64>; 2],
    rest: u32,
    left: u32,
}

/// What forwards of all sizes take.
#[derive(Debug)]
pub(crate) struct Pays([Size; SIZES]);

impl Default for Pays {
    fn default() -> Self {
        Self([Size { seconds: [None; 2], rest: FIRST_REST, left: FIRST_REST }; SIZES])
    }
}

impl Pays {
    fn size(&mut self, units: usize) -> &mut Size {
        &mut self.0[(units.max(1).ilog2() as usize).min(SIZES - 1)]
    }

    /// Whether the next forward over so many units is to be done together.
    pub fn choose(&mut self, units: usize) -> bool {
        let size = self.size(units);
        let better = match size.seconds {
            [_, None] => return true,
            [None, _] => return false,
            [Some(alone), Some(together)] => together < alone,
        };
        size.left -= 1;
        if size.left > 0 {
            return better;
        }
        size.rest = (2 * size.rest).min(LONGEST_REST);
        size.left = size.rest;
        !better
    }

    /// Learns what a forward took; a hiccup counts at most double.
    pub fn note(&mut self, units: usize, together: bool, seconds: f64) {
        let (size, seconds) = (self.size(units), seconds / units as f64);
        let before = size.better();
        let known = &mut size.seconds[if together { TOGETHER } else { ALONE }];
        // A quick forward tells more than a slow one, which somebody else may have held up.
        let weight = if known.is_some_and(|known| seconds < known) { 0.7 } else { 0.3 };
        *known = Some(known.map_or(seconds, |known| known + weight * (seconds.min(2.0 * known) - known)));
        if size.better() != before {
            (size.rest, size.left) = (FIRST_REST, FIRST_REST);
        }
    }
}

impl Size {
    fn better(&self) -> bool {
        self.seconds[TOGETHER].unwrap_or(0.0) < self.seconds[ALONE].unwrap_or(f64::INFINITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often of 1000 forwards helpers were asked, where both ways take so long.
    fn asked(pays: &mut Pays, alone: f64, together: f64) -> usize {
        let mut count = 0;
        for _ in 0..1000 {
            let chosen = pays.choose(3);
            count += usize::from(chosen);
            pays.note(3, chosen, if chosen { together } else { alone });
        }
        count
    }

    #[test]
    fn the_faster_way_is_taken_nearly_always_and_a_change_is_noticed() {
        let mut pays = Pays::default();
        assert!(asked(&mut pays, 2.0, 1.0) > 980);
        assert!(asked(&mut pays, 1.0, 50.0) < 100);
        assert!(asked(&mut pays, 1.0, 50.0) < 20);
        let _ = asked(&mut pays, 2.0, 1.0);
        let _ = asked(&mut pays, 2.0, 1.0);
        assert!(asked(&mut pays, 2.0, 1.0) > 900);
    }
}
