//! Don't Repeat Yourself: how long a repetition each token would continue (oobabooga/text-generation-webui#5677).

use std::collections::HashMap;

/// A repetition longer than this is punished no more, which also keeps `base^n` finite.
pub const LONGEST: usize = 64;

/// For each token that once followed what the tokens now end in: how long that repeated end is, 1 to 64.
///
/// The Z algorithm on the tokens read backwards makes this linear in their number, whatever they are.
pub fn repeats(tokens: &[u32], breakers: &[u32]) -> HashMap<u32, usize> {
    let mut longest = HashMap::new();
    let count = tokens.len();
    let tail = tokens.iter().rev().take(LONGEST).take_while(|token| breakers.binary_search(token).is_err()).count();
    if tail == 0 {
        return longest;
    }
    let backwards = |place: usize| tokens[count - 1 - place];
    // z[i]: how many tokens, read backwards from i before the end, equal those read backwards from the end.
    let mut z = vec![0; count];
    let (mut left, mut right) = (0, 0);
    for i in 1..count {
        let known = if i < right { z[i - left].min(right - i) } else { 0 };
        let mut length = known;
        while i + length < count && backwards(length) == backwards(i + length) {
            length += 1;
        }
        z[i] = length;
        if i + length > right {
            (left, right) = (i, i + length);
        }
        let follower = backwards(i - 1);
        let repeated = length.min(tail);
        if repeated > 0 && breakers.binary_search(&follower).is_err() {
            let best = longest.entry(follower).or_insert(0);
            *best = repeated.max(*best);
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slow(tokens: &[u32], breakers: &[u32]) -> HashMap<u32, usize> {
        let mut longest = HashMap::new();
        for (place, token) in tokens.iter().enumerate() {
            let mut n = 0;
            while n < place.min(LONGEST)
                && tokens[place - 1 - n] == tokens[tokens.len() - 1 - n]
                && !breakers.contains(&tokens[place - 1 - n])
            {
                n += 1;
            }
            if n > 0 && !breakers.contains(token) {
                let best = longest.entry(*token).or_insert(0);
                *best = n.max(*best);
            }
        }
        longest
    }

    #[test]
    fn a_long_repetition_is_capped() {
        assert_eq!(repeats(&[7; 200], &[]), HashMap::from([(7, LONGEST)]));
        assert_eq!(repeats(&[1, 2, 3, 1, 2], &[]), HashMap::from([(3, 2)]));
    }

    proptest! {
        #[test]
        fn z_algorithm_is_the_slow_search(
            tokens in proptest::collection::vec(0u32..3, 0..150),
            breakers in proptest::sample::subsequence(vec![0u32, 1, 2], 0..=2),
        ) {
            prop_assert_eq!(repeats(&tokens, &breakers), slow(&tokens, &breakers));
        }
    }
}
